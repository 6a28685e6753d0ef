//! One connection from its first byte to its end.
//!
//! Whoever leaves takes the request along: its answer is a future that this connection owns, and dropping that stops all that
//! it has caused.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tracing::debug;

use super::exchange::{Answering, During, Exchange, Receiving, Stage};
use super::patience::{Impatient, Limits};
use super::places::Place;
use super::reply::Reply;
use super::request_head::{Explained, MAX_HEAD, MAX_HEADERS};
use super::socket::Socket;

/// Time to send the head of a request, and to keep a connection without one. Longer than the
/// pools of common clients keep theirs, so that it is the client that closes an idle connection.
const HEAD_TIME: Duration = Duration::from_secs(120);

/// What a client has time for: to take something of what is ready for it, and to close after we have.
const PATIENCE: Limits = Limits {
    write: Duration::from_secs(60),
    silence: Duration::from_secs(1),
    linger: Duration::from_secs(10),
    discarded: 64 << 20,
};

/// A request as it comes in.
pub(crate) type Request = hyper::Request<RequestBody>;
pub(crate) type RequestBody = During<Receiving, Incoming>;

/// Serves `stream`. When `stopping` becomes true it ends after the answer of its request, and at once if none is complete.
pub(crate) async fn serve<F: Future<Output = Reply>>(
    stream: TcpStream,
    place: Place,
    stopping: watch::Receiver<bool>,
    answer: impl Fn(Request, &Place) -> F,
) {
    let socket = Socket::new(stream);
    let exchange = Arc::new(Exchange::default());
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let answer = place.begin().then(|| {
            let (receiving, answering) = exchange.begin();
            let answer = answer(request.map(|body| During::new(body, receiving)), &place);
            (answer, answering)
        });
        async {
            // This connection is to be closed, just now.
            let Some((answer, answering)) = answer else { return std::future::pending().await };
            Ok::<_, Infallible>(finish(answer.await, answering, &place))
        }
    });
    let io = TokioIo::new(Explained::new(Impatient::new(socket.clone(), PATIENCE)));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS);
    let mut connection = pin!(http.serve_connection(io, service));

    let mut left = pin!(socket.clone().left());
    let mut lost = pin!(place.lost());
    let mut told_to_stop = pin!(told_to_stop(stopping));
    let (mut has_left, mut is_lost, mut stops) = (false, false, false);
    let result = poll_fn(|context| {
        if !stops && told_to_stop.as_mut().poll(context).is_ready() {
            stops = true;
            connection.as_mut().graceful_shutdown();
        }
        if let Poll::Ready(result) = connection.as_mut().poll(context) {
            return Poll::Ready(result);
        }
        has_left = has_left || left.as_mut().poll(context).is_ready();
        is_lost = is_lost || lost.as_mut().poll(context).is_ready();
        // hyper has had its turn, so what it still holds of an answer is what does not fit on the way.
        let ended = match exchange.stage() {
            Stage::NoRequest if socket.write_waits() => false,
            Stage::NoRequest => {
                place.end();
                stops || is_lost
            }
            Stage::Receiving => stops,
            Stage::Answering => has_left,
        };
        if ended { Poll::Ready(Ok(())) } else { Poll::Pending }
    });
    if let Err(error) = result.await {
        debug!(%error, "connection");
    }
}

async fn told_to_stop(mut stopping: watch::Receiver<bool>) {
    // Whoever could say so may be gone, which is the same.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// An answer on its way, which lasts until its end is written.
fn finish(
    mut reply: Reply,
    answering: Answering,
    place: &Place,
) -> hyper::Response<During<Answering, UnsyncBoxBody<Bytes, Infallible>>> {
    if place.is_reserved() {
        reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    reply.map(|body| During::new(body, answering))
}
