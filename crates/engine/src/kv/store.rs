//! From tokens of a sequence to pages that hold them already, or that it may write.

use super::pages::Pages;
use super::prefix::{Match, Place, Prefixes};
use super::table::{Scope, Table};
use crate::kernels::PageId;

/// See the module.
#[derive(Debug)]
pub(crate) struct Store {
    /// Positions of a page.
    length: usize,
    pages: Pages,
    prefixes: Prefixes,
    /// Pages that nobody uses and that hold something.
    kept: usize,
    /// Pages that are kept for as long as the store lives.
    pinned: Vec<PageId>,
    clock: u64,
}

/// A page whose contents are to be copied before anything is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageCopy {
    pub from: PageId,
    pub to: PageId,
}

/// How many pages there are of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub pages: usize,
    /// That some sequence uses.
    pub used: usize,
    /// That several use.
    pub shared: usize,
    /// That no sequence uses, kept for one that begins alike, for a time or for ever.
    pub kept: usize,
}

impl Store {
    /// Of so many pages, each for `length` positions, with nothing in them.
    pub(crate) fn new(pages: usize, length: usize) -> Self {
        Self {
            length,
            pages: Pages::new(pages),
            prefixes: Prefixes::new(pages),
            kept: 0,
            pinned: Vec::new(),
            clock: 0,
        }
    }

    /// Has pages for tokens that sequences of every scope may begin with, for as long as the store lives; keys and values are for the
    /// caller to put there. `None` when there are not enough.
    pub(crate) fn pin(&mut self, tokens: &[u32]) -> Option<Vec<PageId>> {
        let mut table = Table::new(Some(Scope::COMMON));
        if !self.reserve(&mut table, tokens.len()) {
            self.release(&mut table);
            return None;
        }
        self.append(&mut table, tokens);
        // The table is not released: so its pages are always in use.
        self.pinned.extend_from_slice(&table.pages);
        Some(table.pages)
    }

    /// Pages that a sequence could get now.
    pub(crate) fn available(&self) -> usize {
        self.pages.free() + self.kept
    }

    /// Pages that so many positions need.
    pub(crate) fn pages_for(&self, positions: usize) -> usize {
        positions.div_ceil(self.length)
    }

    /// Positions for which a table has pages.
    pub(crate) fn positions_of(&self, table: &Table) -> usize {
        table.pages.len() * self.length
    }

    /// Pages of a table that nobody else uses.
    pub(crate) fn own(&self, table: &Table) -> usize {
        table.pages.iter().filter(|&&page| self.pages.users(page) == 1).count()
    }

    /// Pages that some sequence uses and a table that has none could use as well, for a sequence that begins with these tokens.
    pub(crate) fn shareable(&self, table: &Table, tokens: &[u32]) -> usize {
        let mut pages: Vec<PageId> = Vec::new();
        for tokens in tokens.chunks_exact(self.length) {
            match self.prefixes.find(Prefixes::place_after(table.scope, &pages), tokens, self.length) {
                Some(Match::Whole(page)) if self.pages.users(page) > 0 => pages.push(page),
                _ => break,
            }
        }
        pages.len()
    }

    pub(crate) fn usage(&self) -> Usage {
        let (mut used, mut shared) = self.pages.in_use();
        let mut kept = self.kept;
        for &page in &self.pinned {
            // Without the use that pins it.
            match self.pages.users(page) {
                1 => (used, kept) = (used - 1, kept + 1),
                2 => shared -= 1,
                _ => {}
            }
        }
        Usage { pages: self.pages.count(), used, shared, kept }
    }

    /// Lets a sequence that is at the end of its pages use those that hold its next `tokens`, whole pages only.
    pub(crate) fn attach(&mut self, table: &mut Table, tokens: &[u32]) {
        while let Some(Match::Whole(page)) = self.find(table, tokens) {
            self.use_page(page);
            table.pages.push(page);
            table.stored += self.length;
        }
    }

    /// The same, and then a page of its own for what is stored of the next one. That has to be copied before anything else is done with
    /// the pages.
    pub(crate) fn attach_all(&mut self, table: &mut Table, tokens: &[u32]) -> Option<PageCopy> {
        self.attach(table, tokens);
        let Some(Match::Part(from, common)) = self.find(table, tokens) else { return None };
        self.copy(table, from, &tokens[table.stored..][..common])
    }

    /// What holds most of the tokens that follow those that are stored. In the middle of a page a sequence writes to one of its own.
    fn find(&self, table: &Table, tokens: &[u32]) -> Option<Match> {
        let at_end = self.positions_of(table) == table.stored;
        let rest = tokens.get(table.stored..).filter(|_| at_end)?;
        self.prefixes.find(Prefixes::place_after(table.scope, &table.pages), rest, self.length)
    }

    /// Has the table own pages for all positions before `end`. False when there are not enough; what it got by then it keeps.
    pub(crate) fn reserve(&mut self, table: &mut Table, end: usize) -> bool {
        while table.pages.len() < self.pages_for(end) {
            let Some(page) = self.take() else { return false };
            self.prefixes.insert(page, Prefixes::place_after(table.scope, &table.pages));
            table.pages.push(page);
        }
        true
    }

    /// Keys and values of these tokens, which follow those that are stored, are in the pages of the table now.
    pub(crate) fn append(&mut self, table: &mut Table, tokens: &[u32]) {
        let mut rest = tokens;
        while !rest.is_empty() {
            let (index, held) = (table.stored / self.length, table.stored % self.length);
            let Some(&page) = table.pages.get(index) else { return };
            let (now, later) = rest.split_at(rest.len().min(self.length - held));
            rest = later;
            table.stored += now.len();
            self.prefixes.extend(page, now);
            if held + now.len() == self.length {
                table.pages[index] = self.without_twin(page);
            }
        }
    }

    /// The sequence needs its pages no more; what is stored in them stays for others, unless they are out of all scopes.
    pub(crate) fn release(&mut self, table: &mut Table) {
        self.clock += 1;
        table.stored = 0;
        // Pages without a follower first.
        for page in std::mem::take(&mut table.pages).into_iter().rev() {
            if self.pages.release(page) > 0 {
                continue;
            }
            if self.prefixes.tokens(page).is_empty() || self.prefixes.place(page) == Place::Apart {
                self.forget(page);
            } else {
                self.prefixes.set_used_at(page, self.clock);
                self.kept += 1;
            }
        }
    }

    /// A page of its own with what `from` and the sequence have in common, if there is a page for it.
    fn copy(&mut self, table: &mut Table, from: PageId, tokens: &[u32]) -> Option<PageCopy> {
        // In use, so that it is not the one that makes room.
        self.use_page(from);
        let to = self.take();
        self.stop_using(from);
        let to = to?;
        self.prefixes.insert(to, Prefixes::place_after(table.scope, &table.pages));
        self.prefixes.extend(to, tokens);
        table.pages.push(to);
        table.stored += tokens.len();
        Some(PageCopy { from, to })
    }

    /// When two sequences have computed the same, one page is enough.
    fn without_twin(&mut self, page: PageId) -> PageId {
        let Some(twin) = self.prefixes.twin(page) else { return page };
        self.use_page(twin);
        self.prefixes.move_children(page, twin);
        if self.pages.release(page) == 0 {
            self.forget(page);
        }
        twin
    }

    fn use_page(&mut self, page: PageId) {
        if self.pages.users(page) == 0 {
            self.kept -= 1;
        }
        self.pages.retain(page);
    }

    /// Undoes [`use_page`](Self::use_page).
    fn stop_using(&mut self, page: PageId) {
        if self.pages.release(page) == 0 {
            self.prefixes.set_used_at(page, self.clock);
            self.kept += 1;
        }
    }

    /// A page with nothing in it, for one user.
    fn take(&mut self) -> Option<PageId> {
        if self.pages.free() == 0 {
            let kept = (0..self.pages.count() as PageId).filter(|&page| self.pages.users(page) == 0);
            let oldest = kept
                .filter(|&page| self.prefixes.is_leaf(page))
                .min_by_key(|&page| self.prefixes.used_at(page))?;
            self.kept -= 1;
            self.forget(oldest);
        }
        self.pages.take()
    }

    /// Nobody uses the page.
    fn forget(&mut self, page: PageId) {
        self.prefixes.remove(page);
        self.pages.give_back(page);
    }
}
