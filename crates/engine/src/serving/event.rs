//! What the engine thread tells about a request.

use std::time::Duration;

use super::handle::Place;
use crate::generation::{Finish, Piece, Token};
use tokio::sync::mpsc;

/// One thing that happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// A token of the prompt and how likely it was, if that was asked for. In order; the first token of a prompt has no probability.
    Prompt(Token),
    /// More text of the answer.
    Piece(Piece),
    /// The answer is complete.
    Finish(Finish),
    /// There is no answer, or no more of it.
    Failed(Failure),
}

/// Why an answer does not come to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the answer cannot be computed: {0}")]
    Computing(String),
    /// It took longer than a request may.
    #[error("the request took longer than {} s (--request-timeout)", .0.as_secs())]
    Timeout(Duration),
    #[error("the server is stopping")]
    Stopping,
}

/// What happens to a request, in order. The last is [`Event::Finish`] or [`Event::Failed`]; if there are no more without one, the
/// engine is gone. Dropping it cancels the request.
pub(crate) struct Events {
    pub(super) events: mpsc::UnboundedReceiver<Event>,
    /// Given up first: its place is free before the thread looks for those that are gone.
    pub(super) _place: Place,
}

impl Events {
    pub(crate) async fn recv(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn blocking_recv(&mut self) -> Option<Event> {
        self.events.blocking_recv()
    }
}
