//! What the engine thread tells about a request.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::generation::{Finish, Piece, Token};

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

/// What happens to a request, in order. The last is [`Event::Finish`] or [`Event::Failed`]; if the channel closes without one, the
/// engine is gone. Dropping it cancels the request.
pub(crate) type Events = mpsc::UnboundedReceiver<Event>;
