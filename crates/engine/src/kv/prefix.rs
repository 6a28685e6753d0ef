//! Which tokens the pages stand for: a tree in which each page follows the one before it in some sequence.
//!
//! Tokens are compared themselves, not hashes of them: a prompt that is taken for another would be answered wrongly.

use super::table::Scope;
use crate::kernels::PageId;

/// For each page its place in the tree.
#[derive(Debug)]
pub(super) struct Prefixes {
    nodes: Vec<Node>,
    /// First pages of sequences, of all scopes.
    roots: Vec<PageId>,
}

#[derive(Debug, Default)]
struct Node {
    place: Place,
    /// Those whose keys and values are in the page.
    tokens: Vec<u32>,
    /// Pages that follow it, of all scopes.
    children: Vec<PageId>,
    /// When it was last let go, on a clock that ticks with each such event.
    used_at: u64,
}

/// Where a page is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Place {
    /// Not in the tree: nobody can find it.
    #[default]
    Apart,
    /// The first of a sequence.
    First(Scope),
    /// A common page may be followed by pages of several scopes, which are not for each other.
    After(PageId, Scope),
}

impl Place {
    fn scope(self) -> Option<Scope> {
        match self {
            Self::Apart => None,
            Self::First(scope) | Self::After(_, scope) => Some(scope),
        }
    }
}

/// What was found to go on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    /// A full page with just these tokens.
    Whole(PageId),
    /// A page of which the first so many tokens are the same.
    Part(PageId, usize),
}

impl Prefixes {
    pub(super) fn new(pages: usize) -> Self {
        Self { nodes: (0..pages).map(|_| Node::default()).collect(), roots: Vec::new() }
    }

    /// The place behind the last of these pages, or at the beginning of a sequence.
    pub(super) fn place_after(scope: Option<Scope>, pages: &[PageId]) -> Place {
        match (scope, pages.last()) {
            (None, _) => Place::Apart,
            (Some(scope), None) => Place::First(scope),
            (Some(scope), Some(&page)) => Place::After(page, scope),
        }
    }

    /// What holds most of `tokens` at a place; pages hold `length` tokens when full.
    pub(super) fn find(&self, place: Place, tokens: &[u32], length: usize) -> Option<Match> {
        let mut best = None;
        for page in self.at(place) {
            let held = &self.node(page).tokens;
            let common = held.iter().zip(tokens).take_while(|(held, token)| held == token).count();
            if common == length {
                return Some(Match::Whole(page));
            }
            if common > best.map_or(0, |(_, most)| most) {
                best = Some((page, common));
            }
        }
        best.map(|(page, common)| Match::Part(page, common))
    }

    /// A full page at the place of `page` that holds the same tokens.
    pub(super) fn twin(&self, page: PageId) -> Option<PageId> {
        let tokens = &self.node(page).tokens;
        let same = |&other: &PageId| other != page && self.node(other).tokens == *tokens;
        self.at(self.node(page).place).find(same)
    }

    /// Puts a page into the tree, or apart.
    pub(super) fn insert(&mut self, page: PageId, place: Place) {
        debug_assert!(self.node(page).tokens.is_empty() && self.node(page).children.is_empty());
        self.node_mut(page).place = place;
        match place {
            Place::Apart => {}
            Place::First(_) => self.roots.push(page),
            Place::After(before, _) => self.node_mut(before).children.push(page),
        }
    }

    /// Takes a page without followers out of the tree and forgets what it holds.
    pub(super) fn remove(&mut self, page: PageId) {
        debug_assert!(self.node(page).children.is_empty());
        self.node_mut(page).tokens.clear();
        match std::mem::take(&mut self.node_mut(page).place) {
            Place::Apart => {}
            Place::First(_) => self.roots.retain(|&other| other != page),
            Place::After(before, _) => self.node_mut(before).children.retain(|&other| other != page),
        }
    }

    /// Has the pages that follow `from` follow `to`.
    pub(super) fn move_children(&mut self, from: PageId, to: PageId) {
        for page in std::mem::take(&mut self.node_mut(from).children) {
            if let Place::After(before, _) = &mut self.node_mut(page).place {
                *before = to;
            }
            self.node_mut(to).children.push(page);
        }
    }

    pub(super) fn tokens(&self, page: PageId) -> &[u32] {
        &self.node(page).tokens
    }

    /// More of the page is stored.
    pub(super) fn extend(&mut self, page: PageId, tokens: &[u32]) {
        self.node_mut(page).tokens.extend_from_slice(tokens);
    }

    pub(super) fn place(&self, page: PageId) -> Place {
        self.node(page).place
    }

    pub(super) fn is_leaf(&self, page: PageId) -> bool {
        self.node(page).children.is_empty()
    }

    pub(super) fn set_used_at(&mut self, page: PageId, time: u64) {
        self.node_mut(page).used_at = time;
    }

    pub(super) fn used_at(&self, page: PageId) -> u64 {
        self.node(page).used_at
    }

    /// The pages at a place that its scope may use.
    fn at(&self, place: Place) -> impl Iterator<Item = PageId> {
        let pages = match place {
            Place::Apart => &[],
            Place::First(_) => self.roots.as_slice(),
            Place::After(page, _) => &self.node(page).children,
        };
        let scopes = [place.scope(), Some(Scope::COMMON)];
        pages.iter().copied().filter(move |&page| scopes.contains(&self.node(page).place.scope()))
    }

    fn node(&self, page: PageId) -> &Node {
        &self.nodes[page as usize]
    }

    fn node_mut(&mut self, page: PageId) -> &mut Node {
        &mut self.nodes[page as usize]
    }
}
