//! Prompts that a cache cannot know: as many tokens as asked for, in an order of their own.

use anyhow::{Context as _, Result, bail};
use reqwest::Client;
use serde_json::{Value, json};

use crate::random::Random;
use crate::wire::{Api, Server};

/// Any vocabulary has these words, in one token or a few.
const WORDS: &str = "the water of a small river runs under an old bridge and down to the sea where people go out in boats \
                     every day to bring home fish for their children or sit in the sun and talk about what they will do next year";

/// What prompts are made of.
pub(crate) enum Prompts {
    /// Token ids of the server's own vocabulary.
    Tokens(Vec<u32>),
    /// Words, each of about one token.
    Words,
}

impl Prompts {
    /// Asks the server which tokens there are, when prompts are given as tokens.
    pub(crate) async fn of(server: &Server) -> Result<Self> {
        if server.api == Api::Chat {
            return Ok(Self::Words);
        }
        let request =
            server.post(&Client::builder().no_proxy().build()?, "/tokenize", &json!({"content": WORDS}));
        let response = request.send().await.with_context(|| format!("{} does not answer", server.url))?;
        let status = response.status();
        let body: Value =
            response.json().await.with_context(|| format!("/tokenize answered {status} without JSON"))?;
        let ids = body["tokens"].as_array().into_iter().flatten().filter_map(Value::as_u64);
        let mut ids: Vec<_> = ids.filter_map(|id| u32::try_from(id).ok()).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.len() < 2 {
            bail!("/tokenize answered {status}: {body}");
        }
        Ok(Self::Tokens(ids))
    }

    /// The prompt with this number, as it stands in a request.
    pub(crate) fn prompt(&self, number: u64, tokens: usize) -> Value {
        let mut random = Random::new(number);
        match self {
            Self::Tokens(ids) => (0..tokens).map(|_| *random.choose(ids)).collect(),
            Self::Words => {
                let words: Vec<_> = WORDS.split_whitespace().collect();
                let words: Vec<_> = (0..tokens).map(|_| *random.choose(&words)).collect();
                words.join(" ").into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_has_the_tokens_asked_for_and_each_its_own() {
        let prompts = Prompts::Tokens((10..90).collect());
        let prompt = |number| prompts.prompt(number, 50);
        assert_eq!(prompt(1).as_array().map(Vec::len), Some(50));
        assert_eq!(prompt(1), prompt(1));
        assert_ne!(prompt(1), prompt(2));
        let words = Prompts::Words.prompt(3, 50);
        assert_eq!(words.as_str().map(|text| text.split(' ').count()), Some(50));
    }
}
