//! Who may talk to this server. It is meant for the programs on this machine, so the danger is a
//! web page: any page that the user visits can make the browser send requests to localhost.
//!
//! * A browser tells the page's origin with everything that a page may not simply read. Other
//!   origins than those of `--cors-origins` are refused.
//! * A page can have its own name resolve to 127.0.0.1 (DNS rebinding) and is then of the "same
//!   origin". While the server listens on loopback only, names other than localhost are refused,
//!   unless `--cors-origins *` lets every page in anyway.
//! * `--api-key` asks every client for a key.

use std::net::IpAddr;

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, AUTHORIZATION, HOST, HeaderMap, HeaderValue,
    ORIGIN, VARY,
};
use hyper::{Request, Uri};

use super::refusal::Refusal;
use super::reply::Reply;
use crate::config::Config;

#[derive(Debug)]
pub(crate) struct Guard {
    api_keys: Vec<String>,
    origins: Vec<String>,
    /// The name that the server was told to listen on.
    name: String,
    check_host: bool,
}

impl Guard {
    /// `local`: the server listens on loopback addresses only.
    pub(crate) fn new(config: &Config, local: bool) -> Self {
        let origins: Vec<_> =
            config.cors_origins.iter().map(|origin| origin.trim().to_ascii_lowercase()).collect();
        Self {
            api_keys: config.api_key.clone(),
            name: config.host.clone(),
            check_host: local && !origins.iter().any(|origin| origin == "*"),
            origins,
        }
    }

    /// Refuses what a foreign page may have sent.
    pub(crate) fn check_page<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        // A target may name a host as well, which then counts; a header that says something else is no reason to trust it.
        let named = [request.uri().host(), host(request.headers())?.map(without_port)];
        if let Some(host) = named.into_iter().flatten().find(|host| !self.is_our_name(host)) {
            return Err(Refusal::ForeignHost { host: host.to_owned() });
        }
        match request.headers().get(ORIGIN) {
            Some(origin) if !self.allows(origin) => Err(Refusal::ForeignOrigin {
                origin: String::from_utf8_lossy(origin.as_bytes()).into_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// Which of the keys a client has; `None` when none is asked for. Refuses those who need one and have none.
    pub(crate) fn check_key(&self, headers: &HeaderMap) -> Result<Option<usize>, Refusal> {
        if self.api_keys.is_empty() {
            return Ok(None);
        }
        let header = header(headers, AUTHORIZATION.as_str()).ok_or(Refusal::MissingKey)?;
        let (scheme, sent) = header.split_once(' ').ok_or(Refusal::MissingKey)?;
        // All are compared, so that the time says nothing about which.
        let found = self.api_keys.iter().enumerate().fold(None, |found, (index, key)| {
            if equal(sent.trim().as_bytes(), key.as_bytes()) { Some(index) } else { found }
        });
        found.filter(|_| scheme.eq_ignore_ascii_case("bearer")).map(Some).ok_or(Refusal::WrongKey)
    }

    /// Lets the page that sent the request read the reply.
    pub(crate) fn share(&self, request: &HeaderMap, reply: &mut Reply) {
        let Some(origin) = request.get(ORIGIN).filter(|origin| self.allows(origin)) else { return };
        let headers = reply.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(VARY, HeaderValue::from_static("origin"));
    }

    /// Answers a browser that asks before it sends a page's request.
    pub(crate) fn preflight(request: &HeaderMap, reply: &mut Reply) {
        let headers = reply.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, OPTIONS"));
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
        if let Some(wanted) = request.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        }
    }

    fn is_our_name(&self, host: &str) -> bool {
        !self.check_host || is_this_machine(host) || host.eq_ignore_ascii_case(&self.name)
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        let Ok(origin) = origin.to_str().map(str::to_ascii_lowercase) else { return false };
        self.origins.iter().any(|allowed| match allowed.as_str() {
            "*" => true,
            "localhost" => {
                let uri = origin.parse::<Uri>().ok();
                uri.as_ref().and_then(Uri::host).is_some_and(|host| {
                    is_local_name(host) || address(host).is_some_and(|address| address.is_loopback())
                })
            }
            listed => listed == origin,
        })
    }
}

/// What the header says, if it can mean one thing only.
fn host(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut all = headers.get_all(HOST).iter();
    let first = all.next().map(HeaderValue::to_str).transpose().map_err(|_| Refusal::MalformedHost)?;
    if all.next().is_some() { Err(Refusal::MalformedHost) } else { Ok(first) }
}

/// An address cannot be rebound, whatever it is; a name can, unless it is local by definition.
fn is_this_machine(host: &str) -> bool {
    address(host).is_some() || is_local_name(host)
}

fn is_local_name(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

fn address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Takes equally long for every wrong key of the right length, so that nobody can guess it byte by byte.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(arguments: &[&str], local: bool) -> Guard {
        let config = Config::parse([&["bitnet-engine"], arguments].concat()).unwrap();
        Guard::new(&config, local)
    }

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        let builder =
            headers.iter().fold(Request::builder(), |builder, (name, value)| builder.header(*name, *value));
        builder.body(()).unwrap()
    }

    fn check_page(guard: &Guard, name: &str, value: &str, allowed: bool) {
        assert_eq!(guard.check_page(&request(&[(name, value)])).is_ok(), allowed, "{name}: {value}");
    }

    #[test]
    fn on_loopback_only_local_names_and_addresses_are_hosts() {
        let guard = guard(&[], true);
        for (host, allowed) in [
            ("localhost:11434", true),
            ("LOCALHOST", true),
            ("127.0.0.1:11434", true),
            ("[::1]:11434", true),
            ("web.localhost:1", true),
            ("evil.example", false),
            ("localhost.evil.example:11434", false),
            ("", false),
        ] {
            check_page(&guard, "host", host, allowed);
        }
    }

    #[test]
    fn a_host_that_can_mean_two_things_is_refused_everywhere() {
        for guard in [guard(&[], true), guard(&["--host", "0.0.0.0"], false)] {
            let two = request(&[("host", "localhost"), ("host", "localhost")]);
            assert!(matches!(guard.check_page(&two), Err(Refusal::MalformedHost)));
            let mut not_ascii = request(&[]);
            not_ascii.headers_mut().insert(HOST, HeaderValue::from_bytes(b"evil.example\xff").unwrap());
            assert!(matches!(guard.check_page(&not_ascii), Err(Refusal::MalformedHost)));
        }
    }

    #[test]
    fn a_host_in_the_target_must_be_ours_and_so_must_the_header_beside_it() {
        let guard = guard(&[], true);
        for (target, header, allowed) in [
            ("http://localhost:1/health", "localhost", true),
            ("http://evil.example/health", "localhost", false),
            ("http://localhost/health", "evil.example", false),
            ("http://localhost@evil.example/health", "localhost", false),
        ] {
            let mut request = request(&[("host", header)]);
            *request.uri_mut() = target.parse().unwrap();
            assert_eq!(guard.check_page(&request).is_ok(), allowed, "{target} {header}");
        }
    }

    #[test]
    fn on_other_addresses_every_name_is_a_host() {
        check_page(&guard(&["--host", "0.0.0.0"], false), "host", "engine:11434", true);
    }

    #[test]
    fn a_server_for_all_pages_does_not_ask_for_its_name() {
        check_page(&guard(&["--cors-origins", "*"], true), "host", "engine.example", true);
    }

    #[test]
    fn the_configured_name_is_a_host() {
        check_page(&guard(&["--host", "engine.internal"], true), "host", "engine.internal:80", true);
    }

    #[test]
    fn only_local_pages_may_send_requests_unless_others_are_listed() {
        let local = guard(&[], true);
        let listed = guard(&["--cors-origins", "https://a.example,https://b.example:8"], true);
        let all = guard(&["--cors-origins", "*"], true);
        for (origin, by_local, by_list) in [
            ("http://localhost:3000", true, false),
            ("http://127.0.0.1", true, false),
            ("http://[::1]:8080", true, false),
            ("tauri://localhost", true, false),
            ("https://a.example", false, true),
            ("https://b.example:8", false, true),
            ("http://a.example", false, false),
            ("http://localhost.evil.example", false, false),
            ("null", false, false),
            ("", false, false),
        ] {
            check_page(&local, "origin", origin, by_local);
            check_page(&listed, "origin", origin, by_list);
            check_page(&all, "origin", origin, true);
        }
    }

    #[test]
    fn the_key_must_be_the_whole_key() {
        let guard = guard(&["--api-key", "secret"], true);
        for (value, allowed) in [
            ("Bearer secret", true),
            ("bearer secret", true),
            ("Bearer secre", false),
            ("Bearer secret2", false),
            ("Bearer SECRET", false),
            ("Basic secret", false),
            ("secret", false),
        ] {
            let request = request(&[("authorization", value)]);
            assert_eq!(guard.check_key(request.headers()).is_ok(), allowed, "{value}");
        }
        assert!(guard.check_key(request(&[]).headers()).is_err());
    }

    #[test]
    fn each_client_has_a_key_of_its_own() {
        let guard = guard(&["--api-key", "first,second"], true);
        for (key, index) in [("first", 0), ("second", 1)] {
            let request = request(&[("authorization", &format!("Bearer {key}"))]);
            assert_eq!(guard.check_key(request.headers()).ok(), Some(Some(index)));
        }
        let both = request(&[("authorization", "Bearer first,second")]);
        assert!(guard.check_key(both.headers()).is_err());
    }
}
