//! The files of the page, embedded in the program: no build step, no folder to deploy, nothing to read at run time.
//!
//! The page names each file with the hash of its content (`assets/chat.js?v=…`), so a browser may keep it for ever.
//! The hash is not part of the path: while replicas are being replaced, a page from the new one may load its files
//! from an old one, and then gets what is there, to be checked again next time.

use std::sync::LazyLock;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};

/// One file with its place in the cache.
#[derive(Debug)]
pub struct Asset {
    name: &'static str,
    content_type: &'static str,
    content: Bytes,
    version: String,
}

/// All files but the page itself.
static ASSETS: LazyLock<[Asset; 3]> = LazyLock::new(|| {
    [
        Asset::new("chat.css", "text/css; charset=utf-8", include_bytes!("../assets/chat.css").as_slice()),
        Asset::new(
            "chat.js",
            "text/javascript; charset=utf-8",
            include_bytes!("../assets/chat.js").as_slice(),
        ),
        Asset::new("icon.svg", "image/svg+xml", include_bytes!("../assets/icon.svg").as_slice()),
    ]
});

/// The file of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

impl Asset {
    /// A file that is sent as it is.
    #[must_use]
    pub fn new(name: &'static str, content_type: &'static str, content: impl Into<Bytes>) -> Self {
        let content = content.into();
        let version = format!("{:016x}", fnv1a(&content));
        Self { name, content_type, content, version }
    }

    /// Where the page finds it: relative, so that a proxy may serve us under any path.
    #[must_use]
    pub fn url(&self) -> String {
        format!("assets/{}?v={}", self.name, self.version)
    }

    /// The file, or 304 when the browser has it. `query` is that of the request.
    #[must_use]
    pub fn answer(&self, query: Option<&str>, request: &HeaderMap) -> Response<Full<Bytes>> {
        let etag = format!("\"{}\"", self.version);
        let is_known = request.get_all(header::IF_NONE_MATCH).iter().any(|value| matches(value, &etag));
        let is_exact = query.and_then(|query| query.strip_prefix("v=")) == Some(self.version.as_str());
        let cache = if is_exact { "public, max-age=31536000, immutable" } else { "no-cache" };

        let mut response = Response::new(Full::default());
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else {
            *response.body_mut() = Full::new(self.content.clone());
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        }
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
        if let Ok(etag) = HeaderValue::try_from(etag) {
            response.headers_mut().insert(header::ETAG, etag);
        }
        response
    }
}

/// `If-None-Match`: a list of tags, weak or not, or `*` (RFC 9110, section 13.1.2).
fn matches(if_none_match: &HeaderValue, etag: &str) -> bool {
    let Ok(list) = if_none_match.to_str() else { return false };
    list.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// FNV-1a, 64 bits. It only has to notice that we changed a file.
fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}
