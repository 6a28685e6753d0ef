//! Where a request comes from: headers → whether it is our own page that asks.
//!
//! Origins are compared as origins (RFC 6454 §5), not as text: the host in any case, a default port like none. What a proxy
//! adds (`X-Forwarded-Host`, `Forwarded`) is not read, because without a proxy anybody can send it.

use std::str::FromStr;

use hyper::header::{self, HeaderMap, HeaderValue};
use reqwest::Url;

/// Longest part of a header's value that an error shows, in bytes.
const SHOWN: usize = 100;

/// Scheme, host and port of a page, as a browser writes them in `Origin`: in lower case and without a default port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

/// Not an origin; the text says what one looks like.
#[derive(Debug, thiserror::Error)]
#[error(
    "expected what the browser's address bar shows before the path, such as https://chat.example or http://192.168.1.20:8080"
)]
pub struct InvalidOrigin;

/// Why a request is not from our own page.
#[derive(Debug, thiserror::Error)]
pub enum Foreign {
    /// The browser says so.
    #[error("The browser says that the request comes from another site (Sec-Fetch-Site: \"{0}\").")]
    Site(String),
    /// The page has another address than the one that was asked.
    #[error(
        "The page comes from \"{origin}\" (Origin), but the request is for \"{host}\" (Host). If a proxy in front of this \
         server changes Host, set PUBLIC_ORIGIN to the address at which browsers open the page."
    )]
    Origin {
        /// What the browser sent, made harmless.
        origin: String,
        /// The same of what arrived as the name of this server; empty when nothing did.
        host: String,
    },
}

impl Origin {
    /// The origin of what `host` (`NAME` or `NAME:PORT`) serves over `scheme`.
    fn new(scheme: &str, host: &str) -> Option<Self> {
        // The parser of addresses would find a user, a path or a query in these, and would pass over white space.
        let is_host = !host.is_empty() && host.bytes().all(|byte| byte > b' ' && !br"/\?#@,".contains(&byte));
        let url = Url::parse(&format!("{scheme}://{host}")).ok().filter(|_| is_host)?;
        matches!(url.scheme(), "http" | "https").then(|| Self(url.origin().ascii_serialization()))
    }
}

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        let (scheme, host) = text.split_once("://").ok_or(InvalidOrigin)?;
        Self::new(scheme, host).ok_or(InvalidOrigin)
    }
}

/// Whether a request may spend the engine's time: it comes from our own page, or from a program rather than a browser.
/// Browsers say where a request comes from and pages cannot change that: in `Sec-Fetch-Site` (over https and on this
/// machine), else in `Origin`. The page is ours when it has the address that was asked, or one of `public`.
pub fn check(headers: &HeaderMap, public: &[Origin]) -> Result<(), Foreign> {
    if let Some(site) = headers.get("sec-fetch-site") {
        let is_ours = site == "same-origin" || site == "none";
        return if is_ours { Ok(()) } else { Err(Foreign::Site(shown(site))) };
    }
    let Some(sent) = headers.get(header::ORIGIN) else { return Ok(()) };
    // Two of them are no name: who sends that wants one to be checked and the other to be used.
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().filter(|_| hosts.next().is_none());

    let text = sent.to_str().unwrap_or_default();
    let origin: Option<Origin> = text.parse().ok();
    let asked = || Origin::new(text.split_once("://")?.0, host?.to_str().ok()?);
    if origin.is_some_and(|origin| public.contains(&origin) || asked().is_some_and(|asked| asked == origin)) {
        return Ok(());
    }
    Err(Foreign::Origin { origin: shown(sent), host: host.map(shown).unwrap_or_default() })
}

/// A header's value for a sentence: visible ASCII, and not long.
fn shown(value: &HeaderValue) -> String {
    let bytes = value.as_bytes();
    let end = if bytes.len() > SHOWN { "…" } else { "" };
    format!("{}{end}", bytes[..bytes.len().min(SHOWN)].escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderName;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for &(name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn check_all(public: &[&str], cases: &[(bool, &[(&'static str, &'static str)])]) {
        let public: Vec<Origin> = public.iter().map(|origin| origin.parse().unwrap()).collect();
        for (expected, pairs) in cases {
            assert_eq!(check(&headers(pairs), &public).is_ok(), *expected, "{pairs:?} with {public:?}");
        }
    }

    #[test]
    fn only_our_own_page_and_programs_may_ask() {
        check_all(
            &[],
            &[
                (true, &[]),
                (true, &[("sec-fetch-site", "same-origin"), ("origin", "https://a"), ("host", "inner:8080")]),
                (true, &[("sec-fetch-site", "none")]),
                (false, &[("sec-fetch-site", "same-site")]),
                (false, &[("sec-fetch-site", "cross-site"), ("origin", "http://a:8080"), ("host", "a:8080")]),
                (true, &[("origin", "http://a:8080"), ("host", "a:8080")]),
                (true, &[("origin", "https://a"), ("host", "a")]),
                (false, &[("origin", "http://b:8080"), ("host", "a:8080")]),
                (false, &[("origin", "http://evil.example"), ("host", "a.example")]),
                (false, &[("origin", "null"), ("host", "null")]),
                (false, &[("origin", "http://a")]),
                (false, &[("origin", "ftp://a"), ("host", "a")]),
            ],
        );
    }

    #[test]
    fn a_default_port_and_the_case_of_a_name_make_no_difference() {
        check_all(
            &[],
            &[
                (true, &[("origin", "https://a.example"), ("host", "a.example:443")]),
                (true, &[("origin", "http://a.example"), ("host", "a.example:80")]),
                (true, &[("origin", "http://a.example:80"), ("host", "A.Example")]),
                (true, &[("origin", "http://[::1]:8080"), ("host", "[::1]:8080")]),
                (false, &[("origin", "https://a.example"), ("host", "a.example:80")]),
                (false, &[("origin", "http://a.example"), ("host", "a.example:443")]),
                (false, &[("origin", "http://a.example:8080"), ("host", "a.example")]),
            ],
        );
    }

    #[test]
    fn what_is_not_one_host_is_never_ours() {
        check_all(
            &[],
            &[
                (false, &[("origin", "http://a.example"), ("host", "a.example, a.example")]),
                (false, &[("origin", "http://a.example"), ("host", "a.example"), ("host", "a.example")]),
                (false, &[("origin", "http://a.example"), ("host", "a.example/")]),
                (false, &[("origin", "http://a.example"), ("host", "x@a.example")]),
                (false, &[("origin", "http://a.example"), ("host", "a.example:99999")]),
                (false, &[("origin", "http://a.example/"), ("host", "a.example")]),
                (false, &[("origin", "http://"), ("host", "")]),
            ],
        );
    }

    #[test]
    fn behind_a_proxy_the_public_origins_are_ours_too() {
        let public = ["http://chat.lan", "https://Chat.Example:443"];
        check_all(
            &public,
            &[
                (true, &[("origin", "http://chat.lan"), ("host", "web:8080")]),
                (true, &[("origin", "https://chat.example"), ("host", "web:8080")]),
                (true, &[("origin", "http://chat.lan"), ("host", "a.example, a.example")]),
                (true, &[("origin", "http://web:8080"), ("host", "web:8080")]),
                (false, &[("origin", "https://chat.lan"), ("host", "web:8080")]),
                (false, &[("origin", "http://chat.example"), ("host", "web:8080")]),
                (false, &[("origin", "http://evil.example"), ("host", "web:8080")]),
                (false, &[("sec-fetch-site", "cross-site"), ("origin", "http://chat.lan")]),
            ],
        );
    }

    #[test]
    fn what_a_proxy_might_have_added_is_not_believed() {
        let pairs = [("origin", "http://chat.lan"), ("host", "web:8080"), ("x-forwarded-host", "chat.lan")];
        let reason = check(&headers(&pairs), &[]).unwrap_err().to_string();
        for part in ["\"http://chat.lan\"", "\"web:8080\"", "PUBLIC_ORIGIN"] {
            assert!(reason.contains(part), "{reason}");
        }
    }

    #[test]
    fn what_an_error_shows_is_harmless_and_short() {
        let mut headers = HeaderMap::new();
        let long = [b"http://\"<b>\xff".as_slice(), &[b'x'; 9000]].concat();
        headers.insert(header::ORIGIN, HeaderValue::from_bytes(&long).unwrap());
        let reason = check(&headers, &[]).unwrap_err().to_string();
        assert!(reason.contains(r#""http://\"<b>\xff"#) && reason.len() < 500, "{reason}");
    }
}
