//! A connection whose other side has to read: one that stays full for too long fails, and one that we close waits until
//! what was written is read.
//!
//! Without the first a client that stops reading in mid-answer, but does not leave, would hold a slot for as long as it
//! likes. Without the second an answer to a request that was not read to its end would often be lost: bytes
//! that arrive for a closed connection reset it, and a reset discards what the other side has not read yet.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// How long the other side may take for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// To read something, when there is more than fits on the way.
    pub(crate) write: Duration,
    /// To close after we have, while it sends nothing.
    pub(crate) silence: Duration,
    /// To close after we have, in all.
    pub(crate) linger: Duration,
    /// Bytes that it may send meanwhile.
    pub(crate) discarded: usize,
}

/// `stream`, except that a write fails with [`io::ErrorKind::TimedOut`] when it makes no progress for `write`, and that a
/// shutdown is complete when the other side has closed too, or has had time for it; what it sends meanwhile is discarded.
#[derive(Debug)]
pub(crate) struct Impatient<S> {
    stream: S,
    limits: Limits,
    /// Runs while a write waits.
    timer: Option<Pin<Box<Sleep>>>,
    lingering: Option<Lingering>,
}

/// Our side is closed.
#[derive(Debug)]
struct Lingering {
    timer: Pin<Box<Sleep>>,
    deadline: Instant,
    /// Bytes that came since.
    discarded: usize,
}

impl<S> Impatient<S> {
    pub(crate) fn new(stream: S, limits: Limits) -> Self {
        Self { stream, limits, timer: None, lingering: None }
    }

    fn watch<T>(&mut self, context: &mut Context<'_>, progress: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.timer = None;
            return progress;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.limits.write)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, progress)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(context, progress)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, limits, lingering, .. } = &mut *self;
        if lingering.is_none() {
            ready!(Pin::new(&mut *stream).poll_shutdown(context))?;
        }
        let Lingering { timer, deadline, discarded } = lingering.get_or_insert_with(|| Lingering {
            timer: Box::pin(sleep(limits.silence)),
            deadline: Instant::now() + limits.linger,
            discarded: 0,
        });
        let mut bytes = [0; 4096];
        loop {
            // Reading may use up what this task is granted, and then the timer is never asked.
            if Instant::now() >= *deadline || *discarded > limits.discarded {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    *discarded += buffer.filled().len();
                    timer.as_mut().reset((Instant::now() + limits.silence).min(*deadline));
                }
                // It has closed, in order or not: there is nothing left to wait for.
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
        }
        timer.as_mut().poll(context).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    const LIMITS: Limits = Limits {
        write: Duration::from_millis(50),
        silence: Duration::from_millis(1200),
        linger: Duration::from_millis(2400),
        discarded: 1 << 10,
    };

    #[tokio::test]
    async fn a_write_fails_when_nobody_reads_and_only_then() {
        let (ours, mut theirs) = tokio::io::duplex(4);
        let mut ours = Impatient::new(ours, LIMITS);
        for _ in 0..3 {
            // In all longer than the limit, but there is progress each time.
            let (written, read) = tokio::join!(ours.write_all(b"1234"), async {
                sleep(Duration::from_millis(25)).await;
                theirs.read_exact(&mut [0; 4]).await
            });
            assert!(written.is_ok() && read.is_ok());
        }
        ours.write_all(b"1234").await.unwrap();
        let error = ours.write_all(b"5").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_shutdown_waits_for_the_other_side_but_not_for_ever() {
        async fn check(other_side: impl AsyncFnOnce(DuplexStream), expected: Duration) {
            let (ours, theirs) = tokio::io::duplex(4);
            let mut ours = Impatient::new(ours, LIMITS);
            let start = Instant::now();
            tokio::select! {
                result = ours.shutdown() => result.unwrap(),
                () = async {
                    other_side(theirs).await;
                    std::future::pending::<()>().await;
                } => {}
            }
            let elapsed = start.elapsed();
            assert!(elapsed >= expected && elapsed < expected + Duration::from_secs(1), "{elapsed:?}");
        }
        let tick = Duration::from_millis(20);
        check(async |theirs| drop(theirs), Duration::ZERO).await;
        let leaves_later = async |mut theirs: DuplexStream| {
            theirs.write_all(b"the rest of a long request").await.unwrap();
            sleep(tick).await;
        };
        check(leaves_later, tick).await;
        check(async |_theirs| std::future::pending().await, LIMITS.silence).await;
        let sends_for_ever = async |mut theirs: DuplexStream| {
            while theirs.write_all(b"more").await.is_ok() {
                sleep(tick).await;
            }
        };
        check(sends_for_ever, LIMITS.linger).await;
        let sends_too_much = async |mut theirs: DuplexStream| {
            while theirs.write_all(&[0; 64]).await.is_ok() {}
        };
        check(sends_too_much, Duration::ZERO).await;
    }
}
