//! Where the bytes of a model are: in a file, or in memory.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::OFlags;

/// Random access to the bytes of a model; cheap to clone, and may be shared between threads.
#[derive(Clone, Debug)]
pub enum Source {
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
    /// Opens a regular file. Anything else is an error that says what it is.
    pub fn open(path: &Path) -> io::Result<Self> {
        // Not all of them can be opened.
        check_regular(&fs::metadata(path)?)?;
        // Opening a pipe would wait for somebody who writes, and it might be one by now.
        let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
        let about = file.metadata()?;
        check_regular(&about)?;
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

fn check_regular(about: &Metadata) -> io::Result<()> {
    let kind = about.file_type();
    if kind.is_file() {
        return Ok(());
    }
    let what = if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {what}, not a regular file")))
}
