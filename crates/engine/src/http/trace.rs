//! Which request it is: an id for its log lines and its answer, the trace that it is a part of, and the one line that is written
//! about every request when its answer has been sent.
//!
//! Both come from the client if it sends what can be trusted in a log: [`REQUEST_ID`] of a bounded number of visible characters,
//! and `traceparent` as the W3C's Trace Context writes it. Neither headers nor queries nor bodies are ever logged.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Instant;

use http_body_util::BodyExt;
use hyper::Request;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use tracing::{Span, debug, info, info_span};

use super::exchange::During;
use super::reply::Reply;

/// The header with the id, in requests and answers.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Most bytes of an id.
const LONGEST_ID: usize = 128;
/// Most bytes of a path or a method in the log; what has more is none of this server.
const LONGEST: usize = 128;

/// What to call a request.
pub(crate) struct Trace {
    id: HeaderValue,
    access: Access,
}

/// A request that is answered; it is logged when this ends.
struct Access {
    span: Span,
    method: String,
    path: String,
    /// None for a client that left before it could be answered.
    status: Option<u16>,
    started: Instant,
    /// Asked so often that it would hide the others.
    is_probe: bool,
}

impl Trace {
    /// A request has come.
    pub(crate) fn begin<B>(request: &Request<B>, is_probe: bool) -> Self {
        let headers = request.headers();
        let id = single(headers, &REQUEST_ID).filter(|id| is_id(id.as_bytes()));
        let id = id.cloned().unwrap_or_else(new_id);
        let span = info_span!("request", id = id.to_str().unwrap_or_default(), trace = tracing::field::Empty);
        let parent = single(headers, &TRACEPARENT).and_then(|value| trace_id(value.as_bytes()));
        if let Some(trace) = parent {
            span.record("trace", trace);
        }
        let (method, path) = (shown(request.method().as_str()), shown(request.uri().path()));
        Self { id, access: Access { span, method, path, status: None, started: Instant::now(), is_probe } }
    }

    /// What log lines about this request belong to.
    pub(crate) fn span(&self) -> Span {
        self.access.span.clone()
    }

    /// The answer, with the id; the request is logged when it has been sent, or given up.
    pub(crate) fn finish(self, mut reply: Reply) -> Reply {
        let Self { id, mut access } = self;
        reply.headers_mut().insert(REQUEST_ID, id);
        access.status = Some(reply.status().as_u16());
        reply.map(|body| During::new(body, access).boxed_unsync())
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        let Self { span, method, path, status, started, is_probe } = self;
        let (_entered, seconds) = (span.enter(), started.elapsed().as_secs_f64());
        if *is_probe {
            debug!(%method, path, status, seconds, "request");
        } else {
            info!(%method, path, status, seconds, "request");
        }
    }
}

/// The header, if it is there once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut all = headers.get_all(name).iter();
    all.next().filter(|_| all.next().is_none())
}

/// Whether this can stand in a log, and in the header of an answer.
fn is_id(value: &[u8]) -> bool {
    (1..=LONGEST_ID).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic)
}

/// 128 bits in hexadecimal digits.
fn new_id() -> HeaderValue {
    // The standard library seeds its hash tables from the operating system.
    let random = || RandomState::new().build_hasher().finish();
    let id = format!("{:016x}{:016x}", random(), random());
    HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static("none"))
}

/// The trace in a `traceparent` of version 00: `00-<32 digits>-<16 digits>-<2 digits>`, hexadecimal and in lower case, where
/// neither trace nor parent is zero.
fn trace_id(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?;
    let mut parts = text.split('-');
    let [version, trace, parent, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    let is_hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_set = |part: &str| part.bytes().any(|byte| byte != b'0');
    let is_valid = parts.next().is_none()
        && version == "00"
        && is_hex(trace, 32)
        && is_hex(parent, 16)
        && is_hex(flags, 2)
        && is_set(trace)
        && is_set(parent);
    is_valid.then_some(trace)
}

/// A path or a method as the log has it, with a mark where it goes on, and nothing in it that could change how the line looks.
fn shown(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars() {
        if shown.len() >= LONGEST {
            shown.push('…');
            break;
        }
        if character.is_ascii_graphic() {
            shown.push(character);
        } else {
            shown.extend(character.escape_unicode());
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &[u8])]) -> HeaderMap {
        let parsed = all
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap()));
        parsed.collect()
    }

    #[track_caller]
    fn check_id(sent: &[&[u8]], kept: bool) {
        let mut request = Request::new(());
        for value in sent {
            request.headers_mut().append(REQUEST_ID, HeaderValue::from_bytes(value).unwrap());
        }
        let Trace { id, .. } = Trace::begin(&request, false);
        assert_eq!(sent.first().is_some_and(|sent| id == *sent), kept, "{sent:?} became {id:?}");
        assert!(kept || (id.len() == 32 && id.as_bytes().iter().all(u8::is_ascii_hexdigit)), "{id:?}");
    }

    #[test]
    fn an_id_is_kept_if_it_can_stand_in_a_log() {
        check_id(&[b"a"], true);
        check_id(&[b"6f1c-Z_9.:/+=~"], true);
        check_id(&[&[b'x'; LONGEST_ID]], true);
        check_id(&[], false);
        check_id(&[b""], false);
        check_id(&[&[b'x'; LONGEST_ID + 1]], false);
        check_id(&[b"two words"], false);
        check_id(&[b"tab\there"], false);
        check_id(&["größe".as_bytes()], false);
        check_id(&[b"\xff"], false);
        check_id(&[b"one", b"two"], false);
    }

    #[test]
    fn no_two_ids_are_the_same() {
        assert_ne!(new_id(), new_id());
    }

    #[test]
    fn a_traceparent_is_taken_as_the_standard_writes_it_and_not_otherwise() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(trace_id(good.as_bytes()), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        for bad in [
            "",
            "00",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47366-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-00",
            " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
        ] {
            assert_eq!(trace_id(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(trace_id(b"00-\xff"), None);
    }

    #[test]
    fn a_header_that_is_there_twice_says_nothing() {
        let one = headers(&[("traceparent", b"a")]);
        assert!(single(&one, &TRACEPARENT).is_some() && single(&one, &REQUEST_ID).is_none());
        let mut two = one;
        two.append(TRACEPARENT, HeaderValue::from_static("a"));
        assert!(single(&two, &TRACEPARENT).is_none());
    }

    #[test]
    fn a_long_path_is_marked_as_cut_and_has_nothing_but_visible_ascii() {
        assert_eq!(shown("/v1/models"), "/v1/models");
        let long = "/".repeat(LONGEST);
        assert_eq!(shown(&long), long);
        assert_eq!(shown(&(long.clone() + "x")), long.clone() + "…");
        // A character of two bytes, of which the first would be the last.
        assert_eq!(shown(&format!("{}é{long}", &long[1..])), format!("{}\\u{{e9}}…", &long[1..]));
        assert_eq!(shown("/a\u{9b}b\u{2028}"), "/a\\u{9b}b\\u{2028}");
    }
}
