//! Limits of a request's head, and what is answered to one that is beyond them or cannot be read.
//!
//! hyper answers such a head itself, before anything of ours sees it: with a status, and nothing for the person who has to
//! find out what is wrong. It has no hook for that. To accept larger heads and refuse them
//! later would only move the limit, and every connection could then hold that much. So [`Explained`] recognizes hyper's
//! answer as it is written, by what no answer of ours has, a 4xx status without a body, and adds what all of ours have.
//!
//! hyper's own limit is where its buffer may grow no more. What arrives in one go may be up to twice as large, so [`check`]
//! looks again.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::Request;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::refusal::Refusal;
use super::reply;

/// Most bytes of a head.
pub(crate) const MAX_HEAD: usize = 64 << 10;
/// Most headers in it.
pub(crate) const MAX_HEADERS: usize = 100;

/// Whether a head that hyper has accepted is within [`MAX_HEAD`].
pub(crate) fn check<B>(request: &Request<B>) -> Result<(), Refusal> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let line = request.method().as_str().len() + target + "  HTTP/1.1\r\n\r\n".len();
    let fields = request.headers().iter();
    let fields = fields.map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    if line + fields.sum::<usize>() > MAX_HEAD {
        return Err(Refusal::HeadTooLarge);
    }
    Ok(())
}

/// `stream`, except that what hyper says about a head that it cannot read is said in full.
#[derive(Debug)]
pub(crate) struct Explained<S> {
    stream: S,
    /// What is still to be written of the answer that replaces hyper's.
    rest: Bytes,
}

impl<S: AsyncWrite + Unpin> Explained<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, rest: Bytes::new() }
    }

    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.rest.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(context, &self.rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.rest.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Explained<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Explained<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_rest(context))?;
        let Some(answer) = explained(bytes) else {
            return Pin::new(&mut self.stream).poll_write(context, bytes);
        };
        // It leaves with the flush, of which there is one after the last write.
        self.rest = answer;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // hyper's own answer is in one piece.
        if let [bytes] = slices {
            return self.poll_write(context, bytes);
        }
        ready!(self.poll_rest(context))?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_rest(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_rest(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// `written` with our headers and a body, when it is hyper's answer to a head that it cannot read.
fn explained(written: &[u8]) -> Option<Bytes> {
    let status = written.strip_prefix(b"HTTP/1.1 ").or_else(|| written.strip_prefix(b"HTTP/1.0 "))?;
    let refusal = match status.get(..4)? {
        b"400 " => Refusal::UnreadableHead,
        b"431 " => Refusal::HeadTooLarge,
        _ => return None,
    };
    let lines = std::str::from_utf8(written).ok()?.strip_suffix("\r\n\r\n")?.split("\r\n");
    let (length, kept): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with("content-length:"));
    if length != ["content-length: 0"] {
        return None;
    }

    let body = reply::to_json(&refusal.body());
    let (head, length) = (kept.join("\r\n"), body.len());
    let head = format!("{head}\r\ncontent-length: {length}\r\ncontent-type: application/json\r\n\r\n");
    Some([head.into_bytes(), body].concat().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const BARE: &str = "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\
         date: Wed, 25 Nov 2026 12:00:00 GMT\r\n\r\n";

    #[test]
    fn only_hyper_s_own_answer_is_changed() {
        for written in [
            "",
            "HTTP/1.1 431",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n",
            "data: HTTP/1.1 431 x\r\ncontent-length: 0\r\n\r\n",
            &BARE.replace("\r\n\r\n", "\r\n\r\nmore"),
        ] {
            assert_eq!(explained(written.as_bytes()), None, "{written:?}");
        }
    }

    #[test]
    fn the_answer_keeps_its_head_and_gets_a_type_and_a_body_of_the_right_length() {
        let answer = explained(BARE.as_bytes()).unwrap();
        let (head, body) = std::str::from_utf8(&answer).unwrap().split_once("\r\n\r\n").unwrap();
        let length = format!("\r\ncontent-length: {}\r\n", body.len());
        for line in [
            "HTTP/1.1 431 ",
            "\r\nconnection: close\r\n",
            "\r\ndate: Wed",
            "\r\ncontent-type: application/json",
            &length,
        ] {
            assert!(head.contains(line), "{line:?} is not in {head}");
        }
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["error"]["code"], "head_too_large");
    }

    #[tokio::test]
    async fn it_leaves_whole_through_a_narrow_stream() {
        let (ours, mut theirs) = tokio::io::duplex(7);
        let write = async move {
            let mut ours = Explained::new(ours);
            ours.write_all(BARE.as_bytes()).await?;
            ours.shutdown().await
        };
        let mut answer = Vec::new();
        let read = theirs.read_to_end(&mut answer);
        tokio::try_join!(write, read).unwrap();
        assert_eq!(Some(Bytes::from(answer)), explained(BARE.as_bytes()));
    }
}
