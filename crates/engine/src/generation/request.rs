//! A request that was checked.

use std::net::IpAddr;

use crate::sampling::SamplingParameters;

/// What to generate.
#[derive(Clone, Debug)]
pub(crate) struct GenerationRequest {
    pub prompt: Prompt,
    /// Tokens to generate at most. Together with the prompt they fit the context.
    pub max_tokens: usize,
    pub sampling: SamplingParameters,
    /// Texts that end the answer and are not part of it. None is empty.
    pub stop: Vec<String>,
    pub report: Report,
    /// Whether keys and values of an earlier request may be used, and later ones may use those of this one.
    pub cache_prompt: bool,
    pub client: Client,
}

/// Whose request it is. Clients have equal shares, and with keys none learns what another has asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    /// This program itself.
    Own,
    Address(IpAddr),
    /// Which of the server's keys it has.
    Key(usize),
}

/// What is told beside the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// How many of the likeliest alternatives to report for each token; `None`: no probabilities.
    pub logprobs: Option<usize>,
    /// Whether the tokens of the prompt are reported as well.
    pub prompt: bool,
}

/// Token ids, at least one, and fewer than the context has room for: whatever is admitted has something to compute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prompt(Vec<u32>);

/// Why tokens are no prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidPrompt {
    #[error("there is nothing to go on from: the prompt has no tokens")]
    Empty,
    #[error(
        "the prompt has {}{tokens} tokens, but the context has room for {context}, the answer included",
        if *.at_least { "at least " } else { "" }
    )]
    TooLong {
        tokens: usize,
        /// Whether they were not counted to the end.
        at_least: bool,
        context: usize,
    },
}

impl Prompt {
    /// Of token ids of the vocabulary, for a context of so many tokens.
    pub(crate) fn new(tokens: Vec<u32>, context: usize) -> Result<Self, InvalidPrompt> {
        match tokens.len() {
            0 => Err(InvalidPrompt::Empty),
            tokens if tokens >= context => Err(InvalidPrompt::TooLong { tokens, at_least: false, context }),
            _ => Ok(Self(tokens)),
        }
    }

    #[must_use]
    pub(crate) fn tokens(&self) -> &[u32] {
        &self.0
    }

    #[must_use]
    pub(crate) fn into_tokens(self) -> Vec<u32> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_has_a_token_and_leaves_room_for_one() {
        assert_eq!(Prompt::new(vec![], 8), Err(InvalidPrompt::Empty));
        assert_eq!(Prompt::new(vec![1; 7], 8).unwrap().tokens(), [1; 7]);
        for tokens in [8, 9] {
            let error = Prompt::new(vec![1; tokens], 8).unwrap_err();
            assert_eq!(error, InvalidPrompt::TooLong { tokens, at_least: false, context: 8 });
            assert!(error.to_string().contains(&format!("has {tokens} tokens")), "{error}");
        }
        let error = InvalidPrompt::TooLong { tokens: 9, at_least: true, context: 8 };
        assert!(error.to_string().contains("at least 9 tokens"), "{error}");
    }
}
