//! A file that is read only when it is a file, and replaced only by a whole one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

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
    // Its own for each process, as far as processes see each other. What one of this number has left is of no use.
    let part = path.with_extension(format!("{}.part", std::process::id()));
    match fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
    let replaced = write(&mut file).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&part, path));
    if replaced.is_err() {
        fs::remove_file(&part).ok();
    }
    replaced
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")
}
