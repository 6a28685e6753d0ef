//! How far the request of a connection is: coming in, being answered, or there is none.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use hyper::body::{Body, Frame, SizeHint};

/// Shared by a connection, which asks, and the request and the answer on it. hyper takes one request after the other.
#[derive(Default)]
pub(crate) struct Exchange {
    receiving: AtomicBool,
    answering: AtomicBool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Perhaps a part of a head is here.
    NoRequest,
    /// The head is here, the body is wanted and not complete.
    Receiving,
    /// Nothing more is expected of the client.
    Answering,
}

impl Exchange {
    pub(crate) fn stage(&self) -> Stage {
        match (self.answering.load(Ordering::Acquire), self.receiving.load(Ordering::Acquire)) {
            (false, _) => Stage::NoRequest,
            (true, true) => Stage::Receiving,
            (true, false) => Stage::Answering,
        }
    }

    /// Begins with the head; what is returned belongs to the request's body and to its answer.
    pub(crate) fn begin(self: &Arc<Self>) -> (Receiving, Answering) {
        self.receiving.store(true, Ordering::Release);
        self.answering.store(true, Ordering::Release);
        (Receiving(Arc::clone(self)), Answering(Arc::clone(self)))
    }
}

/// Lasts until the body is read or given up.
pub(crate) struct Receiving(Arc<Exchange>);

impl Drop for Receiving {
    fn drop(&mut self) {
        self.0.receiving.store(false, Ordering::Release);
    }
}

/// Lasts until hyper has taken the whole answer, or nobody makes one any more.
pub(crate) struct Answering(Arc<Exchange>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answering.store(false, Ordering::Release);
    }
}

/// A body, and what lasts as long as it does.
pub(crate) struct During<T, B> {
    body: B,
    lasts: Option<T>,
}

impl<T, B: Body> During<T, B> {
    pub(crate) fn new(body: B, lasts: T) -> Self {
        let lasts = if body.is_end_stream() { None } else { Some(lasts) };
        Self { body, lasts }
    }
}

impl<T: Unpin, B: Body + Unpin> Body for During<T, B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None)) {
            self.lasts = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{BodyExt, Empty, Full};

    use super::*;

    #[tokio::test]
    async fn a_request_is_received_until_its_body_is_read_or_dropped() {
        let exchange = Arc::new(Exchange::default());
        assert_eq!(exchange.stage(), Stage::NoRequest);
        let (receiving, answering) = exchange.begin();
        let mut body = During::new(Full::<Bytes>::from("text"), receiving);
        assert_eq!((exchange.stage(), body.size_hint().exact()), (Stage::Receiving, Some(4)));
        assert!(body.frame().await.is_some() && body.frame().await.is_none());
        assert_eq!(exchange.stage(), Stage::Answering);
        drop(answering);
        assert_eq!(exchange.stage(), Stage::NoRequest);

        let (receiving, _answering) = exchange.begin();
        drop(During::new(Full::<Bytes>::from("text"), receiving));
        assert_eq!(exchange.stage(), Stage::Answering);
    }

    #[test]
    fn nothing_is_expected_of_a_request_without_a_body() {
        let exchange = Arc::new(Exchange::default());
        let (receiving, _answering) = exchange.begin();
        let _body = During::new(Empty::<Bytes>::new(), receiving);
        assert_eq!(exchange.stage(), Stage::Answering);
    }
}
