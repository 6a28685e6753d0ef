//! Responses that are complete when they begin.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response, StatusCode};
use serde_json::Value;

/// What a connection sends.
pub(crate) type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// A JSON body.
pub(crate) fn json(status: StatusCode, body: &Value) -> Reply {
    reply(status, Some("application/json"), body.to_string())
}

/// A body for people.
pub(crate) fn text(body: &'static str) -> Reply {
    reply(StatusCode::OK, Some("text/plain; charset=utf-8"), body)
}

/// No body, and the methods that this path takes.
pub(crate) fn options(method: &Method) -> Reply {
    let mut reply = reply(StatusCode::NO_CONTENT, None, "");
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static(allow(method)));
    reply
}

/// What the header `Allow` says for a path that takes `method`.
pub(crate) fn allow(method: &Method) -> &'static str {
    if *method == Method::GET { "GET, HEAD, OPTIONS" } else { "POST, OPTIONS" }
}

fn reply(status: StatusCode, content_type: Option<&'static str>, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()).boxed_unsync());
    *reply.status_mut() = status;
    if let Some(content_type) = content_type {
        reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    reply
}
