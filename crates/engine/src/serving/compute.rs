//! What computes: a model, or something that answers as if it were one.

use crate::kv::PageCopy;
use crate::logits::Logits;
use crate::model::{ForwardError, Inference, LogitRequest, Run};

/// Runs of tokens in, logits out. The thread of the engine owns it.
pub(crate) trait Compute: Send + 'static {
    /// Copies what a page of the KV cache holds.
    fn copy_page(&mut self, copy: PageCopy);

    /// Computes tokens, and keeps the states after those that logits are wanted for.
    fn forward(&mut self, runs: &[Run<'_>]) -> Result<(), ForwardError>;

    /// Finds the logits of those states, in one pass for all.
    fn select<T: IntoIterator<Item = u32>>(
        &mut self,
        requests: impl IntoIterator<Item = LogitRequest<T>>,
    ) -> Result<(), ForwardError>;

    /// What was found for a row.
    fn found(&mut self, row: usize) -> Result<Logits<'_>, ForwardError>;
}

impl Compute for Inference {
    fn copy_page(&mut self, PageCopy { from, to }: PageCopy) {
        Self::copy_page(self, from, to);
    }

    fn forward(&mut self, runs: &[Run<'_>]) -> Result<(), ForwardError> {
        Self::forward(self, runs)
    }

    fn select<T: IntoIterator<Item = u32>>(
        &mut self,
        requests: impl IntoIterator<Item = LogitRequest<T>>,
    ) -> Result<(), ForwardError> {
        self.select_all(requests)
    }

    fn found(&mut self, row: usize) -> Result<Logits<'_>, ForwardError> {
        Self::found(self, row)
    }
}
