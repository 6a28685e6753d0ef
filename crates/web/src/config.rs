//! Flags and environment → [`Config`], checked once at start.
//!
//! Each name differs from the engine's (`--host`, `--port`, `--model` …), because `bitnet-chat` takes the flags of both.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use clap::builder::{NonEmptyStringValueParser, Resettable};
use reqwest::Url;
use reqwest::header::HeaderValue;

/// All that can be set from outside.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "web")]
#[command(next_help_heading = "Web")]
pub struct Config {
    /// Address to listen on [default: all, of IPv4 and IPv6, with the port below]
    #[arg(long, env = "LISTEN", value_name = "IP:PORT")]
    listen: Option<SocketAddr>,

    /// Port to listen on, on all addresses, when --listen is not given
    #[arg(long, env = "PORT", value_name = "PORT", default_value_t = 8080)]
    web_port: u16,

    /// Where the engine is
    #[arg(long, env = "ENGINE_URL", value_name = "URL", default_value = "http://localhost:11434", value_parser = engine_url)]
    pub engine_url: Url,

    /// Sent to the engine as a bearer token
    #[arg(long, env = "ENGINE_API_KEY", value_name = "KEY", hide_env_values = true, value_parser = bearer)]
    pub engine_api_key: Option<HeaderValue>,

    /// How long a message waits for an engine that is starting or loading its model
    #[arg(long, env = "ENGINE_WAIT", value_name = "SECONDS", default_value = "120", value_parser = seconds)]
    pub engine_wait: Duration,

    /// How long the engine may be silent before its answer counts as failed
    #[arg(long, env = "ENGINE_SILENCE", value_name = "SECONDS", default_value = "300", value_parser = seconds)]
    pub engine_silence: Duration,

    /// Name of the model to ask for; an engine with one model needs none
    #[arg(long, env = "MODEL", value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub chat_model: Option<String>,

    /// Put before every conversation as its system message
    #[arg(long, env = "SYSTEM_PROMPT", value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub system_prompt: Option<String>,

    /// After SIGTERM, how long running answers may take to finish (Docker kills after 10 seconds)
    #[arg(long, env = "DRAIN_TIMEOUT", value_name = "SECONDS", default_value = "8", value_parser = seconds)]
    pub drain_timeout: Duration,
}

impl Config {
    /// The address to listen on; port 0 means any free one, `[::]` all addresses of both families.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listen.unwrap_or(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), self.web_port))
    }
}

/// `command`, where a variable that is set to nothing counts as not set: `${MODEL:-}` in a compose file does that.
#[must_use]
pub fn without_empty_variables(command: clap::Command) -> clap::Command {
    command.mut_args(|argument| {
        let value = argument.get_env().and_then(std::env::var_os);
        if value.is_some_and(|value| value.is_empty()) { argument.env(Resettable::Reset) } else { argument }
    })
}

/// A base address to which `v1/chat/completions` can be joined.
fn engine_url(text: &str) -> Result<Url, String> {
    let mut url =
        Url::parse(text).map_err(|error| format!("{error}; expected something like http://host:11434"))?;
    if url.scheme() != "http" {
        return Err(format!(
            "the scheme must be http, not {:?}: the engine is a neighbour, reached without TLS",
            url.scheme()
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("a base address has no ? and no #".to_owned());
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

/// `Authorization` with this key.
pub fn bearer(key: &str) -> Result<HeaderValue, String> {
    let refusal = || "a key consists of visible ASCII characters".to_owned();
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(refusal());
    }
    let mut value = HeaderValue::try_from(format!("Bearer {key}")).map_err(|_| refusal())?;
    value.set_sensitive(true);
    Ok(value)
}

fn seconds(text: &str) -> Result<Duration, String> {
    // A day is longer than anything that is waited for, and far below where clocks overflow.
    match text.parse::<u32>() {
        Ok(seconds) if seconds <= 86_400 => Ok(Duration::from_secs(seconds.into())),
        _ => Err("expected whole seconds, at most 86400".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        config: Config,
    }

    fn parse(arguments: &[&str]) -> Result<Config, String> {
        let arguments = std::iter::once(&"web").chain(arguments);
        Cli::try_parse_from(arguments).map(|cli| cli.config).map_err(|error| error.to_string())
    }

    #[test]
    fn the_listening_address_is_that_of_listen_or_the_port_on_all_addresses() {
        assert_eq!(parse(&["--web-port", "9000"]).unwrap().address(), "[::]:9000".parse().unwrap());
        let both = parse(&["--listen", "[::1]:80", "--web-port", "9000"]).unwrap();
        assert_eq!(both.address(), "[::1]:80".parse().unwrap());
    }

    #[test]
    fn an_engine_url_is_a_base_for_its_routes() {
        for (given, completions) in [
            ("http://localhost:11434", "http://localhost:11434/v1/chat"),
            ("http://localhost:11434/", "http://localhost:11434/v1/chat"),
            ("http://gateway/bitnet", "http://gateway/bitnet/v1/chat"),
        ] {
            let url = parse(&["--engine-url", given]).unwrap().engine_url;
            assert_eq!(url.join("v1/chat").unwrap().as_str(), completions);
        }
    }

    #[test]
    fn what_cannot_be_an_engine_url_is_refused_with_a_reason() {
        for (given, reason) in [
            ("engine", "http://host:11434"),
            ("engine:11434", "the scheme must be http"),
            ("https://engine", "without TLS"),
            ("http://engine/?x=1", "has no ?"),
        ] {
            let error = parse(&["--engine-url", given]).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_key_is_never_printed() {
        let config = parse(&["--engine-api-key", "hunter2"]).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(parse(&["--engine-api-key", "a\nb"]).unwrap_err().contains("visible ASCII"));
    }
}
