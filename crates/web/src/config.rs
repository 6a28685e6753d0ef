//! Flags and environment → [`Config`], checked once at start.
//!
//! Each name differs from the engine's (`--host`, `--port`, `--model` …), because `bitnet-chat` takes the flags of both.

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use clap::builder::{NonEmptyStringValueParser, Resettable};
use reqwest::Url;
use reqwest::header::HeaderValue;

use crate::origin::{InvalidOrigin, Origin};

/// All that can be set from outside.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "web")]
#[command(next_help_heading = "Web")]
pub struct Config {
    /// Address to listen on; `localhost:PORT` is both loopback addresses [default: all, of IPv4 and IPv6, with the port below]
    #[arg(long, env = "LISTEN", value_name = "IP:PORT", value_parser = listen)]
    listen: Option<Listen>,

    /// Port to listen on, on all addresses, when --listen is not given
    #[arg(long, env = "PORT", value_name = "PORT", default_value_t = 8080)]
    web_port: u16,

    /// Addresses at which browsers open the page, separated by commas; needed behind a proxy that changes Host
    #[arg(long, env = "PUBLIC_ORIGIN", value_name = "SCHEME://HOST[:PORT]", value_delimiter = ',', value_parser = public_origin)]
    pub public_origin: Vec<Origin>,

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

/// What `--listen` means.
#[derive(Clone, Debug)]
struct Listen(Vec<SocketAddr>);

/// An address, or `localhost` with a port: whatever the hosts file says of it, that is both loopback addresses.
fn listen(text: &str) -> Result<Listen, String> {
    if let Some(port) = text.strip_prefix("localhost:").and_then(|port| port.parse().ok()) {
        let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        return Ok(Listen(loopback.map(|ip| SocketAddr::new(ip, port)).to_vec()));
    }
    let address = text.parse::<SocketAddr>().map_err(|_| "expected IP:PORT or localhost:PORT".to_owned())?;
    let all = address.is_ipv6() && address.ip().is_unspecified();
    Ok(Listen(if all { all_addresses(address.port()) } else { vec![address] }))
}

fn all_addresses(port: u16) -> Vec<SocketAddr> {
    let all: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    all.map(|ip| SocketAddr::new(ip, port)).to_vec()
}

impl Config {
    /// The addresses to listen on, IPv4 first, all with the same port; 0 is any free one.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listen.clone().map_or_else(|| all_addresses(self.web_port), |Listen(addresses)| addresses)
    }
}

/// `command` without the variables that nobody can have meant, and a warning for each that has a value.
///
/// A variable that is set to nothing counts as not set: `${MODEL:-}` in a compose file does that. So does a service link where
/// it is no valid value: an orchestrator sets such variables for its own services, whatever else their names mean.
#[must_use]
pub fn without_stray_variables(command: clap::Command) -> (clap::Command, Vec<String>) {
    without_stray(command, |name| std::env::var_os(name))
}

fn without_stray(
    command: clap::Command,
    variable: impl Fn(&OsStr) -> Option<OsString>,
) -> (clap::Command, Vec<String>) {
    // What a value means is known to the parser alone, so it is asked, with one flag at a time.
    let parser = command.clone().mut_args(|argument| argument.env(Resettable::Reset));
    let is_valid = |flag: &str, value: &str| {
        let arguments = ["", &format!("--{flag}={value}")];
        parser.clone().try_get_matches_from(arguments).is_ok()
    };
    let mut warnings = Vec::new();
    let command = command.mut_args(|argument| {
        let Some(name) = argument.get_env() else { return argument };
        let Some(value) = variable(name) else { return argument };
        if value.is_empty() {
            return argument.env(Resettable::Reset);
        }
        let Some(link) = value.to_str().filter(|value| is_service_link(value)) else { return argument };
        if argument.get_long().is_none_or(|flag| is_valid(flag, link)) {
            return argument;
        }
        warnings.push(format!(
            "{name}={link} is not a setting but the address of a service, as Kubernetes and Docker put it into the environment; \
             it is ignored. Set `enableServiceLinks: false` for the pod, or give the service another name",
            name = name.display()
        ));
        argument.env(Resettable::Reset)
    });
    (command, warnings)
}

/// Whether a value looks like the `tcp://10.0.0.7:8080` of a Kubernetes service or of one of Docker's old links.
fn is_service_link(value: &str) -> bool {
    let mut addresses =
        ["tcp://", "udp://", "sctp://"].iter().filter_map(|scheme| value.strip_prefix(scheme));
    addresses.any(|address| address.parse::<SocketAddr>().is_ok())
}

/// An origin as people write it: there may be spaces around it, and the slash that the address bar shows.
fn public_origin(text: &str) -> Result<Origin, InvalidOrigin> {
    let text = text.trim();
    text.strip_suffix('/').unwrap_or(text).parse()
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
    use clap::{CommandFactory, Parser};

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
        let check = |flags: &[&str], expected: &[&str]| {
            let expected: Vec<SocketAddr> = expected.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(parse(flags).unwrap().addresses(), expected);
        };
        check(&["--web-port", "9000"], &["0.0.0.0:9000", "[::]:9000"]);
        check(&["--listen", "[::]:80"], &["0.0.0.0:80", "[::]:80"]);
        check(&["--listen", "localhost:80"], &["127.0.0.1:80", "[::1]:80"]);
        check(&["--listen", "[::1]:80", "--web-port", "9000"], &["[::1]:80"]);
        assert!(parse(&["--listen", "engine:80"]).unwrap_err().contains("localhost:PORT"));
    }

    /// The settings that come of these variables, and the warnings.
    fn from_environment(variables: &[(&str, &str)]) -> (Result<Config, String>, Vec<String>) {
        let (command, warnings) = without_stray(Cli::command(), |name| {
            let (_, value) = variables.iter().find(|variable| name == variable.0)?;
            Some(value.into())
        });
        // The variables of this process are those that clap would read, and the test may not change them; what is left of
        // them is given as flags instead.
        let flags = command.get_arguments().filter_map(|argument| {
            let (_, value) =
                variables.iter().find(|variable| argument.get_env() == Some(variable.0.as_ref()))?;
            Some(format!("--{}={value}", argument.get_long()?))
        });
        let flags: Vec<_> = flags.collect();
        (parse(&flags.iter().map(String::as_str).collect::<Vec<_>>()), warnings)
    }

    #[test]
    fn a_variable_that_is_set_to_nothing_counts_as_not_set() {
        let (config, warnings) = from_environment(&[("PORT", ""), ("MODEL", "")]);
        assert_eq!(config.unwrap().addresses()[0].port(), 8080);
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn a_service_link_where_something_else_is_expected_counts_as_not_set_with_a_warning() {
        for link in ["tcp://10.0.0.7:8080", "udp://10.0.0.7:53", "sctp://[fd00::7]:8080"] {
            for name in ["PORT", "LISTEN", "ENGINE_URL", "PUBLIC_ORIGIN", "ENGINE_WAIT", "DRAIN_TIMEOUT"] {
                let (config, warnings) = from_environment(&[(name, link)]);
                let config = config.unwrap();
                assert_eq!((config.addresses()[0].port(), config.engine_url.port()), (8080, Some(11434)));
                let [warning] = &warnings[..] else { panic!("{warnings:?}") };
                for part in [name, link, "Kubernetes", "enableServiceLinks: false"] {
                    assert!(warning.contains(part), "{warning}");
                }
            }
        }
    }

    #[test]
    fn a_value_that_is_only_wrong_is_an_error_and_a_text_may_be_anything() {
        for value in ["http://10.0.0.7:8080", "tcp://", "tcp://10.0.0.7", "tcp://web:8080x", "80a"] {
            let (config, warnings) = from_environment(&[("PORT", value)]);
            assert!(config.unwrap_err().contains("--web-port") && warnings.is_empty(), "{value}");
        }
        let text = "tcp://10.0.0.7:8080";
        let (config, warnings) = from_environment(&[("SYSTEM_PROMPT", text)]);
        assert_eq!(config.unwrap().system_prompt.as_deref(), Some(text));
        assert!(warnings.is_empty(), "{warnings:?}");
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
    fn public_origins_are_a_list_without_paths() {
        let expected: Vec<Origin> =
            ["https://chat.example", "http://192.168.1.20:8080"].map(|origin| origin.parse().unwrap()).into();
        let given = "HTTPS://Chat.Example:443/, http://192.168.1.20:8080";
        assert_eq!(parse(&["--public-origin", given]).unwrap().public_origin, expected);
        for given in
            ["chat.example", "https://", "ftp://chat.example", "https://chat.example/chat", "*", "null", ","]
        {
            let error = parse(&["--public-origin", given]).unwrap_err();
            assert!(error.contains("--public-origin") && error.contains("such as https://chat"), "{error}");
        }
    }

    #[test]
    fn a_key_is_never_printed() {
        let config = parse(&["--engine-api-key", "hunter2"]).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(parse(&["--engine-api-key", "a\nb"]).unwrap_err().contains("visible ASCII"));
    }
}
