//! Rows as the scheduler still gives them, until it gives runs.

use super::forward::Inference;
use super::run::{ForwardError, Run, Wanted};

/// One token of a forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Token id.
    pub token: u32,
    /// Which sequence it belongs to.
    pub slot: usize,
    /// Its position in the sequence, from 0.
    pub position: usize,
    /// Whether the logits after it are wanted.
    pub logits: bool,
}

impl Inference {
    /// [`Inference::forward`] with rows of which those of a slot follow each other.
    pub fn forward_rows(&mut self, rows: &[Row]) -> Result<(), ForwardError> {
        let tokens: Vec<u32> = rows.iter().map(|row| row.token).collect();
        let follows = |a: &Row, b: &Row| a.slot == b.slot && a.position + 1 == b.position;
        let mut runs = Vec::new();
        let mut first = 0;
        for rows in rows.chunk_by(follows) {
            let logits = match rows {
                [_, .., Row { logits: true, .. }] if !rows[0].logits => Wanted::Last,
                [Row { logits: true, .. }, ..] => Wanted::All,
                _ => Wanted::None,
            };
            let tokens = &tokens[first..first + rows.len()];
            runs.push(Run { slot: rows[0].slot, start: rows[0].position, tokens, logits });
            first += rows.len();
        }
        self.forward(&runs)
    }
}
