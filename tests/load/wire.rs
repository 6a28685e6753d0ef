//! The two protocols: what a request says, and what an event of its answer means.

use clap::ValueEnum;
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

/// Which protocol is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Api {
    /// `POST /completion` of llama.cpp
    Completion,
    /// `POST /v1/chat/completions` of OpenAI
    Chat,
}

/// A server and how it is spoken to.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) api: Api,
    pub(crate) key: Option<String>,
}

impl Server {
    pub(crate) fn post(&self, client: &Client, path: &str, body: &Value) -> RequestBuilder {
        let request = client.post(format!("{}{path}", self.url.trim_end_matches('/'))).json(body);
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }
}

/// What an event says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// A part of the answer.
    Piece,
    /// What was read and written; in llama.cpp's protocol also the end.
    Counts { prompt: usize, tokens: usize, is_end: bool },
    /// The answer is complete.
    End,
    /// The answer broke off.
    Error(String),
    /// Neither text nor a number: a role, a reason to finish, progress.
    Nothing,
}

impl Api {
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Completion => "/completion",
            Self::Chat => "/v1/chat/completions",
        }
    }

    /// A request for exactly `max_tokens` tokens, always the same ones, of which nothing is remembered.
    pub(crate) fn request(self, prompt: &Value, max_tokens: usize) -> Value {
        let mut body = json!({
            "stream": true, "temperature": 0, "max_tokens": max_tokens, "ignore_eos": true, "cache_prompt": false,
        });
        match self {
            Self::Completion => {
                body["prompt"] = prompt.clone();
                body["n_predict"] = max_tokens.into();
            }
            Self::Chat => {
                body["messages"] = json!([{"role": "user", "content": prompt}]);
                body["stream_options"] = json!({"include_usage": true});
            }
        }
        body
    }

    pub(crate) fn parse(self, data: &str) -> Said {
        if data == "[DONE]" {
            return Said::End;
        }
        let Ok(event) = serde_json::from_str::<Value>(data) else {
            return Said::Error(format!("not JSON: {data}"));
        };
        if let Some(error) = event.get("error") {
            return Said::Error(error.to_string());
        }
        let count = |value: &Value| value.as_u64().map(|count| count as usize);
        let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
        match self {
            Self::Completion => {
                let counts = (count(&event["tokens_evaluated"]), count(&event["tokens_predicted"]));
                match counts {
                    (Some(prompt), Some(tokens)) if event["stop"] == true => {
                        Said::Counts { prompt, tokens, is_end: true }
                    }
                    // Tokens that are not yet a whole character have no text.
                    _ if is_text(&event["content"])
                        || event["tokens"].as_array().is_some_and(|ids| !ids.is_empty()) =>
                    {
                        Said::Piece
                    }
                    _ => Said::Nothing,
                }
            }
            Self::Chat => {
                let usage = &event["usage"];
                match (count(&usage["prompt_tokens"]), count(&usage["completion_tokens"])) {
                    _ if is_text(&event["choices"][0]["delta"]["content"]) => Said::Piece,
                    (Some(prompt), Some(tokens)) => Said::Counts { prompt, tokens, is_end: false },
                    _ => Said::Nothing,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_llama_cpp_are_understood() {
        let check =
            |event: Value, said: Said| assert_eq!(Api::Completion.parse(&event.to_string()), said, "{event}");
        check(
            json!({"content": "a", "tokens": [1], "stop": false, "tokens_predicted": 1, "tokens_evaluated": 3}),
            Said::Piece,
        );
        check(json!({"content": "", "tokens": [1], "stop": false}), Said::Piece);
        check(json!({"content": "", "tokens": [], "stop": false}), Said::Nothing);
        let end = Said::Counts { prompt: 3, tokens: 7, is_end: true };
        check(json!({"content": "", "stop": true, "tokens_predicted": 7, "tokens_evaluated": 3}), end);
        check(json!({"error": {"code": 500}}), Said::Error(r#"{"code":500}"#.into()));
    }

    #[test]
    fn events_of_openai_are_understood() {
        let check =
            |event: Value, said: Said| assert_eq!(Api::Chat.parse(&event.to_string()), said, "{event}");
        check(json!({"choices": [{"delta": {"role": "assistant"}}]}), Said::Nothing);
        check(json!({"choices": [{"delta": {"content": "a"}}], "usage": null}), Said::Piece);
        let counts = Said::Counts { prompt: 3, tokens: 7, is_end: false };
        check(json!({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 7}}), counts);
        assert_eq!(Api::Chat.parse("[DONE]"), Said::End);
        assert_eq!(Api::Chat.parse("{"), Said::Error("not JSON: {".into()));
    }
}
