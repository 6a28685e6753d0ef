//! The `messages` of a chat request.

use serde_json::Value;

use super::error::ApiError;
use super::fields::Fields;
use crate::chat_template::Message;

/// Reads them all; there is at least one.
pub(super) fn read(fields: &Fields) -> Result<Vec<Message>, ApiError> {
    let messages = fields.require("messages")?;
    match messages.as_array() {
        Some(items) if !items.is_empty() => items
            .iter()
            .enumerate()
            .map(|(index, item)| message(&format!("messages[{index}]"), item))
            .collect(),
        _ => Err(ApiError::invalid("messages", "an array of at least one message", messages)),
    }
}

fn message(place: &str, message: &Value) -> Result<Message, ApiError> {
    let role = match message["role"].as_str() {
        Some(role @ ("system" | "user" | "assistant")) => role,
        // The newer name of the same role.
        Some("developer") => "system",
        Some("tool" | "function") => {
            return Err(unsupported(format!("{place}.role"), "this model cannot call tools"));
        }
        _ => {
            let expected = "one of system, developer, user, assistant";
            return Err(ApiError::invalid(format!("{place}.role"), expected, &message["role"]));
        }
    };
    if message["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty()) {
        return Err(unsupported(format!("{place}.tool_calls"), "this model cannot call tools"));
    }
    let content = content(&format!("{place}.content"), &message["content"], role)?;
    Ok(Message { role: role.to_owned(), content })
}

fn content(place: &str, content: &Value, role: &str) -> Result<String, ApiError> {
    match content {
        Value::String(text) => Ok(text.clone()),
        Value::Null if role == "assistant" => Ok(String::new()),
        Value::Null => Err(ApiError::Missing { field: place.to_owned() }),
        Value::Array(parts) => parts
            .iter()
            .enumerate()
            .map(|(index, part)| text_part(&format!("{place}[{index}]"), part))
            .collect(),
        other => Err(ApiError::invalid(place, "a string or an array of parts", other)),
    }
}

fn text_part(place: &str, part: &Value) -> Result<String, ApiError> {
    match (part["type"].as_str(), part["text"].as_str()) {
        (Some("text"), Some(text)) => Ok(text.to_owned()),
        (Some("text"), None) => Err(ApiError::invalid(format!("{place}.text"), "a string", &part["text"])),
        (Some(_), _) => Err(unsupported(format!("{place}.type"), "this model reads text only")),
        (None, _) => Err(ApiError::invalid(place, "an object with a `type`", part)),
    }
}

fn unsupported(field: String, reason: &'static str) -> ApiError {
    ApiError::Unsupported { field, reason }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_json(messages: &Value) -> Result<Vec<(String, String)>, String> {
        let fields = Fields::parse(json!({ "messages": messages }).to_string().as_bytes()).unwrap();
        let messages = read(&fields).map_err(|error| error.to_string())?;
        Ok(messages.into_iter().map(|message| (message.role, message.content)).collect())
    }

    #[test]
    fn content_is_a_string_or_an_array_of_text_parts() {
        let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
        let messages = json!([{"role": "developer", "content": parts}, {"role": "user", "content": "hi"},
                              {"role": "assistant", "content": null}]);
        let expected = [("system", "ab"), ("user", "hi"), ("assistant", "")];
        assert_eq!(
            read_json(&messages).unwrap(),
            expected.map(|(role, content)| (role.into(), content.into()))
        );
    }

    #[test]
    fn an_error_names_the_place() {
        for (messages, place) in [
            (json!([]), "`messages`"),
            (json!("hi"), "`messages`"),
            (json!([1]), "`messages[0].role`"),
            (json!([{"role": "robot", "content": "x"}]), "`messages[0].role`"),
            (json!([{"role": "tool", "content": "x"}]), "`messages[0].role`"),
            (json!([{"role": "user"}]), "`messages[0].content`"),
            (json!([{"role": "user", "content": 5}]), "`messages[0].content`"),
            (json!([{"role": "user", "content": [{"type": "image_url"}]}]), "`messages[0].content[0].type`"),
            (json!([{"role": "user", "content": [{"type": "text"}]}]), "`messages[0].content[0].text`"),
            (json!([{"role": "assistant", "tool_calls": [{}]}]), "`messages[0].tool_calls`"),
        ] {
            let error = read_json(&messages).unwrap_err();
            assert!(error.starts_with(place), "{error}");
        }
    }
}
