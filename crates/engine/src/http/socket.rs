//! A socket that its connection can watch while hyper has it.
//!
//! hyper reads from a socket only while it has room for what comes: one byte too many behind a request, and it does not see
//! any more that the client leaves. The kernel tells that on its own, whatever is still unread.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// One of the two who have the socket: hyper reads and writes, the connection watches.
#[derive(Clone)]
pub(crate) struct Socket(Arc<Shared>);

struct Shared {
    stream: TcpStream,
    /// Something is ready for the client and does not fit on the way.
    write_waits: AtomicBool,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self(Arc::new(Shared { stream, write_waits: AtomicBool::new(false) }))
    }

    /// Whether what was written last still waits for room on the way.
    pub(crate) fn write_waits(&self) -> bool {
        self.0.write_waits.load(Ordering::Relaxed)
    }

    /// Resolves when the client has closed its side, or all of it, even if what it sent before is not read yet.
    pub(crate) async fn left(self) {
        // Of urgent data, which nobody sends, the kernel is not asked to tell: this waits for nothing but the end.
        let _ = self.0.stream.ready(Interest::PRIORITY).await;
    }

    fn poll_write_with(
        &self,
        context: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let stream = &self.0.stream;
        let progress = loop {
            match stream.poll_write_ready(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
            match write(stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => break Poll::Ready(done),
            }
        };
        self.0.write_waits.store(progress.is_pending(), Ordering::Relaxed);
        progress
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = &self.0.stream;
        loop {
            ready!(stream.poll_read_ready(context))?;
            match stream.try_read_buf(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(drop)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_with(context, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(context, |stream| stream.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&self.0.stream).shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    async fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, server) = tokio::join!(client, listener.accept());
        (Socket::new(server.unwrap().0), client.unwrap())
    }

    #[tokio::test]
    async fn a_client_that_left_is_noticed_whatever_is_unread() {
        let (socket, mut client) = pair().await;
        client.write_all(b"never read").await.unwrap();
        let mut left = Box::pin(socket.clone().left());
        assert!(timeout(Duration::from_millis(50), &mut left).await.is_err(), "it is still there");
        drop(client);
        timeout(Duration::from_secs(60), left).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_written_arrives_and_a_full_way_shows() {
        let (mut socket, mut client) = pair().await;
        socket.write_all(b"hello").await.unwrap();
        client.read_exact(&mut [0; 5]).await.unwrap();
        assert!(!socket.write_waits());
        let bytes = vec![7; 64 << 20];
        let mut write = Box::pin(async {
            socket.clone().write_all(&bytes).await.unwrap();
            socket.clone().shutdown().await.unwrap();
        });
        assert!(timeout(Duration::from_millis(50), &mut write).await.is_err());
        assert!(socket.write_waits());
        let mut received = Vec::new();
        let ((), read) = tokio::join!(write, client.read_to_end(&mut received));
        read.unwrap();
        assert!(received == bytes && !socket.write_waits());
        client.write_all(b"bye").await.unwrap();
        drop(client);
        let mut text = String::new();
        socket.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "bye");
    }
}
