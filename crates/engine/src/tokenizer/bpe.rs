//! Byte-pair encoding of one word: of all neighbours that a merge joins, those of the most important merge are joined first,
//! from left to right, until no merge applies.
//!
//! Written here, and not taken from a library, for what a single word of four million letters costs: 28 bytes for each of its
//! bytes, and looks at whether anybody still waits.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::vocabulary::TokenKind;
use super::{TokenizerError, Vocabulary, byte_level};

/// Joined pairs between two looks at whether anybody still waits.
const LOOK: usize = 1 << 16;

/// What is joined into what, by token ids.
#[derive(Debug)]
pub(super) struct BytePairs {
    bytes: [u32; 256],
    merges: HashMap<(u32, u32), Merge>,
    /// Words that are tokens, by their bytes, if such a word is taken whole whatever the merges make of it.
    words: HashMap<Box<[u8]>, u32>,
}

#[derive(Clone, Copy, Debug)]
struct Merge {
    /// The lower, the more important.
    rank: u32,
    joined: u32,
}

/// A token of the word so far; those that are joined to the one before are dead.
#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    previous: u32,
    next: u32,
}

const DEAD: u32 = u32::MAX;
/// Beyond either end of a word.
const NOWHERE: u32 = u32::MAX;

impl BytePairs {
    /// Over the ordinary tokens: what is not among them cannot come out. `bytes` are those of all tokens.
    pub(super) fn new(
        vocabulary: &Vocabulary,
        kinds: &[TokenKind],
        bytes: &[Box<[u8]>],
        whole_words: bool,
    ) -> Result<Self, TokenizerError> {
        let mut ids = vocabulary.ids(kinds)?;
        ids.retain(|_, id| kinds.get(*id as usize) == Some(&TokenKind::Ordinary));
        let mut buffer = [0; 4];
        let mut of_bytes = [0; 256];
        for (byte, id) in (0..=u8::MAX).zip(&mut of_bytes) {
            let text = &*byte_level::character(byte).encode_utf8(&mut buffer);
            *id = *ids.get(text).ok_or(TokenizerError::MissingByte(byte))?;
        }
        let mut merges = HashMap::with_capacity(vocabulary.merges.len());
        let mut text = String::new();
        for (index, merge) in vocabulary.merges.iter().enumerate() {
            let joined = merge.split_once(' ').and_then(|(left, right)| {
                text.clear();
                text.extend([left, right]);
                Some((*ids.get(left)?, *ids.get(right)?, *ids.get(text.as_str())?))
            });
            let (left, right, joined) =
                joined.ok_or_else(|| TokenizerError::Merge { index, merge: merge.clone() })?;
            merges.insert((left, right), Merge { rank: index as u32, joined });
        }
        let words = ids.values().filter(|_| whole_words);
        let words = words.filter_map(|&id| Some((bytes.get(id as usize)?.clone(), id))).collect();
        Ok(Self { bytes: of_bytes, merges, words })
    }

    /// Appends the tokens of a word.
    pub(super) fn encode(
        &self,
        word: &[u8],
        ids: &mut Vec<u32>,
        wanted: &dyn Fn() -> bool,
    ) -> Result<(), TokenizerError> {
        if let Some(&id) = self.words.get(word) {
            ids.push(id);
            return Ok(());
        }
        if word.len() >= DEAD as usize {
            return Err(TokenizerError::TooLong);
        }
        let last = word.len().saturating_sub(1) as u32;
        let mut symbols: Vec<Symbol> = word
            .iter()
            .zip(0..)
            .map(|(&byte, place)| Symbol {
                id: self.bytes[usize::from(byte)],
                previous: if place == 0 { NOWHERE } else { place - 1 },
                next: if place == last { NOWHERE } else { place + 1 },
            })
            .collect();
        // Rank and place of the left one, packed so that the heap stays small.
        let mut queue: BinaryHeap<Reverse<u64>> =
            (0..symbols.len() as u32).filter_map(|place| self.waiting(&symbols, place)).collect();
        let mut joined = 0_usize;
        while let Some(Reverse(entry)) = queue.pop() {
            let (rank, place) = ((entry >> 32) as u32, entry as u32);
            // Its neighbours may have changed since.
            let Some((merge, next)) = self.merge_at(&symbols, place) else { continue };
            if merge.rank != rank {
                continue;
            }
            joined += 1;
            if joined.is_multiple_of(LOOK) && !wanted() {
                return Err(TokenizerError::Abandoned);
            }
            let after = symbols[next as usize].next;
            symbols[next as usize].id = DEAD;
            symbols[place as usize].id = merge.joined;
            symbols[place as usize].next = after;
            if after != NOWHERE {
                symbols[after as usize].previous = place;
            }
            queue.extend(self.waiting(&symbols, place));
            let previous = symbols[place as usize].previous;
            if previous != NOWHERE {
                queue.extend(self.waiting(&symbols, previous));
            }
        }
        ids.extend(symbols.iter().map(|symbol| symbol.id).filter(|id| *id != DEAD));
        Ok(())
    }

    /// The merge of a symbol and the next one, and where that is.
    fn merge_at(&self, symbols: &[Symbol], place: u32) -> Option<(Merge, u32)> {
        let symbol = symbols[place as usize];
        if symbol.id == DEAD || symbol.next == NOWHERE {
            return None;
        }
        let next = symbols[symbol.next as usize].id;
        self.merges.get(&(symbol.id, next)).map(|merge| (*merge, symbol.next))
    }

    fn waiting(&self, symbols: &[Symbol], place: u32) -> Option<Reverse<u64>> {
        let (merge, _) = self.merge_at(symbols, place)?;
        Some(Reverse(u64::from(merge.rank) << 32 | u64::from(place)))
    }
}
