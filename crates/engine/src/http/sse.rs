//! Server-sent events.

use serde::Serialize;

use super::reply::write_json;

/// One event. JSON has no line breaks outside of strings, and none inside them.
pub(crate) fn event(value: &impl Serialize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    write_json(value, out);
    out.extend_from_slice(b"\n\n");
}

/// OpenAI's mark at the end of a stream.
pub(crate) fn done(out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: [DONE]\n\n");
}

/// What readers skip. No empty line follows: there are decoders that take one for the end of an event without data.
pub(crate) fn comment(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(format!(": {text}\n").as_bytes());
}
