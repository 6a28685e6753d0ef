//! The command line as a whole: what to do, with which settings.

use std::ffi::OsString;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use super::choices::model;
use super::environment::{service_links, with_environment};
use super::values::{check_api_keys, within};
use super::{Config, ModelReference};

/// What the command line asked for.
#[derive(Debug)]
pub struct Invocation {
    /// What to do.
    pub command: Command,
    /// How to do it.
    pub config: Config,
    /// What to tell about variables that look like settings and are none.
    pub warnings: Vec<String>,
}

impl Invocation {
    /// Reads the arguments (the first is the program's name) and the environment.
    pub fn parse(
        arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        let command = command();
        let warnings = service_links(&command);
        let cli = Cli::from_arg_matches(&command.try_get_matches_from(arguments)?)?;
        check_api_keys(&cli.config.api_key)?;
        Ok(Self { command: cli.command.unwrap_or(Command::Serve), config: cli.config, warnings })
    }
}

#[derive(Debug, Parser)]
#[command(
    name = "bitnet-engine",
    version,
    about = "Inference server for BitNet b1.58 models on a plain CPU",
    after_help = "Each flag can be given as an environment variable instead: the name shown, or the one of llama-server \
                  where that server has the flag. A flag wins over BITNET_…, and that over LLAMA_ARG_…. A download goes \
                  through the proxy that HTTPS_PROXY, ALL_PROXY and NO_PROXY name."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    config: Config,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer requests over HTTP (this is what happens without a command)
    Serve,
    /// Talk to the model in this terminal
    Chat {
        /// Instructions that stand before the conversation
        #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
        system: Option<String>,
    },
    /// Download a model unless it is here already, and print where it is
    Pull {
        /// `bitnet-2b`, or `hf:OWNER/REPO/FILE[@REVISION]`
        #[arg(value_parser = model())]
        reference: ModelReference,
    },
    /// Show what a model file contains and how it would be used
    Inspect {
        /// The model, as for --model
        #[arg(value_parser = model())]
        reference: ModelReference,
    },
    /// Ask the server on the configured port whether it is ready; the exit status is the answer
    Healthcheck {
        /// Ask whether it lives instead: whether it would help to start it again
        #[arg(long)]
        live: bool,
    },
    /// Measure how fast this machine reads a prompt and writes an answer
    Bench(Bench),
}

/// What to measure.
#[derive(Debug, Args)]
pub struct Bench {
    /// Tokens of the prompt
    #[arg(long, short = 'p', value_name = "N", default_value = "512", value_parser = within(1..=1_048_576_usize))]
    pub prompt_tokens: usize,
    /// Tokens to generate
    #[arg(long, short = 'g', value_name = "N", default_value = "128", value_parser = within(1..=1_048_576_usize))]
    pub generate_tokens: usize,
    /// Tokens that are in the context when generating starts; several are measured one after the other
    #[arg(long, short = 'd', value_name = "N,…", value_delimiter = ',', default_value = "0", value_parser = within(0..=1_048_576_usize))]
    pub depth: Vec<usize>,
    /// How often each is measured
    #[arg(long, short = 'r', value_name = "N", default_value = "3", value_parser = within(1..=1_000_usize))]
    pub repetitions: usize,
    /// Also print where the time of a token goes
    #[arg(long)]
    pub profile: bool,
    /// Also generate so many tokens with --head exact, and print how many are the same with the --head that is measured
    #[arg(long, value_name = "TOKENS", value_parser = within(1..=1_048_576_usize))]
    pub agreement: Option<usize>,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// The parser: every setting works before and after the command, and has its variables.
pub(super) fn command() -> clap::Command {
    Cli::command().mut_args(|argument| with_environment(argument.global(true)))
}
