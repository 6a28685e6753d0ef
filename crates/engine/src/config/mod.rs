//! Flags and environment in, one [`Config`] out, every value checked here and nowhere else. What a module needs of it becomes
//! that module's own options: this is the last of the library's parts that could know a flag.
//!
//! The names are llama-server's wherever that server has the flag, so that its users and its
//! containers can switch without a change. There is no configuration file: a flag, or its
//! environment variable, is the only way to say a thing.

mod choices;
mod download;
mod environment;
mod generation;
mod invocation;
mod scheduling;
mod values;
mod warm;

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::time::Duration;

use clap::Args;

use crate::hub;
pub use crate::hub::ModelReference;
use crate::kernels::{CacheType, Isa};
use crate::logging;
use crate::model::LmHeadType;
use choices::{cache_type, head_name, head_type, isa, log_format, model};
use download::DownloadFlags;
pub use environment::{service_links, with_environment};
use generation::GenerationFlags;
pub use invocation::{Bench, Command, Invocation};
pub use scheduling::SchedulingFlags;
use values::{
    Auto, api_key, context, host, log_filter, name, origin, ping_seconds, seconds, template, template_file,
    threads, within,
};
pub use warm::WarmFlags;

/// All settings, checked.
#[derive(Clone, Debug, Args)]
pub struct Config {
    /// Model: a GGUF file, a folder with one, `demo` (the small one inside this program), or what is downloaded at first use:
    /// `bitnet-2b` (Microsoft's, 1.2 GB) or `hf:OWNER/REPO/FILE[@REVISION]`
    #[arg(long, short = 'm', value_name = "MODEL", help_heading = "Model", default_value = ModelReference::DEMO, value_parser = model())]
    pub model: ModelReference,
    /// Where models are downloaded
    #[command(flatten)]
    download: DownloadFlags,
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
    #[arg(long, short = 'c', value_name = "N", help_heading = "Compute", default_value = "0", value_parser = context)]
    pub ctx_size: usize,
    /// Compute threads; -1 is one for each CPU that this process may use
    #[arg(long, short = 't', value_name = "N", help_heading = "Compute", default_value = "-1", allow_negative_numbers = true, value_parser = threads)]
    pub threads: Auto<NonZeroUsize>,
    /// Instruction set of the kernels
    #[arg(long, value_name = "NAME", help_heading = "Compute", default_value = "auto", value_parser = isa())]
    pub isa: Isa,
    /// Number format of the KV cache
    #[arg(
        long,
        visible_alias = "cache-type-k",
        value_name = "TYPE",
        help_heading = "Compute",
        default_value = "f16",
        value_parser = cache_type()
    )]
    pub cache_type: CacheType,
    /// The output head: exact, or rounded, which takes less memory and may change tokens; rounded, the model file is read while
    /// running and must stay in place, best in the page cache
    #[arg(long, value_name = "TYPE", help_heading = "Compute", default_value = "exact", value_parser = head_type())]
    pub head: LmHeadType,
    /// Tokens of a prompt that are computed at once; a cancelled request stops between two such batches
    #[arg(long, visible_alias = "batch-size", value_name = "N", help_heading = "Compute", default_value = "192", value_parser = within(1..=1_024_usize))]
    pub ubatch_size: usize,

    /// How many are served at once
    #[command(flatten)]
    pub scheduling: SchedulingFlags,
    /// What is computed before the first request
    #[command(flatten)]
    pub warm: WarmFlags,

    /// Address or host name to listen on; `localhost` is both loopback addresses, of IPv4 and of IPv6, and `::` all addresses of both
    #[arg(long, value_name = "HOST", help_heading = "Server", default_value = "localhost", value_parser = host)]
    pub host: String,
    /// Port to listen on
    #[arg(long, value_name = "PORT", help_heading = "Server", default_value = "11434")]
    pub port: u16,
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
    /// Key that clients must send as `Authorization: Bearer KEY`, or several, separated by commas: each client's own
    #[arg(long, value_name = "KEY", help_heading = "Server", hide_env_values = true, value_delimiter = ',', value_parser = api_key)]
    pub api_key: Vec<String>,
    /// Web origins whose pages may use this server: `localhost`, `*`, or a list such as `https://a.example,https://b.example`
    #[arg(
        long,
        value_name = "ORIGINS",
        help_heading = "Server",
        default_value = "localhost",
        value_delimiter = ',',
        value_parser = origin
    )]
    pub cors_origins: Vec<String>,

    /// What a request that says nothing gets
    #[command(flatten)]
    generation: GenerationFlags,

    /// What to log: error, warn, info, debug, trace, or a list such as `info,bitnet_engine::serving=debug` [default: info; in a chat warn]
    #[arg(long, value_name = "FILTER", help_heading = "Logging", value_parser = log_filter)]
    pub log_level: Option<String>,
    /// How to log: for people, or one JSON object a line
    #[arg(long, value_name = "FORMAT", help_heading = "Logging", default_value = "text", value_parser = log_format())]
    pub log_format: logging::Format,
}

impl Config {
    /// The configuration for a program that embeds the engine: flags without a command.
    pub fn parse(
        arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        Invocation::parse(arguments).map(|invocation| invocation.config)
    }

    /// From where to where models are downloaded.
    #[must_use]
    pub fn hub(&self) -> hub::Options {
        self.download.options()
    }

    /// What a request that says nothing gets.
    #[must_use]
    pub(crate) fn defaults(&self) -> crate::generation::Defaults {
        self.generation.defaults()
    }

    /// What `--head` calls the form in which the output head is kept.
    #[must_use]
    pub fn head_name(&self) -> &'static str {
        head_name(self.head)
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

#[cfg(test)]
mod tests {
    use super::environment::ESTABLISHED_VARIABLES;
    use super::invocation::command;
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
        let defaults = config.defaults();
        assert_eq!((config.threads, defaults.n_predict, defaults.seed), (None, None, None));
        let config = Config::parse(["x", "-t", "3", "-n", "0", "--seed", "7"]).unwrap();
        assert_eq!(config.threads, NonZeroUsize::new(3));
        assert_eq!((config.defaults().n_predict, config.defaults().seed), (Some(0), Some(7)));
    }

    #[test]
    fn an_error_names_flag_value_and_limit() {
        for (flag, value, limit) in [
            ("--temp", "NaN", "from 0 to 100"),
            ("--temp", "-1", "from 0 to 100"),
            ("--top-p", "1.5", "from 0 to 1"),
            ("--ctx-size", "99999999999", "0 or a number from 2 to 1048576"),
            ("--threads", "5000", "from 0 to 1024, or -1"),
            ("--port", "65536", "0..=65535"),
            ("--isa", "sse", "avx2"),
            ("--cache-type", "q8_0", "f32"),
            ("--max-body-bytes", "1", "from 1024"),
            ("--chat-template", "llama3", "Jinja"),
            ("--model", "hf:owner/repo", "hf:OWNER/REPO/FILE"),
            ("--hf-endpoint", "ftp://hub", "http"),
            ("--ctx-size", "1", "from 2 to"),
            ("--ubatch-size", "0", "from 1 to 1024"),
            ("--queue", "10001", "from 0 to 10000"),
            ("--parallel", "0", "from 1 to 256, or -1"),
            ("--cache-ram", "0", "from 1 to"),
            ("--max-token-gap", "0", "from 1 to 600000"),
            ("--request-timeout", "0", "from 1 to 604800, or -1"),
            ("--simulate", "NaN", "from 0.1 to 100000"),
            ("--warm-prompt-file", "/dev/zero", "at most 1048576 bytes"),
            ("--warm-prompt-file", "/dev/null", "must not be empty"),
            ("--max-connections", "0", "from 1 to"),
            ("--sse-ping-interval", "0", "from 1 to"),
            ("--shutdown-timeout", "86401", "from 0 to 86400"),
            ("--cors-origins", "https://a.example/path", "SCHEME://HOST[:PORT]"),
            ("--cors-origins", "https://a.example?x", "without a path"),
            ("--cors-origins", "https://me@a.example", "without a path"),
            ("--cors-origins", "b.example", "SCHEME://HOST[:PORT]"),
            ("--cors-origins", "mailto:a", "SCHEME://HOST[:PORT]"),
            ("--cors-origins", "null", "SCHEME://HOST[:PORT]"),
            ("--log-level", "info=loud=x", "invalid"),
            ("--log-level", "verbose", "debug"),
            ("--log-format", "xml", "json"),
            ("--host", "http://localhost", "one address"),
            ("--host", "a,b", "one address"),
            ("--host", "a b", "one address"),
        ] {
            let error = error(&[&format!("{flag}={value}")]);
            for part in [flag, value, limit] {
                assert!(error.contains(part), "{part:?} is not in {error}");
            }
        }
    }

    #[test]
    fn no_setting_means_anything_without_a_value() {
        for argument in command().get_arguments() {
            let Some(flag) = argument.get_long().filter(|_| argument.get_action().takes_values()) else {
                continue;
            };
            let error = error(&[&format!("--{flag}=")]);
            assert!(error.contains(&format!("--{flag}")), "{error}");
        }
        assert!(error(&["chat", "--system="]).contains("--system"));
    }

    #[test]
    fn an_origin_is_kept_as_browsers_write_it() {
        let origins = |list: &str| Config::parse(["x", "--cors-origins", list]).unwrap().cors_origins;
        assert_eq!(origins("*"), ["*"]);
        assert_eq!(
            origins(
                "localhost, HTTPS://A.example:443/,http://b.example:8080,tauri://localhost,http://[::1]:3000"
            ),
            [
                "localhost",
                "https://a.example",
                "http://b.example:8080",
                "tauri://localhost",
                "http://[::1]:3000"
            ]
        );
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
