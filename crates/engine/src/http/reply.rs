//! Responses.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response, StatusCode};
use serde::Serialize;

use super::body::Share;

/// What a connection sends.
pub(crate) type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;

pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Reply {
    json_reply(status, full(to_json(body)))
}

/// A JSON body and nothing wrong.
pub(crate) fn ok(body: &impl Serialize) -> Reply {
    json(StatusCode::OK, body)
}

/// A body that is JSON already.
pub(crate) fn json_bytes(body: Vec<u8>) -> Reply {
    json_reply(StatusCode::OK, full(body))
}

/// A body that is JSON when all parts of it were sent; each is made when the one before it is gone.
pub(crate) fn json_parts(mut parts: impl Iterator<Item = Vec<u8>> + Send + 'static) -> Reply {
    let first = parts.next().unwrap_or_default();
    let Some(second) = parts.next() else { return json_bytes(first) };
    let frames = [first, second].into_iter().chain(parts).map(|part| Ok(Frame::data(part.into())));
    json_reply(StatusCode::OK, StreamBody::new(stream::iter(frames)).boxed_unsync())
}

pub(crate) fn to_json(value: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::new();
    write_json(value, &mut out);
    out
}

/// Appends a value as JSON.
pub(crate) fn write_json(value: &impl Serialize, out: &mut Vec<u8>) {
    // Cannot fail: what goes over the wire has strings for keys, and memory takes all that is written.
    serde_json::to_writer(out, value).ok();
}

/// The same, which keeps a share of the room for bodies until it is sent or given up: what it is made of is as large as that body.
pub(crate) fn with_share(reply: Reply, share: Share) -> Reply {
    reply.map(|body| {
        let keep = move |frame| {
            let _kept = &share;
            frame
        };
        body.map_frame(keep).boxed_unsync()
    })
}

/// A body for people.
pub(crate) fn text(body: &'static str) -> Reply {
    text_as("text/plain; charset=utf-8", body)
}

/// A text of another type.
pub(crate) fn text_as(content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    reply(StatusCode::OK, Some(content_type), full(body))
}

/// No body, and the methods that this path takes.
pub(crate) fn options(method: &Method) -> Reply {
    let mut reply = reply(StatusCode::NO_CONTENT, None, full(""));
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static(allow(method)));
    reply
}

/// What the header `Allow` says for a path that takes `method`.
pub(crate) fn allow(method: &Method) -> &'static str {
    if *method == Method::GET { "GET, HEAD, OPTIONS" } else { "POST, OPTIONS" }
}

fn full(body: impl Into<Bytes>) -> UnsyncBoxBody<Bytes, Infallible> {
    Full::new(body.into()).boxed_unsync()
}

fn json_reply(status: StatusCode, body: UnsyncBoxBody<Bytes, Infallible>) -> Reply {
    reply(status, Some("application/json"), body)
}

fn reply(
    status: StatusCode,
    content_type: Option<&'static str>,
    body: UnsyncBoxBody<Bytes, Infallible>,
) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    if let Some(content_type) = content_type {
        reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    reply
}
