//! Pages as bytes that outlive a process: magic, key, length, the pages as they are in memory, sha256 of all of that.
//!
//! A file may come from anywhere. Everything in it is compared with what is expected, nothing is taken from it but the pages, and those
//! are right only when [`Reader::finish`] has found the sum right. That tells a damaged or a wrong file, not one that was made to
//! deceive: whoever can write to it can change answers, as whoever can write to the model's file.

use std::io::{self, ErrorKind, Read, Write};

use sha2::{Digest, Sha256};

/// With the version of this format.
const MAGIC: [u8; 8] = *b"BNPAGES1";
const HEAD: usize = MAGIC.len() + size_of::<Key>() + size_of::<u64>();
const SUM: usize = 32;

/// Stands for all that pages depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key([u8; 32]);

/// Why pages cannot be taken from a file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("it holds no pages, or those of another version of this program")]
    Kind,
    #[error("it is for another prompt, model, chat template or version of this program")]
    Key,
    #[error("it has {found} bytes instead of {expected}")]
    Length { expected: u64, found: u64 },
    #[error("it is damaged: its checksum is wrong")]
    Sum,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Key {
    /// Of these parts, in this order.
    pub(crate) fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut sum = Sha256::new();
        for part in parts {
            // So that no two lists of parts look alike.
            sum.update((part.len() as u64).to_le_bytes());
            sum.update(part);
        }
        Self(sum.finalize().into())
    }

    /// A few digits of it, for the name of a file.
    pub(crate) fn short(&self) -> String {
        let [a, b, c, d, ..] = self.0;
        format!("{:08x}", u32::from_be_bytes([a, b, c, d]))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Writes pages one after the other.
pub(crate) struct Writer<W> {
    to: W,
    sum: Sha256,
}

impl<W: Write> Writer<W> {
    /// Begins; `payload` is how many bytes the pages have together.
    pub(crate) fn new(to: W, key: &Key, payload: u64) -> io::Result<Self> {
        let mut writer = Self { to, sum: Sha256::new() };
        writer.page(&head(key, payload))?;
        Ok(writer)
    }

    /// Appends the next page.
    pub(crate) fn page(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.to.write_all(bytes)
    }

    /// Ends after the last page.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.to.write_all(&self.sum.finalize())?;
        Ok(self.to)
    }
}

/// Reads pages one after the other.
pub(crate) struct Reader<R> {
    from: R,
    sum: Sha256,
}

impl<R: Read> Reader<R> {
    /// Begins with what has `found` bytes; the pages have to be those of this key, `payload` bytes together.
    pub(crate) fn new(mut from: R, found: u64, key: &Key, payload: u64) -> Result<Self, Unusable> {
        let mut head = [0; HEAD];
        match from.read_exact(&mut head) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(Unusable::Kind),
            read => read?,
        }
        let expected = self::head(key, payload);
        let differs = |end: usize| head[..end] != expected[..end];
        if differs(MAGIC.len()) {
            return Err(Unusable::Kind);
        }
        if differs(HEAD) {
            return Err(Unusable::Key);
        }
        let expected = (HEAD + SUM) as u64 + payload;
        if found != expected {
            return Err(Unusable::Length { expected, found });
        }
        Ok(Self { from, sum: Sha256::new_with_prefix(head) })
    }

    /// Fills a page. Whether what is there now may be used is not known before the end.
    pub(crate) fn page(&mut self, bytes: &mut [u8]) -> Result<(), Unusable> {
        self.from.read_exact(bytes)?;
        self.sum.update(&*bytes);
        Ok(())
    }

    /// Ends after the last page: without an error all pages are as they were written.
    pub(crate) fn finish(mut self) -> Result<(), Unusable> {
        let mut sum = [0; SUM];
        self.from.read_exact(&mut sum)?;
        if sum == *self.sum.finalize() { Ok(()) } else { Err(Unusable::Sum) }
    }
}

fn head(key: &Key, payload: u64) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    let (magic, rest) = head.split_at_mut(MAGIC.len());
    let (place, length) = rest.split_at_mut(key.0.len());
    magic.copy_from_slice(&MAGIC);
    place.copy_from_slice(&key.0);
    length.copy_from_slice(&payload.to_le_bytes());
    head
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGE: usize = 40;

    fn key() -> Key {
        Key::of([&b"model"[..], b"tokens"])
    }

    fn written(pages: &[[u8; PAGE]]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), &key(), (pages.len() * PAGE) as u64).unwrap();
        for page in pages {
            writer.page(page).unwrap();
        }
        writer.finish().unwrap()
    }

    fn read(bytes: &[u8], key: &Key, pages: usize) -> Result<Vec<[u8; PAGE]>, Unusable> {
        let mut reader = Reader::new(bytes, bytes.len() as u64, key, (pages * PAGE) as u64)?;
        let mut read = vec![[0; PAGE]; pages];
        read.iter_mut().try_for_each(|page| reader.page(page))?;
        reader.finish()?;
        Ok(read)
    }

    #[test]
    fn what_was_written_is_read() {
        for pages in [&[][..], &[[7; PAGE]], &[[1; PAGE], [2; PAGE], [3; PAGE]]] {
            assert_eq!(read(&written(pages), &key(), pages.len()).unwrap(), pages);
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told() {
        let file = written(&[[1; PAGE], [2; PAGE]]);
        let other = Key::of([&b"modelt"[..], b"okens"]);
        assert!(matches!(read(&file, &other, 2), Err(Unusable::Key)));
        assert!(matches!(read(&file, &key(), 3), Err(Unusable::Key)));
        assert!(matches!(read(b"GGUF", &key(), 2), Err(Unusable::Kind)));
        assert!(matches!(read(&[0; 1_000], &key(), 2), Err(Unusable::Kind)));
        let cut = read(&file[..file.len() - 1], &key(), 2).unwrap_err().to_string();
        assert_eq!(cut, "it has 159 bytes instead of 160");
        let mut damaged = file;
        damaged[100] ^= 1;
        assert!(matches!(read(&damaged, &key(), 2), Err(Unusable::Sum)));
    }

    #[test]
    fn a_file_that_shrinks_while_it_is_read_is_an_error() {
        let file = written(&[[1; PAGE], [2; PAGE]]);
        let mut reader = Reader::new(&file[..100], file.len() as u64, &key(), 2 * PAGE as u64).unwrap();
        reader.page(&mut [0; PAGE]).unwrap();
        assert!(matches!(reader.page(&mut [0; PAGE]), Err(Unusable::Io(_))));
    }

    proptest! {
        /// Whatever is changed, cut off or added: never other pages than those that were written, and never a panic.
        #[test]
        fn a_file_that_was_changed_is_not_used(
            flips in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 0..4),
            cut in prop::option::of(any::<prop::sample::Index>()),
            more in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let pages = [[1; PAGE], [2; PAGE]];
            let file = written(&pages);
            let mut changed = file.clone();
            for (index, flip) in flips {
                let index = index.index(changed.len());
                changed[index] ^= flip;
            }
            if let Some(cut) = cut {
                changed.truncate(cut.index(file.len()));
            }
            changed.extend(more);
            match read(&changed, &key(), 2) {
                Ok(read) => prop_assert!(changed == file && read == pages),
                Err(_) => prop_assert!(changed != file),
            }
        }

        #[test]
        fn any_bytes_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300), pages in 0..6_usize) {
            prop_assert!(read(&bytes, &key(), pages).is_err());
        }
    }
}
