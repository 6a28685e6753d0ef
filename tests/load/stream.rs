//! One request and its streamed answer, with the time at which each piece came.

use std::fmt;
use std::pin::Pin;
use std::time::{Duration, Instant};

use eventsource_stream::{Event, EventStreamError, Eventsource as _};
use futures_util::{Stream, StreamExt as _};
use reqwest::Client;
use serde_json::Value;
use tokio::time::timeout;

use crate::wire::{Said, Server};

/// Longer than any silence of a server that works: a prompt of thousands of tokens on a slow machine, behind others.
const PATIENCE: Duration = Duration::from_secs(600);

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) sent: Instant,
    /// When each piece came; a piece has one token, or a few that make a character together.
    pub(crate) pieces: Vec<Instant>,
    pub(crate) ended: Instant,
    /// As the server counts them.
    pub(crate) prompt_tokens: usize,
    pub(crate) tokens: usize,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server answered with this status.
    Status(u16),
    /// It does not listen, or closed before it answered.
    Connection,
    /// It said nothing for [`PATIENCE`].
    Silence,
    /// The answer broke off.
    Broken(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "{status}"),
            Self::Connection => f.write_str("no connection"),
            Self::Silence => write!(f, "silent for {PATIENCE:?}"),
            Self::Broken(why) => write!(f, "broken off: {why}"),
        }
    }
}

/// An answer that is being read; dropping it closes the connection.
pub(crate) struct Reading<'a> {
    server: &'a Server,
    events: Pin<Box<dyn Stream<Item = Result<Event, EventStreamError<reqwest::Error>>> + Send>>,
    answer: Answer,
    has_ended: bool,
}

impl<'a> Reading<'a> {
    /// Sends a request for exactly `max_tokens` tokens.
    pub(crate) async fn open(
        client: &Client,
        server: &'a Server,
        prompt: &Value,
        max_tokens: usize,
    ) -> Result<Self, Failure> {
        let request = server.post(client, server.api.path(), &server.api.request(prompt, max_tokens));
        let sent = Instant::now();
        let response = timeout(PATIENCE, request.send()).await.map_err(|_| Failure::Silence)?;
        let response = response.map_err(|_| Failure::Connection)?;
        if response.status() != 200 {
            return Err(Failure::Status(response.status().as_u16()));
        }
        let events = Box::pin(response.bytes_stream().eventsource());
        let answer = Answer { sent, pieces: Vec::new(), ended: sent, prompt_tokens: 0, tokens: 0 };
        Ok(Self { server, events, answer, has_ended: false })
    }

    /// When the next piece came; none at the end of a complete answer.
    pub(crate) async fn piece(&mut self) -> Result<Option<Instant>, Failure> {
        loop {
            let event = timeout(PATIENCE, self.events.next()).await.map_err(|_| Failure::Silence)?;
            let now = Instant::now();
            let Some(event) = event else {
                let end = if self.has_ended { Ok(None) } else { Err(Failure::Broken("no end".into())) };
                return end;
            };
            match self.server.api.parse(&event.map_err(|error| Failure::Broken(error.to_string()))?.data) {
                Said::Piece => {
                    self.answer.pieces.push(now);
                    return Ok(Some(now));
                }
                Said::Counts { prompt, tokens, is_end } => {
                    self.answer.prompt_tokens = prompt;
                    self.answer.tokens = tokens;
                    self.has_ended |= is_end;
                    self.answer.ended = now;
                }
                Said::End => {
                    self.has_ended = true;
                    self.answer.ended = now;
                }
                Said::Error(error) => return Err(Failure::Broken(error)),
                Said::Nothing => {}
            }
        }
    }

    /// Waits for the end of the stream.
    pub(crate) async fn whole(mut self) -> Result<Answer, Failure> {
        while self.piece().await?.is_some() {}
        Ok(self.answer)
    }
}

impl Answer {
    pub(crate) fn first_token_ms(&self) -> Option<f64> {
        self.pieces.first().map(|first| milliseconds(first.duration_since(self.sent)))
    }

    /// Times between one piece and the next.
    pub(crate) fn gaps_ms(&self) -> impl Iterator<Item = f64> {
        self.pieces.windows(2).map(|pair| milliseconds(pair[1].duration_since(pair[0])))
    }

    /// Tokens a second from the first piece to the last. The first token is the prompt's work.
    pub(crate) fn pace(&self) -> Option<f64> {
        let time = self.pieces.last()?.duration_since(*self.pieces.first()?).as_secs_f64();
        (time > 0.0).then(|| self.tokens.saturating_sub(1) as f64 / time)
    }
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_from_the_request_and_from_piece_to_piece() {
        let sent = Instant::now();
        let after = |ms| sent + Duration::from_millis(ms);
        let pieces = vec![after(100), after(110), after(150)];
        let answer = Answer { sent, pieces, ended: after(151), prompt_tokens: 4, tokens: 3 };
        assert_eq!(answer.first_token_ms(), Some(100.0));
        assert_eq!(answer.gaps_ms().collect::<Vec<_>>(), [10.0, 40.0]);
        assert_eq!(answer.pace(), Some(40.0));
        let at_once = Answer { pieces: vec![after(1)], tokens: 1, ..answer };
        assert_eq!((at_once.gaps_ms().count(), at_once.pace()), (0, None));
    }
}
