//! A request's body, whole: bounded in size, in time, and in what all bodies together may take while they arrive.
//!
//! A message of usual length always finds room. Only what is longer counts, so that a thousand clients that send long bodies
//! slowly cannot take the memory that a small container has.

use std::time::Duration;

use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::conversation::MAX_BODY;
use crate::problem::Problem;

/// Time for a body to arrive.
const TIME: Duration = Duration::from_secs(30);
/// Bytes of a body that do not count.
const FREE: usize = 16 << 10;
/// Bytes that may be in memory beyond that, of all bodies together.
const SHARED: usize = 16 << 20;

/// The memory that long bodies share.
pub struct BodyMemory(Semaphore);

impl Default for BodyMemory {
    fn default() -> Self {
        Self(Semaphore::new(SHARED))
    }
}

impl BodyMemory {
    /// Reads a body to its end.
    pub async fn read(&self, body: Incoming) -> Result<BytesMut, Problem> {
        if body.size_hint().lower() > MAX_BODY as u64 {
            return Err(Problem::body_too_large());
        }
        timeout(TIME, self.collect(body)).await.unwrap_or_else(|_| Err(Problem::incomplete_body()))
    }

    async fn collect(&self, mut body: Incoming) -> Result<BytesMut, Problem> {
        let mut bytes = BytesMut::new();
        let mut shared = None;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame.map_err(|_| Problem::incomplete_body())?.into_data() else { continue };
            if bytes.len() + frame.len() > MAX_BODY {
                return Err(Problem::body_too_large());
            }
            let counted = |length: usize| length.saturating_sub(FREE);
            let more = counted(bytes.len() + frame.len()) - counted(bytes.len());
            // A body has at most MAX_BODY bytes, so the number fits.
            let permit = self.0.try_acquire_many(more as u32).map_err(|_| Problem::busy())?;
            match &mut shared {
                None => shared = Some(permit),
                Some(shared) => shared.merge(permit),
            }
            bytes.extend_from_slice(&frame);
        }
        Ok(bytes)
    }
}
