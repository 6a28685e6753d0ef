//! The fields of request bodies: JSON bytes in, typed values out, and nothing else kept. What a request has besides is skipped
//! where it stands, so that a body never costs more memory than what is wanted of it.
//!
//! Fields that several protocols have are structs here, and a protocol reads one after the other from the same bytes: skipping is
//! fast, and a struct inside another (`serde(flatten)`) would copy the whole body into a tree first. `null` is the same as absent,
//! as in OpenAI's API. An error names the field, what it must be and what it is.

mod logit_bias;
mod messages;
mod prompt;
mod sampling;
mod stop;
mod unsupported;
mod value;

use serde::Deserialize;
use serde_json::error::Category;

use super::error::ApiError;

pub(super) use messages::Messages;
pub(super) use prompt::{PromptField, encode, token_id};
pub(super) use sampling::Sampling;
pub(super) use unsupported::refuse_unsupported;
pub(super) use value::{Flag, Integer, Text, TokenId, is_set};

/// How many tokens an answer may have; -1 is as many as fit.
pub(super) type TokenLimit = Integer<-1, { i64::MAX }>;

/// The fields that `T` names.
pub(super) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    // A struct could be read from an array too.
    let is_object = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    let mut json = serde_json::Deserializer::from_slice(body);
    if !is_object {
        let found = value::Scalar::deserialize(&mut json).map_err(ApiError::MalformedJson)?;
        json.end().map_err(ApiError::MalformedJson)?;
        return Err(ApiError::invalid("body", "a JSON object", found));
    }
    let read = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let field = error.path().to_string();
        let error = error.into_inner();
        if error.classify() != Category::Data {
            return ApiError::MalformedJson(error);
        }
        let place = format!(" at line {} column {}", error.line(), error.column());
        let problem = error.to_string();
        let problem = problem.strip_suffix(&place).unwrap_or(&problem).to_owned();
        ApiError::Invalid { field, problem }
    })?;
    json.end().map_err(ApiError::MalformedJson)?;
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Some {
        a: Option<Integer<0, 9>>,
        b: Option<Flag>,
        f: Option<value::Number>,
        s: Option<Text>,
    }

    fn check(body: &str, expected: &str) {
        assert_eq!(parse::<Some>(body.as_bytes()).unwrap_err().to_string(), expected);
    }

    #[test]
    fn null_is_the_same_as_absent_and_unknown_fields_are_skipped() {
        let read: Some = parse(br#"{"a": null, "x": [{"y": "\u0041"}], "s": "t"}"#).unwrap();
        assert!(read.a.is_none() && read.b.is_none() && read.f.is_none());
        assert_eq!(read.s.unwrap().0, "t");
    }

    #[test]
    fn an_error_names_field_value_and_limit() {
        check(r#"{"a": 10}"#, "`a` must be a whole number from 0 to 9, but it is 10");
        check(r#"{"a": 5.5}"#, "`a` must be a whole number from 0 to 9, but it is 5.5");
        check(r#"{"a": [5]}"#, "`a` must be a whole number from 0 to 9, but it is an array");
        check(r#"{"b": "x"}"#, "`b` must be true or false, but it is \"x\"");
        check(r#"{"f": 1e39}"#, "`f` must be a number, but it is 1e39");
        check(r#"{"s": {}}"#, "`s` must be a string, but it is an object");
        check(r#"[{"s": 1}]"#, "`body` must be a JSON object, but it is an array");
    }

    #[test]
    fn whole_floats_are_integers() {
        assert_eq!(parse::<Some>(br#"{"a": 5.0}"#).unwrap().a.unwrap().0, 5);
    }

    #[test]
    fn anything_but_one_object_is_refused() {
        for body in ["[]", "1", "", "{", "{\"a\":NaN}", "{\"a\":1e999}", "\u{feff}{}", "{}{}", "{\"x\":[}"] {
            assert!(parse::<Some>(body.as_bytes()).is_err(), "{body}");
        }
        assert!(parse::<Some>(&[b'['; 10_000]).is_err(), "deep nesting");
        assert!(
            parse::<Some>(&[&b"{\"x\":"[..], &[b'['; 10_000]].concat()).is_err(),
            "deep nesting in a field"
        );
    }
}
