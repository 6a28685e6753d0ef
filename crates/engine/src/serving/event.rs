//! What the engine thread tells about a request.

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
    /// Computing it failed.
    Failed(String),
}

/// What happens to a request, in order. The last is [`Event::Finish`] or [`Event::Failed`]; if the channel closes without one, the
/// engine is gone. Dropping it cancels the request.
pub(crate) type Events = mpsc::UnboundedReceiver<Event>;
