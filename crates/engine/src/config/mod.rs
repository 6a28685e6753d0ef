//! Flags and environment in, one [`Config`] out, every value checked here and nowhere else.
//!
//! The names are llama-server's wherever that server has the flag, so that its users and its
//! containers can switch without a change. There is no configuration file: a flag, or its
//! environment variable, is the only way to say a thing.

mod environment;
mod model;
mod values;

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

pub use environment::{service_links, with_environment};
use model::{DEMO, model};
pub use model::{HubFile, ModelReference};
use reqwest::Url;
use reqwest::header::HeaderValue;
use values::{
    api_key, bearer, endpoint, host, name, ping_seconds, seconds, seed, template, template_file, threads,
    unlimited, within,
};

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
        Ok(Self { command: cli.command.unwrap_or(Command::Serve), config: cli.config, warnings })
    }
}

impl Config {
    /// The configuration for a program that embeds the engine: flags without a command.
    pub fn parse(
        arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        Invocation::parse(arguments).map(|invocation| invocation.config)
    }

    /// What to log; `default` if nothing was said.
    #[must_use]
    pub fn log_filter<'a>(&'a self, default: &'a str) -> &'a str {
        self.log_level.as_deref().unwrap_or(default)
    }

    /// The chat template to use in place of the file's own.
    #[must_use]
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref().or(self.chat_template_file.as_deref())
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
        #[arg(long, value_name = "TEXT")]
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
    Healthcheck,
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

/// All settings, checked.
#[derive(Clone, Debug, Args)]
pub struct Config {
    /// Model: a GGUF file, a folder with one, `demo` (the small one inside this program), or what is downloaded at first use:
    /// `bitnet-2b` (Microsoft's, 1.2 GB) or `hf:OWNER/REPO/FILE[@REVISION]`
    #[arg(long, short = 'm', value_name = "MODEL", help_heading = "Model", default_value = DEMO, value_parser = model())]
    pub model: ModelReference,
    /// Where models are downloaded
    #[command(flatten)]
    pub download: Download,
    /// Name of the model for clients [default: the name of the file, or bitnet-demo]
    #[arg(long, short = 'a', value_name = "NAME", help_heading = "Model", value_parser = name)]
    pub alias: Option<String>,
    /// Jinja template that turns messages into a prompt [default: the one in the model file]
    #[arg(long, value_name = "JINJA", help_heading = "Model", value_parser = template)]
    pub chat_template: Option<String>,
    /// The same, read from a file
    #[arg(long, value_name = "FILE", help_heading = "Model", value_parser = template_file, conflicts_with = "chat_template")]
    pub chat_template_file: Option<String>,

    /// Tokens that a prompt and its answer may have together; 0 is as many as the model was trained for
    #[arg(long, short = 'c', value_name = "N", help_heading = "Compute", default_value = "0", value_parser = within(0..=1_048_576_usize))]
    pub ctx_size: usize,
    /// Compute threads; -1 is one for each CPU that this process may use
    #[arg(long, short = 't', value_name = "N", help_heading = "Compute", default_value = "-1", allow_negative_numbers = true, value_parser = threads)]
    pub threads: Auto<NonZeroUsize>,
    /// Instruction set of the kernels
    #[arg(long, value_name = "NAME", help_heading = "Compute", default_value = "auto")]
    pub isa: Isa,
    /// Number format of the KV cache
    #[arg(
        long,
        visible_alias = "cache-type-k",
        value_name = "TYPE",
        help_heading = "Compute",
        default_value = "f16"
    )]
    pub cache_type: CacheType,
    /// The output head: exact, or rounded, which takes less memory and may change tokens; rounded, the model file is read while
    /// running and must stay in place, best in the page cache
    #[arg(long, value_name = "TYPE", help_heading = "Compute", default_value = "exact")]
    pub head: Head,
    /// Tokens of a prompt that are computed at once; a cancelled request stops between two such batches
    #[arg(long, visible_alias = "batch-size", value_name = "N", help_heading = "Compute", default_value = "192", value_parser = within(1..=1_024_usize))]
    pub ubatch_size: usize,

    /// Address or host name to listen on; `localhost` is both loopback addresses, of IPv4 and of IPv6, and `::` all addresses of both
    #[arg(long, value_name = "HOST", help_heading = "Server", default_value = "localhost", value_parser = host)]
    pub host: String,
    /// Port to listen on
    #[arg(long, value_name = "PORT", help_heading = "Server", default_value = "11434")]
    pub port: u16,
    /// Requests that may wait for the running one; the next is answered with 429
    #[arg(long, value_name = "N", help_heading = "Server", default_value = "32", value_parser = within(0..=10_000_usize))]
    pub queue: usize,
    /// Open connections; the next one takes the place of the one that has been without a request for longest
    #[arg(long, value_name = "N", help_heading = "Server", default_value = "512", value_parser = within(1..=65_536_usize))]
    pub max_connections: usize,
    /// Size of the largest request body
    #[arg(long, value_name = "BYTES", help_heading = "Server", default_value = "4194304", value_parser = within(1_024..=1_073_741_824_usize))]
    pub max_body_bytes: usize,
    /// Seconds that running requests get when the server is told to stop (`docker stop` waits 10)
    #[arg(long, value_name = "SECONDS", help_heading = "Server", default_value = "8", value_parser = seconds)]
    pub shutdown_timeout: Duration,
    /// Seconds of silence after which a stream gets a comment, to notice a client that is gone; -1 is never
    #[arg(long, value_name = "SECONDS", help_heading = "Server", default_value = "15", allow_negative_numbers = true, value_parser = ping_seconds)]
    pub sse_ping_interval: Duration,
    /// Key that clients must send as `Authorization: Bearer KEY`
    #[arg(long, value_name = "KEY", help_heading = "Server", hide_env_values = true, value_parser = api_key)]
    pub api_key: Option<String>,
    /// Web origins whose pages may use this server: `localhost`, `*`, or a list such as `https://a.example,https://b.example`
    #[arg(
        long,
        value_name = "ORIGINS",
        help_heading = "Server",
        default_value = "localhost",
        value_delimiter = ','
    )]
    pub cors_origins: Vec<String>,

    /// What a request that says nothing gets
    #[command(flatten)]
    pub generation: GenerationDefaults,

    /// What to log: error, warn, info, debug, trace, or a list such as `info,bitnet_engine::serving=debug` [default: info; in a chat warn]
    #[arg(long, value_name = "FILTER", help_heading = "Logging")]
    pub log_level: Option<String>,
}

/// From where to where models are downloaded.
#[derive(Clone, Debug, Args)]
pub struct Download {
    /// Folder for downloaded models [default: `bitnet` in the user's cache folder]
    #[arg(long, value_name = "FOLDER", help_heading = "Model")]
    pub model_dir: Option<PathBuf>,
    /// Where the hub is
    #[arg(long, value_name = "URL", help_heading = "Model", default_value = "https://huggingface.co", value_parser = endpoint)]
    pub hf_endpoint: Url,
    /// Token for repositories that are not public; sent to the hub itself and to no other host
    #[arg(long, value_name = "TOKEN", help_heading = "Model", hide_env_values = true, value_parser = bearer)]
    pub hf_token: Option<HeaderValue>,
    /// Folder of the hub's own tools; a model that they have downloaded is used where it is [default: `huggingface` in the user's
    /// cache folder]
    #[arg(long, value_name = "FOLDER", help_heading = "Model")]
    pub hf_home: Option<PathBuf>,
    /// Their folder for downloads [default: `hub` in --hf-home]
    #[arg(long, value_name = "FOLDER", help_heading = "Model")]
    pub hf_hub_cache: Option<PathBuf>,
}

/// What a request that says nothing gets. The defaults are llama-server's.
#[derive(Clone, Debug, Args)]
pub struct GenerationDefaults {
    /// Tokens to generate at most; -1 is until the context is full
    #[arg(long, visible_alias = "predict", short = 'n', value_name = "N", help_heading = "Defaults of a request", default_value = "-1", allow_negative_numbers = true, value_parser = unlimited)]
    pub n_predict: Auto<usize>,
    /// Randomness; 0 always takes the likeliest token
    #[arg(long, visible_alias = "temperature", value_name = "X", help_heading = "Defaults of a request", default_value = "0.8", value_parser = within(0.0..=100.0_f32))]
    pub temp: f32,
    /// Sample from the K likeliest tokens; 0 is all
    #[arg(long, value_name = "K", help_heading = "Defaults of a request", default_value = "40", value_parser = within(0..=1_048_576_usize))]
    pub top_k: usize,
    /// Sample from the likeliest tokens that together have this probability
    #[arg(long, value_name = "P", help_heading = "Defaults of a request", default_value = "0.95", value_parser = within(0.0..=1.0_f32))]
    pub top_p: f32,
    /// Leave out tokens less likely than this times the likeliest
    #[arg(long, value_name = "P", help_heading = "Defaults of a request", default_value = "0.05", value_parser = within(0.0..=1.0_f32))]
    pub min_p: f32,
    /// Divide the logits of recent tokens by this
    #[arg(long, value_name = "X", help_heading = "Defaults of a request", default_value = "1.0", value_parser = within(0.01..=100.0_f32))]
    pub repeat_penalty: f32,
    /// Tokens that count as recent; -1 is the whole context
    #[arg(long, value_name = "N", help_heading = "Defaults of a request", default_value = "64", allow_negative_numbers = true, value_parser = unlimited)]
    pub repeat_last_n: Auto<usize>,
    /// Lower the logits of tokens that occurred
    #[arg(long, value_name = "X", help_heading = "Defaults of a request", default_value = "0.0", allow_negative_numbers = true, value_parser = within(-100.0..=100.0_f32))]
    pub presence_penalty: f32,
    /// Lower the logits of tokens for each time they occurred
    #[arg(long, value_name = "X", help_heading = "Defaults of a request", default_value = "0.0", allow_negative_numbers = true, value_parser = within(-100.0..=100.0_f32))]
    pub frequency_penalty: f32,
    /// Start of the random numbers; -1 is another one for each request
    #[arg(long, short = 's', value_name = "N", help_heading = "Defaults of a request", default_value = "-1", allow_negative_numbers = true, value_parser = seed)]
    pub seed: Auto<u64>,
}

/// A value, or "you choose". (An alias, since clap reads a literal `Option` as "may be absent".)
pub type Auto<T> = Option<T>;

/// Which kernels to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the names are those of the instruction sets")]
pub enum Isa {
    /// The best that this CPU has
    Auto,
    Scalar,
    Avx2,
    #[value(name = "avxvnni")]
    AvxVnni,
    Avx512,
}

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CacheType {
    /// Half the memory
    F16,
    /// No rounding
    F32,
}

/// How the output head is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Head {
    /// As in the file, with a copy to search in: the model's own tokens
    Exact,
    /// 8 bits only, lossy; embeddings are read from the file
    Q8,
    /// Searched in 4 bits, lossy but hardly; embeddings and the rows found are read from the file. Least memory, fastest, slow
    /// with logprobs
    Q4,
}

impl std::fmt::Display for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Exact => "exact",
            Self::Q8 => "q8",
            Self::Q4 => "q4",
        })
    }
}

/// The parser: every setting works before and after the command, and has its variables.
fn command() -> clap::Command {
    Cli::command().mut_args(|argument| with_environment(argument.global(true)))
}

#[cfg(test)]
mod tests {
    use super::environment::ESTABLISHED_VARIABLES;
    use super::*;

    fn error(arguments: &[&str]) -> String {
        Invocation::parse([&["bitnet-engine"], arguments].concat()).unwrap_err().to_string()
    }

    #[test]
    fn the_parser_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn serving_is_what_happens_without_a_command() {
        let invocation = Invocation::parse(["bitnet-engine", "-m", "model.gguf"]).unwrap();
        assert!(matches!(invocation.command, Command::Serve));
        assert_eq!(invocation.config.model, ModelReference::Path("model.gguf".into()));
        assert_eq!((invocation.config.host.as_str(), invocation.config.port), ("localhost", 11434));
    }

    #[test]
    fn settings_may_stand_before_and_after_the_command() {
        for arguments in
            [["bitnet-engine", "--port", "1", "healthcheck"], ["bitnet-engine", "healthcheck", "--port", "1"]]
        {
            assert_eq!(Invocation::parse(arguments).unwrap().config.port, 1);
        }
    }

    #[test]
    fn minus_one_is_the_automatic_value() {
        let config =
            Config::parse(["x", "-t", "-1", "-n", "-1", "--seed", "-1", "--repeat-last-n", "-1"]).unwrap();
        assert_eq!((config.threads, config.generation.n_predict, config.generation.seed), (None, None, None));
        let config = Config::parse(["x", "-t", "3", "-n", "0", "--seed", "7"]).unwrap();
        assert_eq!(config.threads, NonZeroUsize::new(3));
        assert_eq!((config.generation.n_predict, config.generation.seed), (Some(0), Some(7)));
    }

    #[test]
    fn an_error_names_flag_value_and_limit() {
        for (flag, value, limit) in [
            ("--temp", "NaN", "from 0 to 100"),
            ("--temp", "-1", "from 0 to 100"),
            ("--top-p", "1.5", "from 0 to 1"),
            ("--ctx-size", "99999999999", "from 0 to 1048576"),
            ("--threads", "5000", "from 0 to 1024, or -1"),
            ("--port", "65536", "0..=65535"),
            ("--isa", "sse", "avx2"),
            ("--cache-type", "q8_0", "f32"),
            ("--max-body-bytes", "1", "from 1024"),
            ("--chat-template", "llama3", "Jinja"),
            ("--model", "hf:owner/repo", "hf:OWNER/REPO/FILE"),
            ("--hf-endpoint", "ftp://hub", "http"),
        ] {
            let error = error(&[&format!("{flag}={value}")]);
            for part in [flag, value, limit] {
                assert!(error.contains(part), "{part:?} is not in {error}");
            }
        }
    }

    #[test]
    fn the_help_names_both_variables_of_every_setting() {
        let help = command().render_long_help().to_string();
        for (_, variable) in ESTABLISHED_VARIABLES {
            assert!(help.contains(variable), "{variable}");
        }
        assert!(help.contains("BITNET_MAX_BODY_BYTES"), "{help}");
    }

    #[test]
    fn every_established_variable_belongs_to_a_setting() {
        let command = command();
        for (id, _) in ESTABLISHED_VARIABLES {
            assert!(command.get_arguments().any(|argument| argument.get_id() == id), "{id}");
        }
    }

    #[test]
    fn the_demo_is_what_runs_without_a_model() {
        for arguments in [&["x"][..], &["x", "-m", "demo"]] {
            assert_eq!(Config::parse(arguments).unwrap().model, ModelReference::Demo);
        }
        let file = Config::parse(["x", "-m", "./demo"]).unwrap().model;
        assert_eq!(file, ModelReference::Path("./demo".into()));
    }
}
