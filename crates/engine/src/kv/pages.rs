//! The pool of pages: how many sequences use each, and which are free.

use crate::kernels::PageId;

/// Reference counts and the pages that nobody uses and nothing is stored in.
#[derive(Debug)]
pub(super) struct Pages {
    users: Vec<u32>,
    /// The next one to take is last: low numbers first, so that memory is touched only as far as it is needed.
    free: Vec<PageId>,
}

impl Pages {
    pub(super) fn new(count: usize) -> Self {
        Self { users: vec![0; count], free: (0..count as PageId).rev().collect() }
    }

    pub(super) fn count(&self) -> usize {
        self.users.len()
    }

    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    /// A page that is free, for one user.
    pub(super) fn take(&mut self) -> Option<PageId> {
        let page = self.free.pop()?;
        self.users[page as usize] = 1;
        Some(page)
    }

    pub(super) fn retain(&mut self, page: PageId) {
        self.users[page as usize] += 1;
    }

    /// One user fewer; returns how many are left.
    pub(super) fn release(&mut self, page: PageId) -> u32 {
        let users = &mut self.users[page as usize];
        *users -= 1;
        *users
    }

    /// Nobody uses it, and nothing that is stored in it is to be kept.
    pub(super) fn give_back(&mut self, page: PageId) {
        debug_assert_eq!(self.users[page as usize], 0);
        self.free.push(page);
    }

    pub(super) fn users(&self, page: PageId) -> u32 {
        self.users[page as usize]
    }

    /// Pages that somebody uses, and those of them that several use.
    pub(super) fn in_use(&self) -> (usize, usize) {
        let used_by = |least: u32| self.users.iter().filter(|&&users| users >= least).count();
        (used_by(1), used_by(2))
    }
}
