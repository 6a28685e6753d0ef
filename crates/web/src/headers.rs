//! The headers that keep the page to itself, and the check that a request comes from this page.
//!
//! `Strict-Transport-Security` is absent on purpose: it belongs to whoever terminates TLS in front of this program.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Nothing but our own files may load, nothing may frame the page, and text cannot become script even by mistake.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";

const EVERYWHERE: [(HeaderName, &str); 8] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-embedder-policy"), "require-corp"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
];

/// Adds the security headers that every answer has.
pub fn protect(headers: &mut HeaderMap) {
    for (name, value) in EVERYWHERE {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// Whether a request may spend the engine's time: it comes from our own page, or from a program rather than a browser.
/// Browsers say where a request comes from and pages cannot change that: in `Sec-Fetch-Site`, older ones in `Origin`.
#[must_use]
pub fn is_same_origin(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin" || site == "none";
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
    let origin = origin.as_bytes();
    let origin = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
    origin.is_some() && origin == host
}

/// Whether the body is declared as JSON. A form of another site cannot declare that without asking first.
#[must_use]
pub fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn only_our_own_page_and_programs_are_same_origin() {
        for (expected, pairs) in [
            (true, &[][..]),
            (
                true,
                &[("sec-fetch-site", "same-origin"), ("origin", "https://a.example"), ("host", "inner:8080")],
            ),
            (true, &[("sec-fetch-site", "none")]),
            (false, &[("sec-fetch-site", "same-site")]),
            (false, &[("sec-fetch-site", "cross-site"), ("origin", "http://a:8080"), ("host", "a:8080")]),
            (true, &[("origin", "http://a:8080"), ("host", "a:8080")]),
            (true, &[("origin", "https://a"), ("host", "a")]),
            (false, &[("origin", "http://b:8080"), ("host", "a:8080")]),
            (false, &[("origin", "null"), ("host", "null")]),
            (false, &[("origin", "http://a")]),
        ] {
            assert_eq!(is_same_origin(&headers(pairs)), expected, "{pairs:?}");
        }
    }

    #[test]
    fn json_is_json_with_or_without_a_charset() {
        for (expected, value) in [
            (true, "application/json"),
            (true, "Application/JSON; charset=utf-8"),
            (false, "text/plain"),
            (false, "application/json-patch+json"),
            (false, "text/plain; application/json"),
        ] {
            assert_eq!(is_json(&headers(&[("content-type", value)])), expected, "{value}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
