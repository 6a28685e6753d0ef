//! The hub as this program sees it: a file and an offset go out, bytes and what is told about the file come in.
//!
//! Redirects are followed here, one by one: the hub's own answer has the size and the sha256 of the file, the host behind it
//! has the bytes, and the token is for the first and not for the second.

use std::time::Duration;

use reqwest::header::{
    AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, LOCATION, RANGE, RETRY_AFTER,
};
use reqwest::{Client, Response, StatusCode, Url, redirect};

use super::error::{Failure, HubError, innermost};
use super::transfer::Patience;
use super::{HubFile, Options};

/// More than any honest server needs.
const REDIRECTS: usize = 10;

pub(super) struct Remote {
    client: Client,
    endpoint: Url,
    token: Option<HeaderValue>,
    stall: Duration,
}

/// What is known about the content of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    /// In bytes.
    pub size: Option<u64>,
    /// 64 digits, lower case.
    pub sha256: Option<String>,
    /// What the server calls this content.
    pub etag: Option<String>,
}

/// Bytes on their way.
pub(super) struct Answer {
    /// Of the whole file.
    pub identity: Identity,
    /// Where in the file the bytes begin.
    pub offset: u64,
    body: Response,
    stall: Duration,
}

impl Remote {
    pub(super) fn new(options: &Options, patience: &Patience) -> Result<Self, HubError> {
        let client = Client::builder()
            .user_agent(concat!("bitnet-engine/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(patience.connect)
            .read_timeout(patience.stall)
            .build()
            .map_err(HubError::Client)?;
        Ok(Self {
            client,
            endpoint: options.endpoint.clone(),
            token: options.token.clone(),
            stall: patience.stall,
        })
    }

    /// The name of the hub.
    pub(super) fn host(&self) -> String {
        host(&self.endpoint)
    }

    /// Asks for the bytes of a file from `offset` on. A server may send the whole file all the same; [`Answer::offset`] tells.
    pub(super) async fn get(&self, file: &HubFile, offset: u64) -> Result<Answer, Failure> {
        let mut url = self.resolve(file);
        let mut identity = Identity::default();
        for _ in 0..REDIRECTS {
            let at_hub = url.origin() == self.endpoint.origin();
            let mut request = self.client.get(url.clone());
            if offset > 0 {
                request = request.header(RANGE, format!("bytes={offset}-"));
            }
            if let Some(token) = self.token.as_ref().filter(|_| at_hub) {
                request = request.header(AUTHORIZATION, token);
            }
            let response = request.send().await.map_err(|error| self.unreachable(&url, &error))?;
            if at_hub {
                identity.learn(response.headers());
            }
            if !response.status().is_redirection() {
                return self.accept(response, identity, offset);
            }
            url = self.next(&url, response.headers())?;
        }
        Err(HubError::Redirect { host: self.host(), problem: format!("more than {REDIRECTS} times") }.into())
    }

    fn resolve(&self, file: &HubFile) -> Url {
        let mut url = self.endpoint.clone();
        // An http or https address always has segments.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty();
            segments.extend(file.repository.split('/')).push("resolve");
            // A slash in a revision is percent-encoded, one in a file's path is not.
            segments.push(&file.revision).extend(file.file.split('/'));
        }
        url
    }

    /// Where a redirect leads.
    fn next(&self, from: &Url, headers: &HeaderMap) -> Result<Url, HubError> {
        let problem = |problem: &str| HubError::Redirect { host: host(from), problem: problem.to_owned() };
        let location = headers.get(LOCATION).and_then(|location| location.to_str().ok());
        let url = location.and_then(|location| from.join(location).ok());
        let url = url.ok_or_else(|| problem("to nowhere"))?;
        match url.scheme() {
            "https" => Ok(url),
            // Whoever has chosen http for the hub has chosen it.
            "http" if self.endpoint.scheme() == "http" => Ok(url),
            _ => Err(problem("from https to something that is not encrypted")),
        }
    }

    /// Bytes, or why there are none.
    fn accept(&self, response: Response, identity: Identity, offset: u64) -> Result<Answer, Failure> {
        let (status, headers, host) = (response.status(), response.headers(), host(response.url()));
        let range = header(headers, CONTENT_RANGE.as_str());
        let (offset, size) = match status {
            StatusCode::OK => (0, response.content_length()),
            StatusCode::PARTIAL_CONTENT => {
                let (begin, total) = range.and_then(parse_range).ok_or_else(|| {
                    Failure::passing(HubError::Broken {
                        bytes: offset,
                        cause: "the range that was sent is unclear".to_owned(),
                    })
                })?;
                (begin, total)
            }
            // What is here is not a beginning of what is there.
            StatusCode::RANGE_NOT_SATISFIABLE => return Err(Failure::passing(HubError::Replaced)),
            StatusCode::NOT_FOUND => return Err(HubError::NotFound.into()),
            // Elsewhere it is an address that has expired, or a filter on the way: nothing that a token would help.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
                if response.url().origin() == self.endpoint.origin() =>
            {
                return Err(HubError::Denied { host, status }.into());
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE | StatusCode::REQUEST_TIMEOUT => {
                let seconds = header(headers, RETRY_AFTER.as_str()).and_then(|text| text.parse().ok());
                let after = seconds.map(Duration::from_secs);
                let error = HubError::Busy { host, status, retry_after: after };
                return Err(Failure::Passing { error, after });
            }
            status if status.is_server_error() => {
                return Err(Failure::passing(HubError::Status { host, status }));
            }
            status => return Err(HubError::Status { host, status }.into()),
        };
        if let Some(content_type) = header(headers, CONTENT_TYPE.as_str())
            && content_type.trim_start().to_ascii_lowercase().starts_with("text/html")
        {
            return Err(HubError::Page { host, content_type: content_type.to_owned() }.into());
        }
        let mut identity = identity;
        if let (Some(expected), Some(found)) = (identity.size, size)
            && expected != found
        {
            return Err(HubError::Size { what: "the host that has the bytes", expected, found }.into());
        }
        identity.size = identity.size.or(size);
        identity.etag = identity.etag.or_else(|| header(headers, ETAG.as_str()).map(str::to_owned));
        Ok(Answer { identity, offset, body: response, stall: self.stall })
    }

    fn unreachable(&self, url: &Url, error: &reqwest::Error) -> Failure {
        Failure::passing(if error.is_timeout() && !error.is_connect() {
            HubError::Stalled(self.stall)
        } else {
            HubError::Unreachable { host: host(url), cause: innermost(error) }
        })
    }
}

impl Identity {
    /// Takes what the hub says about a file, whether it sends the file itself or only the address of it.
    fn learn(&mut self, headers: &HeaderMap) {
        if let Some(size) = header(headers, "x-linked-size").and_then(|size| size.parse().ok()) {
            self.size = Some(size);
        }
        if let Some(etag) = header(headers, "x-linked-etag") {
            let sum = etag.trim_start_matches("W/").trim_matches('"').to_ascii_lowercase();
            if sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                self.sha256 = Some(sum);
            }
            self.etag = Some(etag.to_owned());
        }
    }
}

impl Answer {
    /// The next bytes; `None` at the end of the body. `received` are those of the whole file that are here, for an error.
    pub(super) async fn chunk(&mut self, received: u64) -> Result<Option<bytes::Bytes>, Failure> {
        self.body.chunk().await.map_err(|error| {
            Failure::passing(if error.is_timeout() {
                HubError::Stalled(self.stall)
            } else {
                HubError::Broken { bytes: received, cause: innermost(&error) }
            })
        })
    }
}

/// `bytes 5-9/10` → (5, 10).
fn parse_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let begin = range.split_once('-')?.0.parse().ok()?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((begin, total))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
