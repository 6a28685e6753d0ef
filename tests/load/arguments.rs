//! The command line.

use std::num::NonZeroUsize;

use clap::{Args, Parser, Subcommand};

use crate::wire::Api;

/// Puts load on a server and says how it bore it
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Tokens a second, time to the first token and gaps between tokens, for each number of clients
    Throughput(Throughput),
    /// How long running answers pause while one long prompt is read
    Gap(Gap),
    /// Mixed traffic, after which nothing may be left of it
    Soak(Soak),
}

/// Clients that ask again as soon as they have their answer.
#[derive(Debug, Args)]
pub(crate) struct Throughput {
    /// Where the server is; with several, they take turns and are compared with the first
    #[arg(long, required = true)]
    pub(crate) url: Vec<String>,
    /// How many clients ask at once; several are measured one after the other
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,2,4,8,16")]
    pub(crate) clients: Vec<NonZeroUsize>,
    /// Requests of each client
    #[arg(long, value_name = "N", default_value = "4")]
    pub(crate) requests: NonZeroUsize,
    /// How often all of it is measured, in turns; the medians are printed
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) rounds: NonZeroUsize,
    #[command(flatten)]
    pub(crate) asked: Asked,
}

/// Answers that run while another one's prompt is read.
#[derive(Debug, Args)]
pub(crate) struct Gap {
    /// Where the server is
    #[arg(long)]
    pub(crate) url: String,
    /// How many answers run
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) clients: NonZeroUsize,
    /// Tokens of the long prompt
    #[arg(long, value_name = "N", default_value = "2000")]
    pub(crate) long_prompt: NonZeroUsize,
    /// How often a long prompt arrives
    #[arg(long, value_name = "N", default_value = "3")]
    pub(crate) rounds: NonZeroUsize,
    #[command(flatten)]
    pub(crate) asked: Asked,
}

/// Visitors of every kind.
#[derive(Debug, Args)]
pub(crate) struct Soak {
    /// Where the server is: one of ours
    #[arg(long)]
    pub(crate) url: String,
    /// For how long they come
    #[arg(long, value_name = "N", default_value = "10")]
    pub(crate) minutes: f64,
    /// The server's process, whose memory is watched
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// How many MiB larger it may be later than in the first minute
    #[arg(long, value_name = "MIB", default_value = "8")]
    pub(crate) growth: u64,
}

/// What each request asks for, and how results are printed.
#[derive(Clone, Debug, Args)]
pub(crate) struct Asked {
    /// `completion` sends token ids, so that counts are exact; `chat` is OpenAI's, in words of about one token
    #[arg(long, value_enum, default_value = "completion")]
    pub(crate) api: Api,
    /// Tokens of each prompt; no two prompts begin alike
    #[arg(long, value_name = "N", default_value = "64")]
    pub(crate) prompt_tokens: NonZeroUsize,
    /// Tokens of each answer; no answer ends before
    #[arg(long, value_name = "N", default_value = "64")]
    pub(crate) max_tokens: NonZeroUsize,
    /// Sent as a bearer token
    #[arg(long, value_name = "KEY")]
    pub(crate) api_key: Option<String>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}
