//! Request bodies: bounded in size and in time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::header::{CONTENT_LENGTH, EXPECT};

use super::connection::{Request, RequestBody};
use super::refusal::Refusal;

/// Time in which a client must have sent the whole body.
const TIME: Duration = Duration::from_secs(30);

/// How much more than the limit is read, to throw it away. A client that still writes when the
/// connection is closed may never see the answer that says why.
const DRAIN: usize = 16;

/// The whole body.
pub(crate) async fn read(request: Request, limit: usize) -> Result<Bytes, Refusal> {
    let announced =
        request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| length > limit) && request.headers().contains_key(EXPECT) {
        // This client waits for permission to send: refuse before it does.
        return Err(Refusal::BodyTooLarge { limit });
    }
    let read = read_frames(request.into_body(), limit);
    tokio::time::timeout(TIME, read).await.unwrap_or(Err(Refusal::BodyTooSlow(TIME)))
}

async fn read_frames(mut body: RequestBody, limit: usize) -> Result<Bytes, Refusal> {
    let mut bytes = BytesMut::new();
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(Refusal::BodyIncomplete)?.into_data() else { continue };
        length += data.len();
        if length <= limit {
            bytes.extend_from_slice(&data);
        } else if length > limit.saturating_mul(DRAIN) {
            break;
        }
    }
    if length > limit { Err(Refusal::BodyTooLarge { limit }) } else { Ok(bytes.freeze()) }
}
