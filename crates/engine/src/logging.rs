//! What is logged and how: lines for people, or JSON objects for a collector. Both go to standard error.

use std::io::{IsTerminal, stderr};

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// An object with `timestamp`, `level`, `target`, `message` and the line's own fields; `span` says which request it is about.
    Json,
}

/// Starts the log of this process with what `levels` lets through, as `--log-level` has it.
pub fn start(format: Format, levels: &str) -> Result<()> {
    let filter = EnvFilter::try_new(levels)
        .with_context(|| format!("--log-level {levels:?} is not a list of levels"))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        // A reader of the log that is gone is no reason to stop serving.
        .log_internal_errors(false);
    match format {
        Format::Text => log.with_ansi(stderr().is_terminal()).init(),
        Format::Json => log.json().flatten_event(true).with_span_list(false).init(),
    }
    Ok(())
}
