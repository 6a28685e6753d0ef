//! The `messages` of a chat request.

use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::value::{Scalar, must_be};
use crate::api::error::ApiError;
use crate::chat_template::Message;

/// Messages of a conversation: each is at least some tokens, and no context has room for so many.
const MESSAGES: usize = 1 << 16;

/// As they are on the wire.
#[derive(Debug)]
pub(in crate::api) struct Messages(Vec<Turn>);

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object with `role` and `content`")]
struct Turn {
    role: Option<Role>,
    content: Option<Content>,
    tool_calls: Option<Calls>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    System,
    User,
    Assistant,
    Tool,
}

#[derive(Debug)]
enum Content {
    Text(String),
    /// The place of a part that is no text.
    Other(usize),
}

/// Whether there are any.
#[derive(Debug)]
struct Calls(bool);

impl Messages {
    /// Those of a field, which must be there; at least one.
    pub(in crate::api) fn required(field: Option<Self>) -> Result<Vec<Message>, ApiError> {
        let Self(turns) = field.ok_or_else(|| ApiError::missing("messages"))?;
        turns.into_iter().enumerate().map(|(index, turn)| turn.message(index)).collect()
    }
}

impl Turn {
    fn message(self, index: usize) -> Result<Message, ApiError> {
        let place = |field: &str| format!("messages[{index}].{field}");
        let unsupported = |field: String, reason| Err(ApiError::Unsupported { field, reason });
        let role = match self.role {
            Some(Role::System) => "system",
            Some(Role::User) => "user",
            Some(Role::Assistant) => "assistant",
            Some(Role::Tool) => return unsupported(place("role"), "this model cannot call tools"),
            None => return Err(ApiError::Missing { field: place("role") }),
        };
        if self.tool_calls.is_some_and(|Calls(any)| any) {
            return unsupported(place("tool_calls"), "this model cannot call tools");
        }
        let content = match self.content {
            Some(Content::Text(text)) => text,
            Some(Content::Other(part)) => {
                return unsupported(place(&format!("content[{part}].type")), "this model reads text only");
            }
            None if role == "assistant" => String::new(),
            None => return Err(ApiError::Missing { field: place("content") }),
        };
        Ok(Message { role: role.to_owned(), content })
    }
}

impl<'de> Deserialize<'de> for Messages {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Turns;

        impl<'de> Visitor<'de> for Turns {
            type Value = Messages;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of at least one message")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Messages, A::Error> {
                let mut turns = Vec::new();
                while let Some(turn) = items.next_element()? {
                    if turns.len() == MESSAGES {
                        return Err(must_be(format_args!("at most {MESSAGES} messages"), "more"));
                    }
                    turns.push(turn);
                }
                if turns.is_empty() {
                    return Err(must_be("an array of at least one message", "an empty array"));
                }
                Ok(Messages(turns))
            }
        }

        deserializer.deserialize_any(Turns)
    }
}

impl<'de> Deserialize<'de> for Role {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let role = Scalar::deserialize(deserializer)?;
        match role.text() {
            // The newer name of the same role.
            Some("system" | "developer") => Ok(Self::System),
            Some("user") => Ok(Self::User),
            Some("assistant") => Ok(Self::Assistant),
            Some("tool" | "function") => Ok(Self::Tool),
            _ => Err(must_be("one of system, developer, user, assistant", role)),
        }
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrParts;

        impl<'de> Visitor<'de> for TextOrParts {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of parts")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Content, E> {
                Ok(Content::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Content, A::Error> {
                let (mut text, mut other, mut index) = (String::new(), None, 0);
                while let Some(part) = parts.next_element()? {
                    match part {
                        Part::Text(part) => text.push_str(&part),
                        Part::Other => other = other.or(Some(index)),
                    }
                    index += 1;
                }
                Ok(other.map_or(Content::Text(text), Content::Other))
            }
        }

        deserializer.deserialize_any(TextOrParts)
    }
}

enum Part {
    Text(String),
    Other,
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(expecting = "an object with a `type`")]
        struct Fields<'a> {
            #[serde(borrow, rename = "type")]
            kind: Option<Scalar<'a>>,
            #[serde(borrow)]
            text: Option<Scalar<'a>>,
        }

        let Fields { kind, text } = Fields::deserialize(deserializer)?;
        match (kind.as_ref().and_then(Scalar::text), text) {
            (Some("text"), Some(Scalar::Text(text))) => Ok(Self::Text(text.into_owned())),
            (Some("text"), _) => Err(D::Error::custom("must have a `text` that is a string")),
            (Some(_), _) => Ok(Self::Other),
            (None, _) => Err(D::Error::custom("must have a `type` that is a string")),
        }
    }
}

impl<'de> Deserialize<'de> for Calls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(!matches!(Scalar::deserialize(deserializer)?, Scalar::Array { empty: true })))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::parse;
    use super::*;

    #[derive(Deserialize)]
    struct Body {
        messages: Option<Messages>,
    }

    fn read(messages: &Value) -> Result<Vec<(String, String)>, String> {
        let body = json!({ "messages": messages }).to_string();
        let read = parse(body.as_bytes()).and_then(|Body { messages }| Messages::required(messages));
        let messages = read.map_err(|error| error.to_string())?;
        Ok(messages.into_iter().map(|message| (message.role, message.content)).collect())
    }

    #[test]
    fn content_is_a_string_or_an_array_of_text_parts() {
        let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
        let messages = json!([{"role": "developer", "content": parts}, {"role": "user", "content": "hi\n"},
                              {"role": "assistant", "content": null, "tool_calls": []}]);
        let expected = [("system", "ab"), ("user", "hi\n"), ("assistant", "")];
        assert_eq!(read(&messages).unwrap(), expected.map(|(role, content)| (role.into(), content.into())));
    }

    #[test]
    fn an_error_names_the_place() {
        for (messages, place) in [
            (json!([]), "`messages`"),
            (json!("hi"), "`messages`"),
            (json!([1]), "`messages[0]`"),
            (json!([{"role": "robot", "content": "x"}]), "`messages[0].role`"),
            (json!([{"role": "tool", "content": "x"}]), "`messages[0].role`"),
            (json!([{"content": "x"}]), "`messages[0].role`"),
            (json!([{"role": "user"}]), "`messages[0].content`"),
            (json!([{"role": "user", "content": 5}]), "`messages[0].content`"),
            (json!([{"role": "user", "content": [{"type": "image_url"}]}]), "`messages[0].content[0].type`"),
            (json!([{"role": "user", "content": [{"type": "text"}]}]), "`messages[0].content[0]`"),
            (json!([{"role": "user", "content": [{}]}]), "`messages[0].content[0]`"),
            (json!([{"role": "user", "content": ["x"]}]), "`messages[0].content[0]`"),
            (json!([{"role": "assistant", "tool_calls": [{}]}]), "`messages[0].tool_calls`"),
        ] {
            let error = read(&messages).unwrap_err();
            assert!(error.starts_with(place), "{error}");
        }
        let many = vec![json!({"role": "user", "content": ""}); MESSAGES + 1];
        assert!(read(&many.into()).unwrap_err().contains("at most 65536 messages"));
    }
}
