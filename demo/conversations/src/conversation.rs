//! What a conversation is: a few turns, each a question and its answer.

/// A question, its answer and the family that both are from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// What the person writes.
    pub user: String,
    /// What the model should answer.
    pub assistant: String,
    /// The name of the family.
    pub family: String,
}

/// One to four turns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// In the order in which they were spoken; never empty.
    pub turns: Vec<Turn>,
}
