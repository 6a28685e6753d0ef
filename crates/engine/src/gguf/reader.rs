//! Sequential reading of header and metadata, never trusting a length.

use std::io::{self, BufReader, Read};

use super::{Array, GgufError, Metadata, Place, Problem, Source, Value};

/// Metadata and tensor directory end within this many bytes. Real ones take a tenth of it or less; the limit keeps what
/// a huge (perhaps sparse) file can make this program allocate far below its size.
const HEAD_LIMIT: u64 = 1 << 27;
/// Longest key by the GGUF specification.
const KEY_LIMIT: u64 = 65_535;
/// No known file nests arrays at all.
const DEPTH_LIMIT: u32 = 4;

/// Reads a source from its beginning and knows how much of it is left.
pub(super) struct Reader<'a> {
    input: BufReader<Sequential<'a>>,
    position: u64,
}

/// A source as a stream, for `BufReader`.
struct Sequential<'a> {
    source: &'a Source,
    position: u64,
}

impl Read for Sequential<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.source.len().saturating_sub(self.position)).unwrap_or(usize::MAX);
        let count = left.min(out.len());
        self.source.read_at(self.position, &mut out[..count])?;
        self.position += count as u64;
        Ok(count)
    }
}

/// The fixed-size beginning of a file.
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) tensors: u64,
    pub(super) entries: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a Source) -> Self {
        let stream = Sequential { source, position: 0 };
        Self { input: BufReader::with_capacity(64 * 1024, stream), position: 0 }
    }

    /// Offset of the next byte.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Length of the whole source.
    pub(super) fn file_bytes(&self) -> u64 {
        self.input.get_ref().source.len()
    }

    /// Refuses a count of elements that are too many even if each has the least size possible.
    pub(super) fn check_count(&self, count: u64, least_bytes: u64) -> Result<(), Problem> {
        let remaining = self.remaining();
        match count.checked_mul(least_bytes) {
            Some(bytes) if bytes <= remaining => Ok(()),
            _ => Err(Problem::TooMany { count, remaining }),
        }
    }

    pub(super) fn u32(&mut self) -> Result<u32, Problem> {
        self.scalar(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Problem> {
        self.scalar(u64::from_le_bytes)
    }

    pub(super) fn string(&mut self, limit: u64) -> Result<String, Problem> {
        let length = self.u64()?;
        if length > limit {
            return Err(Problem::TooLong { length, limit });
        }
        self.check_remaining(length)?;
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| Problem::NotUtf8)
    }

    pub(super) fn header(&mut self) -> Result<Header, GgufError> {
        if self.file_bytes() < 4 {
            return Err(GgufError::NotGguf(format!("has only {} bytes", self.file_bytes())));
        }
        let in_header = |problem: Problem| problem.at(Place::Header);
        let magic = self.scalar(|magic: [u8; 4]| magic).map_err(in_header)?;
        if magic != *b"GGUF" {
            return Err(GgufError::NotGguf(describe_other(magic)));
        }
        let version = self.u32().map_err(in_header)?;
        match version {
            2 | 3 => {}
            _ if matches!(version.swap_bytes(), 1..=3) => return Err(GgufError::BigEndian),
            _ => return Err(GgufError::Version(version)),
        }
        let tensors = self.u64().map_err(in_header)?;
        let entries = self.u64().map_err(in_header)?;
        Ok(Header { version, tensors, entries })
    }

    pub(super) fn metadata(&mut self, count: u64) -> Result<Metadata, GgufError> {
        // A key's length, a value type and a value of one byte.
        self.check_count(count, 8 + 4 + 1).map_err(|problem| problem.at(Place::Header))?;
        let mut entries = Vec::new();
        for index in 0..count {
            let key = self.string(KEY_LIMIT).map_err(|problem| problem.at(Place::Entry(index)))?;
            match self.value() {
                Ok(value) => entries.push((key, value)),
                Err(problem) => return Err(problem.at(Place::Key(key))),
            }
        }
        Metadata::new(entries)
    }

    fn value(&mut self) -> Result<Value, Problem> {
        Ok(match self.u32()? {
            0 => Value::U8(self.scalar(u8::from_le_bytes)?),
            1 => Value::I8(self.scalar(i8::from_le_bytes)?),
            2 => Value::U16(self.scalar(u16::from_le_bytes)?),
            3 => Value::I16(self.scalar(i16::from_le_bytes)?),
            4 => Value::U32(self.u32()?),
            5 => Value::I32(self.scalar(i32::from_le_bytes)?),
            6 => Value::F32(self.scalar(f32::from_le_bytes)?),
            7 => Value::Bool(self.bool()?),
            8 => Value::String(self.string(u64::MAX)?),
            9 => Value::Array(self.array(1)?),
            10 => Value::U64(self.u64()?),
            11 => Value::I64(self.scalar(i64::from_le_bytes)?),
            12 => Value::F64(self.scalar(f64::from_le_bytes)?),
            other => return Err(Problem::UnknownValueType(other)),
        })
    }

    fn array(&mut self, depth: u32) -> Result<Array, Problem> {
        if depth > DEPTH_LIMIT {
            return Err(Problem::TooDeep(DEPTH_LIMIT));
        }
        let element_type = self.u32()?;
        let count = self.u64()?;
        Ok(match element_type {
            0 => Array::U8(self.scalars(count, u8::from_le_bytes)?),
            1 => Array::I8(self.scalars(count, i8::from_le_bytes)?),
            2 => Array::U16(self.scalars(count, u16::from_le_bytes)?),
            3 => Array::I16(self.scalars(count, i16::from_le_bytes)?),
            4 => Array::U32(self.scalars(count, u32::from_le_bytes)?),
            5 => Array::I32(self.scalars(count, i32::from_le_bytes)?),
            6 => Array::F32(self.scalars(count, f32::from_le_bytes)?),
            7 => Array::Bool(self.sequence(count, 1, Self::bool)?),
            // The length of a string.
            8 => Array::Strings(self.sequence(count, 8, |reader| reader.string(u64::MAX))?),
            // The element type and the count of an array.
            9 => Array::Arrays(self.sequence(count, 4 + 8, |reader| reader.array(depth + 1))?),
            10 => Array::U64(self.scalars(count, u64::from_le_bytes)?),
            11 => Array::I64(self.scalars(count, i64::from_le_bytes)?),
            12 => Array::F64(self.scalars(count, f64::from_le_bytes)?),
            other => return Err(Problem::UnknownValueType(other)),
        })
    }

    fn bool(&mut self) -> Result<bool, Problem> {
        match self.scalar(u8::from_le_bytes)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Problem::InvalidBool(other)),
        }
    }

    fn scalar<T, const N: usize>(&mut self, convert: fn([u8; N]) -> T) -> Result<T, Problem> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(convert(bytes))
    }

    fn scalars<T, const N: usize>(
        &mut self,
        count: u64,
        convert: fn([u8; N]) -> T,
    ) -> Result<Vec<T>, Problem> {
        self.sequence(count, N as u64, |reader| reader.scalar(convert))
    }

    /// `count` elements, each of at least `least_bytes`. The vector grows with what has really been read.
    fn sequence<T>(
        &mut self,
        count: u64,
        least_bytes: u64,
        mut element: impl FnMut(&mut Self) -> Result<T, Problem>,
    ) -> Result<Vec<T>, Problem> {
        self.check_count(count, least_bytes)?;
        (0..count).map(|_| element(self)).collect()
    }

    fn remaining(&self) -> u64 {
        self.file_bytes().min(HEAD_LIMIT).saturating_sub(self.position)
    }

    fn check_remaining(&self, needed: u64) -> Result<(), Problem> {
        let remaining = self.remaining();
        if needed <= remaining {
            Ok(())
        } else {
            Err(Problem::PastEnd { offset: self.position, needed, remaining })
        }
    }

    fn fill(&mut self, out: &mut [u8]) -> Result<(), Problem> {
        self.check_remaining(out.len() as u64)?;
        let offset = self.position;
        self.input.read_exact(out).map_err(|error| Problem::Io { offset, error })?;
        self.position += out.len() as u64;
        Ok(())
    }
}

/// Recognises what people download by mistake.
fn describe_other(magic: [u8; 4]) -> String {
    match &magic {
        b"vers" => "looks like a Git LFS pointer; download the file itself".to_owned(),
        [b'<', ..] => "looks like a web page; download the file itself".to_owned(),
        b"ggml" | b"lmgg" | b"ggjt" | b"tjgg" => {
            "is in a format from before GGUF; convert the model again".to_owned()
        }
        [b'P', b'K', ..] => "looks like a zip archive or a PyTorch checkpoint".to_owned(),
        _ => format!("starts with \"{}\" instead of \"GGUF\"", magic.escape_ascii()),
    }
}
