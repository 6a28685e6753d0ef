//! A request's body, whole: bounded in size, in time, and in what all bodies together may take.
//!
//! A message of usual length always finds room. Only what is longer counts, until its answer has ended, so that clients with
//! long bodies cannot take the memory that a small container has, neither by sending slowly nor by waiting for the engine.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::conversation::MAX_BODY;
use crate::problem::Problem;

/// Time for a body to arrive.
const TIME: Duration = Duration::from_secs(30);
/// Bytes of a body that do not count.
const FREE: usize = 16 << 10;
/// Bytes of all bodies together beyond that. What is made of a body takes a few times as much.
const SHARED: usize = 6 << 20;

/// The memory that long bodies share.
pub struct BodyMemory(Arc<Semaphore>);

/// A body's share of it, given back when dropped; `None` for a short body.
pub type Share = Option<OwnedSemaphorePermit>;

impl Default for BodyMemory {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(SHARED)))
    }
}

impl BodyMemory {
    /// Reads a body to its end.
    pub async fn read(&self, body: Incoming) -> Result<(BytesMut, Share), Problem> {
        if body.size_hint().lower() > MAX_BODY as u64 {
            return Err(Problem::body_too_large());
        }
        timeout(TIME, self.collect(body)).await.unwrap_or_else(|_| Err(Problem::incomplete_body()))
    }

    async fn collect(&self, mut body: Incoming) -> Result<(BytesMut, Share), Problem> {
        let mut bytes = BytesMut::new();
        let mut share: Share = None;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame.map_err(|_| Problem::incomplete_body())?.into_data() else { continue };
            if bytes.len() + frame.len() > MAX_BODY {
                return Err(Problem::body_too_large());
            }
            let counted = |length: usize| length.saturating_sub(FREE);
            let more = counted(bytes.len() + frame.len()) - counted(bytes.len());
            if more > 0 {
                // A body has at most MAX_BODY bytes, so the number fits.
                let permit = Arc::clone(&self.0).try_acquire_many_owned(more as u32);
                let permit = permit.map_err(|_| Problem::busy())?;
                match &mut share {
                    None => share = Some(permit),
                    Some(share) => share.merge(permit),
                }
            }
            bytes.extend_from_slice(&frame);
        }
        Ok((bytes, share))
    }
}
