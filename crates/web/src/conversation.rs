//! The messages of a chat: bytes from a browser → a [`Conversation`] that the engine can be asked, or the one field
//! that is wrong. Pure, and the only place where a browser's words are checked.

use serde::Serialize;
use serde_json::{Map, Value};

/// Largest request body, in bytes. A context of 4,096 tokens holds about 20 KiB of text, so this leaves room.
pub const MAX_BODY: usize = 1 << 20;
/// Most messages in one conversation.
pub const MAX_MESSAGES: usize = 512;
/// Longest message, in bytes of UTF-8.
pub const MAX_CONTENT: usize = 128 << 10;

/// Who said a [`Message`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The operator of this server.
    System,
    /// The person in the browser.
    User,
    /// The model, in its earlier answers.
    Assistant,
}

/// One turn, as it goes to the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Whose turn it was.
    pub role: Role,
    /// Plain text, not empty.
    pub content: String,
}

/// A chat that waits for an answer: not empty, within the limits, and the last word is the user's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Conversation(Vec<Message>);

/// What is wrong with a request body; the text names the field.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidConversation(String);

impl Conversation {
    /// Reads `{"message": "…"}` (one question) or `{"messages": [{"role": "user", "content": "…"}, …]}` (earlier turns
    /// too, oldest first). Fields with other names are ignored. `system_prompt`, when there is one, comes first.
    pub fn from_json(body: &[u8], system_prompt: Option<&str>) -> Result<Self, InvalidConversation> {
        let body: Value = serde_json::from_slice(body)
            .map_err(|error| InvalidConversation(format!("the body is not valid JSON: {error}")))?;
        let body = body.as_object().ok_or_else(|| must_be("the body", "a JSON object", &body))?;

        let mut messages = match (body.get("message"), body.get("messages")) {
            (Some(message), None) => {
                vec![Message { role: Role::User, content: text("message", message)? }]
            }
            (None, Some(messages)) => turns(messages)?,
            (None, None) => return invalid(r#"the body needs "message" or "messages""#),
            (Some(_), Some(_)) => {
                return invalid(r#"the body has both "message" and "messages"; one is enough"#);
            }
        };
        if let Some(content) = system_prompt {
            messages.insert(0, Message { role: Role::System, content: content.to_owned() });
        }
        Ok(Self(messages))
    }
}

fn turns(messages: &Value) -> Result<Vec<Message>, InvalidConversation> {
    let messages = messages.as_array().ok_or_else(|| must_be("messages", "an array", messages))?;
    if messages.len() > MAX_MESSAGES {
        return invalid(format!(
            "messages has {} entries; at most {MAX_MESSAGES} are accepted",
            messages.len()
        ));
    }
    let messages: Vec<_> = messages.iter().enumerate().map(turn).collect::<Result<_, _>>()?;
    match messages.last() {
        Some(Message { role: Role::User, .. }) => Ok(messages),
        Some(_) => invalid(r#"the last of messages must have the role "user""#),
        None => invalid("messages is empty"),
    }
}

fn turn((index, message): (usize, &Value)) -> Result<Message, InvalidConversation> {
    let name = format!("messages[{index}]");
    let message = message.as_object().ok_or_else(|| must_be(&name, "an object", message))?;
    let role = match field(message, &name, "role")?.as_str() {
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        // The system message is the operator's word (`SYSTEM_PROMPT`), not the browser's.
        _ => return invalid(format!(r#"{name}.role must be "user" or "assistant""#)),
    };
    let content = text(&format!("{name}.content"), field(message, &name, "content")?)?;
    Ok(Message { role, content })
}

fn field<'a>(
    object: &'a Map<String, Value>,
    name: &str,
    key: &str,
) -> Result<&'a Value, InvalidConversation> {
    object.get(key).ok_or_else(|| InvalidConversation(format!("{name}.{key} is missing")))
}

fn text(name: &str, value: &Value) -> Result<String, InvalidConversation> {
    let text = value.as_str().ok_or_else(|| must_be(name, "a string", value))?;
    if text.trim().is_empty() {
        return invalid(format!("{name} is empty"));
    }
    if text.len() > MAX_CONTENT {
        return invalid(format!("{name} has {} bytes; at most {MAX_CONTENT} are accepted", text.len()));
    }
    Ok(text.to_owned())
}

fn must_be(name: &str, expected: &str, found: &Value) -> InvalidConversation {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    InvalidConversation(format!("{name} must be {expected}, not {found}"))
}

fn invalid<T>(message: impl Into<String>) -> Result<T, InvalidConversation> {
    Err(InvalidConversation(message.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(body: &Value, system_prompt: Option<&str>, expected: &Value) {
        let conversation = Conversation::from_json(body.to_string().as_bytes(), system_prompt).unwrap();
        assert_eq!(serde_json::to_value(conversation).unwrap(), *expected);
    }

    fn check_refused(body: &str, reason: &str) {
        let error = Conversation::from_json(body.as_bytes(), None).unwrap_err().to_string();
        assert!(error.contains(reason), "{body} gave {error:?}, which lacks {reason:?}");
    }

    #[test]
    fn a_single_message_is_a_conversation_of_one_question() {
        check(&json!({"message": " Hi 👋 "}), None, &json!([{"role": "user", "content": " Hi 👋 "}]));
    }

    #[test]
    fn earlier_turns_are_kept_in_order() {
        let turns = json!([
            {"role": "user", "content": "1"},
            {"role": "assistant", "content": "2"},
            {"role": "user", "content": "3"},
        ]);
        check(&json!({"messages": turns, "temperature": 0}), None, &turns);
    }

    #[test]
    fn the_system_prompt_comes_first() {
        let question = json!({"role": "user", "content": "Hi"});
        let prompt = json!({"role": "system", "content": "Be brief."});
        check(&json!({"message": "Hi"}), Some("Be brief."), &json!([prompt, question]));
    }

    #[test]
    fn each_bad_field_is_named() {
        for (body, reason) in [
            ("", "not valid JSON"),
            (r#"{"message": "Hi"#, "not valid JSON"),
            (r#"{"message": "\ud83d"}"#, "not valid JSON"),
            ("[]", "the body must be a JSON object, not an array"),
            ("{}", r#"needs "message" or "messages""#),
            (r#"{"message": "a", "messages": []}"#, "both"),
            (r#"{"message": 3}"#, "message must be a string, not a number"),
            (r#"{"message": null}"#, "message must be a string, not null"),
            (r#"{"message": " \n"}"#, "message is empty"),
            (r#"{"messages": {}}"#, "messages must be an array, not an object"),
            (r#"{"messages": []}"#, "messages is empty"),
            (r#"{"messages": ["Hi"]}"#, "messages[0] must be an object, not a string"),
            (r#"{"messages": [{"content": "Hi"}]}"#, "messages[0].role is missing"),
            (r#"{"messages": [{"role": "user"}]}"#, "messages[0].content is missing"),
            (r#"{"messages": [{"role": "user", "content": true}]}"#, "messages[0].content must be a string"),
            (r#"{"messages": [{"role": "system", "content": "x"}]}"#, r#"must be "user" or "assistant""#),
            (r#"{"messages": [{"role": "assistant", "content": "x"}]}"#, r#"must have the role "user""#),
        ] {
            check_refused(body, reason);
        }
    }

    #[test]
    fn sizes_are_limited() {
        let long = "x".repeat(MAX_CONTENT + 1);
        check_refused(&json!({"message": long}).to_string(), "message has 131073 bytes; at most 131072");
        let many = vec![json!({"role": "user", "content": "x"}); MAX_MESSAGES + 1];
        check_refused(&json!({"messages": many}).to_string(), "messages has 513 entries; at most 512");
        check_refused(&"[".repeat(100_000), "not valid JSON");
    }
}
