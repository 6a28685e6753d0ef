//! Where the rows of a forward pass stand: their positions, and the pages of the cache that hold their sequences.

use std::ops::Range;

use super::page::BLOCK;

/// A page of the cache. Which sequence it belongs to is none of the kernels' business.
pub(crate) type PageId = u32;

/// The rows of a forward pass. Made anew for each, in memory that is kept.
#[derive(Debug, Default)]
pub(crate) struct Places {
    rows: Vec<Place>,
    /// The pages of the first sequence, then those of the second, and so on: each from position 0 on.
    pages: Vec<PageId>,
    /// Pages into which rows are stored.
    written: Vec<PageId>,
}

/// Where a row stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Where in [`Places::pages`] those of its sequence begin.
    pub(super) table: usize,
    /// Position in the sequence, from 0.
    pub(super) position: usize,
}

impl Places {
    /// With room for so many rows whose sequences have so many pages together.
    #[must_use]
    pub(crate) fn with_capacity(rows: usize, pages: usize) -> Self {
        Self {
            rows: Vec::with_capacity(rows),
            pages: Vec::with_capacity(pages),
            written: Vec::with_capacity(pages),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.rows.clear();
        self.pages.clear();
        self.written.clear();
    }

    /// Adds a row for each of these positions of a sequence; `pages` are those of the sequence from position 0 on.
    ///
    /// # Panics
    /// When the last position is in none of the pages, or a page that is written to was added before: rows are stored in parallel.
    pub(crate) fn push(&mut self, positions: Range<usize>, pages: impl IntoIterator<Item = PageId>) {
        let table = self.pages.len();
        self.pages.extend(pages.into_iter().take(positions.end.div_ceil(BLOCK)));
        assert!((self.pages.len() - table) * BLOCK >= positions.end, "pages up to {}", positions.end);
        for block in positions.start / BLOCK..positions.end.div_ceil(BLOCK) {
            let page = self.pages[table + block];
            assert!(!self.written.contains(&page), "page {page} is written twice");
            self.written.push(page);
        }
        self.rows.extend(positions.map(|position| Place { table, position }));
    }

    #[must_use]
    pub(crate) fn rows(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn get(&self) -> &[Place] {
        &self.rows
    }

    /// The page of a block of the positions of a row's sequence.
    #[inline(always)]
    pub(super) fn page(&self, place: Place, block: usize) -> PageId {
        self.pages[place.table + block]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "page 7 is written twice")]
    fn two_sequences_cannot_write_to_one_page() {
        let mut places = Places::default();
        places.push(128..130, [5, 7]);
        places.push(0..1, [7]);
    }

    #[test]
    fn sequences_may_share_what_they_only_read() {
        let mut places = Places::default();
        places.push(128..130, [5, 7]);
        places.push(130..131, [5, 8, 9]);
        assert_eq!(places.rows(), 3);
        assert_eq!(places.page(places.get()[2], 1), 8);
    }
}
