//! A file that is read only when it is a file, and replaced only by a whole one.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// What the name of a file ends with that is being written.
const PART: &str = "part";

/// Opens a regular file; returns it with its length.
pub(super) fn open(path: &Path) -> io::Result<(File, u64)> {
    // A pipe would be waited for, and a link leads to who knows what.
    let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed();
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(not_regular());
    }
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    // It might be another one by now.
    let about = file.metadata()?;
    if about.is_file() { Ok((file, about.len())) } else { Err(not_regular()) }
}

/// Has `write` write a file that then takes this place, whole, also after a power failure. Makes the folder if need be. Nobody else may
/// read either: how a prompt was computed tells of the prompt.
pub(super) fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    remove_leftovers(path);
    // Processes in different containers may have the same number: then one of them does not write.
    let part = path.with_extension(format!("{}.{PART}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
    // Tells others that it is being written, where there are locks.
    file.try_lock().ok();
    let replaced = write(&mut file).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&part, path));
    if replaced.is_err() {
        fs::remove_file(&part).ok();
    }
    replaced
}

/// Removes what processes have left that were stopped while they wrote.
fn remove_leftovers(path: &Path) {
    let entries = path.parent().and_then(|folder| fs::read_dir(folder).ok());
    for entry in entries.into_iter().flatten().flatten().map(|entry| entry.path()) {
        let of_this = entry.with_extension("").with_extension("") == path.with_extension("");
        let is_written = |file: File| matches!(file.try_lock(), Err(TryLockError::WouldBlock));
        if of_this
            && entry.extension().is_some_and(|extension| extension == PART)
            && open(&entry).is_ok_and(|(file, _)| !is_written(file))
        {
            fs::remove_file(&entry).ok();
        }
    }
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")
}
