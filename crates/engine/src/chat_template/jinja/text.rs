//! Text that knows who wrote it, byte by byte: the template, or a message. Whatever a template does with the text of a message,
//! cut, joined, in another case or one character at a time, it stays text of a message.

use std::ops::Range;
use std::sync::Arc;

use super::Failure;
use super::meter::Meter;

/// Who wrote a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Author {
    Template,
    Message,
}

/// Immutable, cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    text: Arc<str>,
    authors: Authors,
}

#[derive(Clone, Debug)]
enum Authors {
    One(Author),
    /// Each end of a run, with who wrote that run.
    Several(Arc<[(usize, Author)]>),
}

/// What a text takes beside its bytes.
const OVERHEAD: usize = 64;

impl Text {
    /// Text that is in memory already.
    pub(crate) fn new(text: Arc<str>, author: Author) -> Self {
        Self { text, authors: Authors::One(author) }
    }

    pub(crate) fn copy(text: &str, author: Author, meter: &Meter) -> Result<Self, Failure> {
        meter.make(text.len() + OVERHEAD)?;
        Ok(Self::new(text.into(), author))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The runs with one author each, in order, none of them empty.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (&str, Author)> {
        self.runs_in(0..self.text.len())
    }

    fn runs_in(&self, range: Range<usize>) -> impl Iterator<Item = (&str, Author)> {
        let one = match &self.authors {
            Authors::One(author) => Some((self.text.len(), *author)),
            Authors::Several(_) => None,
        };
        let several: &[(usize, Author)] = match &self.authors {
            Authors::One(_) => &[],
            Authors::Several(runs) => &runs[runs.partition_point(|(end, _)| *end <= range.start)..],
        };
        let mut start = range.start;
        one.into_iter().chain(several.iter().copied()).map_while(move |(end, author)| {
            let run = start..end.min(range.end);
            start = run.end;
            (!run.is_empty()).then(|| (&self.text[run], author))
        })
    }

    /// The bytes in `range`, which begins and ends between characters.
    pub(crate) fn slice(&self, range: Range<usize>, meter: &Meter) -> Result<Self, Failure> {
        if range == (0..self.text.len()) {
            return Ok(self.clone());
        }
        let mut slice = TextBuilder::default();
        slice.push_slice(self, range, meter)?;
        slice.finish(meter)
    }

    /// Every run with other characters in its place.
    pub(crate) fn map(&self, change: impl Fn(&str) -> String, meter: &Meter) -> Result<Self, Failure> {
        let mut changed = TextBuilder::default();
        for (run, author) in self.runs() {
            // No change of case takes more.
            meter.make(3 * run.len())?;
            changed.push(&change(run), author, meter)?;
        }
        changed.finish(meter)
    }
}

/// Text that grows at its end.
#[derive(Debug, Default)]
pub(crate) struct TextBuilder {
    text: String,
    runs: Vec<(usize, Author)>,
}

impl TextBuilder {
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    pub(crate) fn push(&mut self, text: &str, author: Author, meter: &Meter) -> Result<(), Failure> {
        if text.is_empty() {
            return Ok(());
        }
        meter.make(text.len())?;
        self.text.push_str(text);
        match self.runs.last_mut() {
            Some((end, last)) if *last == author => *end = self.text.len(),
            _ => {
                meter.make(size_of::<(usize, Author)>())?;
                self.runs.push((self.text.len(), author));
            }
        }
        Ok(())
    }

    pub(crate) fn push_text(&mut self, text: &Text, meter: &Meter) -> Result<(), Failure> {
        text.runs().try_for_each(|(run, author)| self.push(run, author, meter))
    }

    pub(crate) fn push_slice(
        &mut self,
        text: &Text,
        range: Range<usize>,
        meter: &Meter,
    ) -> Result<(), Failure> {
        text.runs_in(range).try_for_each(|(run, author)| self.push(run, author, meter))
    }

    pub(crate) fn finish(self, meter: &Meter) -> Result<Text, Failure> {
        meter.make(OVERHEAD)?;
        let authors = match self.runs[..] {
            [] => Authors::One(Author::Template),
            [(_, author)] => Authors::One(author),
            _ => Authors::Several(self.runs.into()),
        };
        Ok(Text { text: self.text.into(), authors })
    }
}
