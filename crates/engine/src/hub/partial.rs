//! A file that grows: `NAME.KEY.part` beside the place where it belongs, which it takes when it is whole and right.
//!
//! The key stands for the content, so that what is left of a download is continued with the rest of the same file and no other.
//! Who writes holds a lock on it, which ends with the process, however that ends.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tracing::warn;

use super::error::HubError;

/// What a GGUF file begins with.
const MAGIC: &[u8] = b"GGUF";

/// What a growing file's name ends with.
const SUFFIX: &str = ".part";

/// The growing file, locked for this process.
pub(super) struct Partial {
    file: File,
    /// Whether no other process can write to it.
    is_locked: bool,
    path: PathBuf,
    target: PathBuf,
    length: u64,
    sum: Sha256,
    /// The first bytes, until there are enough to see what kind of file this is.
    beginning: Vec<u8>,
}

/// What came of an attempt to get the growing file.
pub(super) enum Opened {
    Mine(Partial),
    /// Another process downloads the same, and has so many bytes.
    Busy(u64),
    /// Another process has finished it.
    Done,
}

impl Partial {
    /// Opens or makes the file beside `target`, or tells that somebody else has it. `key`: see the module.
    pub(super) fn open(target: &Path, key: &str) -> Result<Opened, HubError> {
        let path = part(target, key);
        let failed = |source| HubError::Folder { path: path.clone(), source };
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(failed)?;
        let lock = file.try_lock();
        let is_locked = lock.is_ok();
        match lock {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Ok(Opened::Busy(file.metadata().map_or(0, |about| about.len())));
            }
            // Some network file systems have no locks. Two downloads at once then spoil each other's work, which the sum of the
            // file as it is on the disk brings to light.
            Err(TryLockError::Error(error)) => warn!(%error, "cannot lock {}", path.display()),
        }
        if target.is_file() {
            drop_unused(&path, &file);
            return Ok(Opened::Done);
        }
        // Whoever held the lock may have moved or removed the file that was opened here.
        if !is_same(&path, &file) {
            return Ok(Opened::Busy(0));
        }
        let (sum, length) = read_through(&mut file).map_err(failed)?;
        let mut beginning = vec![0; MAGIC.len().min(length as usize)];
        file.read_exact_at(&mut beginning, 0).map_err(failed)?;
        Ok(Opened::Mine(Self { file, is_locked, path, target: target.to_owned(), length, sum, beginning }))
    }

    /// Bytes that are here.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Fails unless there is room for so many more bytes.
    pub(super) fn check_room(&self, needed: u64) -> Result<(), HubError> {
        match free(self.folder()) {
            Some(free) if free < needed => Err(self.full(needed, free)),
            _ => Ok(()),
        }
    }

    /// Appends. `total`, the length of the whole file, is for an error.
    pub(super) fn write(&mut self, bytes: &[u8], total: Option<u64>) -> Result<(), HubError> {
        if self.beginning.len() < MAGIC.len() {
            self.beginning.extend_from_slice(&bytes[..bytes.len().min(MAGIC.len() - self.beginning.len())]);
            if !MAGIC.starts_with(&self.beginning) {
                return Err(not_gguf(&bytes[..bytes.len().min(24)]));
            }
        }
        self.file.write_all(bytes).map_err(|source| match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                let needed = total.map_or(bytes.len() as u64, |total| total.saturating_sub(self.length));
                self.full(needed, free(self.folder()).unwrap_or(0))
            }
            _ => self.failed(source),
        })?;
        self.sum.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn clear(&mut self) -> Result<(), HubError> {
        let cleared = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        cleared.map_err(|source| self.failed(source))?;
        (self.length, self.sum) = (0, Sha256::new());
        self.beginning.clear();
        Ok(())
    }

    /// The sha256 of what is here, as 64 digits.
    pub(super) fn sum(&self) -> Result<String, HubError> {
        let sum = if self.is_locked {
            self.sum.clone()
        } else {
            let again = File::open(&self.path).and_then(|mut file| read_through(&mut file));
            again.map_err(|source| self.failed(source))?.0
        };
        Ok(digits(&sum.finalize()))
    }

    /// Fails unless what is here begins like a model.
    pub(super) fn check_kind(&self) -> Result<(), HubError> {
        if self.beginning == MAGIC { Ok(()) } else { Err(not_gguf(&self.beginning)) }
    }

    /// Moves the file to its place. It is whole then, also after a power failure.
    pub(super) fn finish(self) -> Result<(), HubError> {
        let moved = self.file.sync_all().and_then(|()| fs::rename(&self.path, &self.target));
        moved.map_err(|source| self.failed(source))?;
        remove_others(&self.target);
        Ok(())
    }

    /// Removes the file.
    pub(super) fn remove(self) {
        fs::remove_file(&self.path).ok();
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    fn full(&self, needed: u64, free: u64) -> HubError {
        HubError::DiskFull { folder: self.folder().to_owned(), needed, free }
    }

    fn failed(&self, source: io::Error) -> HubError {
        HubError::Folder { path: self.path.clone(), source }
    }
}

/// Reads from where a file stands to its end: the sha256, and the number of bytes.
fn read_through(file: &mut File) -> io::Result<(Sha256, u64)> {
    let (mut sum, mut length) = (Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((sum, length));
        }
        sum.update(&buffer[..count]);
        length += count as u64;
    }
}

/// Bytes as hexadecimal digits.
pub(super) fn digits(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

fn not_gguf(beginning: &[u8]) -> HubError {
    HubError::NotGguf { beginning: String::from_utf8_lossy(beginning).into_owned() }
}

/// The growing file for a place and a key.
fn part(target: &Path, key: &str) -> PathBuf {
    let key: String = key.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{key}{SUFFIX}"));
    target.with_file_name(name)
}

/// Whether the path still leads to this open file.
fn is_same(path: &Path, file: &File) -> bool {
    let inode = |about: fs::Metadata| (about.dev(), about.ino());
    fs::metadata(path).ok().map(inode) == file.metadata().ok().map(inode)
}

/// Removes a growing file that was made here and is not needed.
fn drop_unused(path: &Path, file: &File) {
    if file.metadata().is_ok_and(|about| about.len() == 0) && is_same(path, file) {
        fs::remove_file(path).ok();
    }
}

/// Removes what is left of other content of the same name, unless somebody writes it.
fn remove_others(target: &Path) {
    let (Some(folder), Some(name)) = (target.parent(), target.file_name().and_then(|name| name.to_str()))
    else {
        return;
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    for path in entries {
        let rest = path.file_name().and_then(|file| file.to_str()?.strip_prefix(name));
        let is_part = rest.is_some_and(|rest| rest.starts_with('.') && rest.ends_with(SUFFIX));
        if is_part && File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
            fs::remove_file(&path).ok();
        }
    }
}

/// Bytes that an ordinary user may still write to the disk of this folder.
fn free(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}
