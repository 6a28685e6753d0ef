//! Standard output, for commands that print. A reader that has seen enough, as `head` has, is no error.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind, Write};

/// Standard output.
pub(crate) struct Output(io::StdoutLock<'static>);

impl Output {
    pub(crate) fn new() -> Self {
        Self(io::stdout().lock())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(marked)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(marked)
    }
}

/// Nobody reads what is printed any more. A type of its own, since connections break as well.
#[derive(Debug)]
struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("nobody reads the output any more")
    }
}

impl Error for Closed {}

fn marked(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::BrokenPipe { io::Error::other(Closed) } else { error }
}

/// Whether a command ended because nobody reads its output any more.
pub(crate) fn is_closed(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| cause.get_ref().is_some_and(<dyn Error + Send + Sync>::is::<Closed>))
}
