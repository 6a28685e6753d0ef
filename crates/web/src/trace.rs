//! Which request it is: the id that its answer has and the engine's log as well, and the trace that it is a part of.
//!
//! A browser sends neither, a proxy often both. An id is taken if it can stand in a log; a trace is passed on as it came, and the
//! engine looks at it. The engine has the same rules in a file of the same name.

use std::hash::{BuildHasher, Hasher, RandomState};

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Most bytes of an id.
const LONGEST_ID: usize = 128;
/// Bytes of a `traceparent` of the version that there is.
const TRACEPARENT_BYTES: usize = 55;

/// The headers with which a request is passed on.
#[derive(Clone, Debug)]
pub struct Trace(HeaderMap);

impl Trace {
    /// By what the client says, or with a new id.
    #[must_use]
    pub fn of(request: &HeaderMap) -> Self {
        let mut headers = HeaderMap::new();
        let id = single(request, &REQUEST_ID).filter(|id| is_id(id.as_bytes()));
        headers.insert(REQUEST_ID, id.cloned().unwrap_or_else(new_id));
        let parent = single(request, &TRACEPARENT).filter(|value| value.len() == TRACEPARENT_BYTES);
        if let Some(parent) = parent {
            headers.insert(TRACEPARENT, parent.clone());
        }
        Self(headers)
    }

    /// For the engine.
    #[must_use]
    pub fn headers(&self) -> HeaderMap {
        self.0.clone()
    }

    /// For the answer.
    pub fn mark(&self, answer: &mut HeaderMap) {
        if let Some(id) = self.0.get(&REQUEST_ID) {
            answer.insert(REQUEST_ID, id.clone());
        }
    }
}

/// The header, if it is there once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut all = headers.get_all(name).iter();
    all.next().filter(|_| all.next().is_none())
}

/// Whether this can stand in a log, and in a header.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_id(sent: &[&[u8]], kept: bool) {
        let mut request = HeaderMap::new();
        for value in sent {
            request.append(REQUEST_ID, HeaderValue::from_bytes(value).unwrap());
        }
        let mut answer = HeaderMap::new();
        Trace::of(&request).mark(&mut answer);
        let id = &answer[REQUEST_ID];
        assert_eq!(sent.first().is_some_and(|sent| id == *sent), kept, "{sent:?} became {id:?}");
        assert!(kept || (id.len() == 32 && id.as_bytes().iter().all(u8::is_ascii_hexdigit)), "{id:?}");
    }

    #[test]
    fn an_id_is_kept_if_it_can_stand_in_a_log() {
        check_id(&[b"a-b.c:9"], true);
        check_id(&[&[b'x'; LONGEST_ID]], true);
        check_id(&[], false);
        check_id(&[b""], false);
        check_id(&[&[b'x'; LONGEST_ID + 1]], false);
        check_id(&[b"two words"], false);
        check_id(&[b"\xff"], false);
        check_id(&[b"one", b"two"], false);
    }

    #[test]
    fn a_trace_is_passed_on_if_it_has_the_length_of_one_and_nothing_else_is() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for (value, expected) in [(parent, Some(parent)), ("00-1-2-01", None), (&parent.repeat(9), None)] {
            let mut request = HeaderMap::new();
            request.insert(TRACEPARENT, value.parse().unwrap());
            request.insert("cookie", HeaderValue::from_static("a=b"));
            let passed = Trace::of(&request).headers();
            assert_eq!(passed.get(TRACEPARENT).and_then(|value| value.to_str().ok()), expected);
            assert_eq!(passed.len(), 1 + usize::from(expected.is_some()));
        }
    }
}
