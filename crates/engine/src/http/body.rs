//! A request's body, whole: bounded in size, in time, and in what all bodies together may take.
//!
//! A short body always finds room. A long one has to find it before it is read, all of it, so that bodies cannot wait for each
//! other with parts of what they need; and keeps it until nobody needs its bytes.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::refusal::Refusal;

/// Time in which a client must have sent the whole body.
const TIME: Duration = Duration::from_secs(30);
/// Time for room to be free.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a body that do not count.
const FREE: usize = 16 << 10;
/// Bodies of the largest size for which there is room.
const LARGEST: usize = 8;

pub(crate) struct Bodies {
    limit: usize,
    room: Arc<Semaphore>,
}

/// A whole body, and its share of the room.
#[derive(Debug)]
pub(crate) struct Whole {
    bytes: BytesMut,
    share: Share,
}

/// A body's share of the room: none if it is short. Whoever keeps something as large as the body keeps this as well.
#[derive(Debug)]
pub(crate) struct Share(Option<OwnedSemaphorePermit>);

impl Whole {
    /// Gives the share to somebody who keeps it for longer than the bytes.
    pub(crate) fn take_share(&mut self) -> Share {
        Share(self.share.0.take())
    }
}

impl Deref for Whole {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Bodies {
    /// For bodies of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        let room = limit.saturating_mul(LARGEST).min(Semaphore::MAX_PERMITS);
        Self { limit, room: Arc::new(Semaphore::new(room)) }
    }

    /// Reads one to its end.
    pub(crate) async fn read<B>(&self, body: B) -> Result<Whole, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::error::Error,
    {
        let announced = body.size_hint();
        if announced.lower() > self.limit as u64 {
            // Also before a client that waits for permission begins to send.
            return Err(Refusal::BodyTooLarge { limit: self.limit });
        }
        let most = announced.upper().map_or(self.limit, |upper| self.limit.min(upper as usize));
        timeout(TIME, self.collect(body, most)).await.unwrap_or(Err(Refusal::BodyTooSlow(TIME)))
    }

    async fn collect<B>(&self, mut body: B, most: usize) -> Result<Whole, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::error::Error,
    {
        let (mut bytes, mut share) = (BytesMut::new(), None);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Refusal::BodyIncomplete(error.to_string()))?;
            let Ok(data) = frame.into_data() else { continue };
            let length = bytes.len() + data.len();
            if length > self.limit {
                return Err(Refusal::BodyTooLarge { limit: self.limit });
            }
            if length > FREE && share.is_none() {
                share = Some(self.share(most).await?);
                if let Some(exact) = body.size_hint().exact() {
                    bytes.reserve(data.len() + exact as usize);
                }
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Whole { bytes, share: Share(share) })
    }

    async fn share(&self, size: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        let share = timeout(PATIENCE, Arc::clone(&self.room).acquire_many_owned(size)).await;
        share.ok().and_then(Result::ok).ok_or(Refusal::Busy)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{FutureExt, StreamExt, stream};
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    use super::*;

    const LIMIT: usize = 100_000;

    fn body(bytes: usize) -> Full<Bytes> {
        vec![b' '; bytes].into()
    }

    /// Comes in pieces, does not say how long it is, and does not end.
    fn endless(pieces: usize, piece: usize) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let pieces = stream::iter(vec![Bytes::from(vec![b' '; piece]); pieces]).chain(stream::pending());
        StreamBody::new(pieces.map(|piece| Ok(Frame::data(piece))))
    }

    #[tokio::test]
    async fn a_body_has_at_most_as_many_bytes_as_allowed() {
        let bodies = Bodies::new(LIMIT);
        for bytes in [0, 1, FREE, FREE + 1, LIMIT] {
            assert_eq!(bodies.read(body(bytes)).await.unwrap().len(), bytes);
        }
        let refused = bodies.read(body(LIMIT + 1)).await;
        assert!(matches!(refused, Err(Refusal::BodyTooLarge { limit: LIMIT })));
        let refused = bodies.read(endless(10, LIMIT / 8)).now_or_never().unwrap();
        assert!(matches!(refused, Err(Refusal::BodyTooLarge { limit: LIMIT })));
        assert_eq!(bodies.room.available_permits(), LARGEST * LIMIT, "all is given back");
    }

    #[tokio::test]
    async fn long_bodies_share_what_there_is_and_short_ones_are_read_all_the_same() {
        let bodies = Bodies::new(LIMIT);
        let mut held = Vec::new();
        for _ in 0..LARGEST {
            held.push(bodies.read(body(LIMIT)).await.unwrap());
        }
        assert_eq!(bodies.room.available_permits(), 0);
        let mut waiting = Box::pin(bodies.read(body(FREE + 1)));
        assert!((&mut waiting).now_or_never().is_none());
        assert_eq!(bodies.read(body(FREE)).await.unwrap().len(), FREE);
        held.pop();
        assert_eq!(waiting.await.unwrap().len(), FREE + 1);
        drop(held);
        assert_eq!(bodies.room.available_permits(), LARGEST * LIMIT);
    }

    #[tokio::test]
    async fn a_body_that_stays_away_takes_nothing_along() {
        let bodies = Bodies::new(LIMIT);
        let mut slow = Box::pin(bodies.read(endless(2, FREE)));
        assert!((&mut slow).now_or_never().is_none());
        assert!(bodies.room.available_permits() < LARGEST * LIMIT);
        drop(slow);
        assert_eq!(bodies.room.available_permits(), LARGEST * LIMIT);
    }

    #[tokio::test]
    async fn waiting_for_room_has_an_end() {
        let bodies = Bodies::new(LIMIT);
        let _all = Arc::clone(&bodies.room).acquire_many_owned((LARGEST * LIMIT) as u32).await.unwrap();
        assert!(matches!(bodies.read(body(LIMIT)).await, Err(Refusal::Busy)));
    }
}
