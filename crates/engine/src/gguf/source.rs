//! Where the bytes of a model are: in a file, or in memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

/// Random access to the bytes of a model; cheap to clone, and may be shared between threads.
#[derive(Clone, Debug)]
pub enum Source {
    /// An open file.
    File {
        /// The file; read with `pread`, so its cursor does not matter.
        file: Arc<File>,
        /// Its length when it was opened. A file that shrinks later makes [`Source::read_at`] fail.
        len: u64,
    },
    /// Bytes in memory.
    Memory(Bytes),
}

impl Source {
    /// Opens a regular file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Self::File { file: Arc::new(file), len: about.len() })
    }

    /// Bytes that are part of the program.
    #[must_use]
    pub const fn from_static(bytes: &'static [u8]) -> Self {
        Self::Memory(Bytes::from_static(bytes))
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::File { len, .. } => *len,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// Whether there are no bytes at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `out` with the bytes from `offset` on; an error if there are not that many.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self {
            Self::File { file, .. } => file.read_exact_at(out, offset),
            Self::Memory(bytes) => {
                let start = usize::try_from(offset).ok();
                let wanted = start.and_then(|start| bytes.get(start..)?.get(..out.len()));
                out.copy_from_slice(wanted.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }
}

impl From<Bytes> for Source {
    fn from(bytes: Bytes) -> Self {
        Self::Memory(bytes)
    }
}
