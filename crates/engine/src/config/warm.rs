//! The flags for what is computed before anybody asks.

use std::path::PathBuf;

use clap::Args;

use super::values::{prompt, prompt_file};

/// What is computed before there are requests, and where it is kept.
#[derive(Clone, Debug, Args)]
pub struct WarmFlags {
    /// The system prompt that most conversations here begin with: it is computed once and kept, also for the next start, so that no
    /// answer has to wait for it. Clients send it as before, and whoever guesses it can tell, so it is no place for secrets
    #[arg(long, value_name = "TEXT", help_heading = "Scheduling", value_parser = prompt)]
    warm_prompt: Option<String>,
    /// The same, read from a file, without the end of its last line
    #[arg(long, value_name = "FILE", help_heading = "Scheduling", value_parser = prompt_file, conflicts_with = "warm_prompt")]
    warm_prompt_file: Option<String>,
    /// Folder in which it is kept for the next start [default: `warm` in --model-dir]
    #[arg(long, value_name = "FOLDER", help_heading = "Scheduling")]
    pub warm_dir: Option<PathBuf>,
}

impl WarmFlags {
    /// The text, whether it was given as such or in a file.
    #[must_use]
    pub fn prompt(&self) -> Option<&str> {
        self.warm_prompt.as_deref().or(self.warm_prompt_file.as_deref())
    }
}
