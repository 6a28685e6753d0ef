//! A JSON object, read field by field, so that every error names the field, what it may be and
//! what it is. `null` is the same as absent, as in OpenAI's API; unknown fields are ignored.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::error::ApiError;

/// The fields of a request body.
#[derive(Debug)]
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    pub(super) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        match serde_json::from_slice(body).map_err(ApiError::MalformedJson)? {
            Value::Object(map) => Ok(Self(map)),
            other => Err(ApiError::invalid("body", "a JSON object", &other)),
        }
    }

    /// The value of a field that is there.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// The value of a field that must be there.
    pub(super) fn require(&self, name: &str) -> Result<&Value, ApiError> {
        self.get(name).ok_or_else(|| ApiError::Missing { field: name.to_owned() })
    }

    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool, ApiError> {
        Ok(self.read(name, "true or false", Value::as_bool)?.unwrap_or(default))
    }

    pub(super) fn string(&self, name: &str) -> Result<Option<&str>, ApiError> {
        self.read(name, "a string", Value::as_str)
    }

    /// A whole number; `5.0` counts as one.
    pub(super) fn integer(&self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, ApiError> {
        let expected = match (range.start(), range.end()) {
            (start, &i64::MAX) => format!("a whole number, at least {start}"),
            (start, end) => format!("a whole number from {start} to {end}"),
        };
        self.read(name, &expected, |value| as_integer(value).filter(|number| range.contains(number)))
    }

    /// A number that is finite as an `f32`.
    pub(super) fn number(&self, name: &str) -> Result<Option<f32>, ApiError> {
        self.read(name, "a number", as_f32)
    }

    fn read<'a, T>(
        &'a self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| ApiError::invalid(name, expected, value))
    }
}

pub(super) fn as_integer(value: &Value) -> Option<i64> {
    let whole = |number: &f64| number.fract() == 0.0 && number.abs() < 2_f64.powi(53);
    value.as_i64().or_else(|| value.as_f64().filter(whole).map(|number| number as i64))
}

pub(super) fn as_f32(value: &Value) -> Option<f32> {
    value.as_f64().map(|number| number as f32).filter(|number| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> Fields {
        Fields::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn null_is_the_same_as_absent() {
        let fields = fields(r#"{"a": null}"#);
        assert_eq!(fields.integer("a", 0..=9).unwrap(), None);
        assert!(fields.flag("a", true).unwrap());
        assert!(matches!(fields.require("a"), Err(ApiError::Missing { .. })));
    }

    #[test]
    fn an_error_names_field_value_and_limit() {
        let fields = fields(r#"{"n": 10, "s": 1, "b": "x", "f": 1e39, "h": 5.5}"#);
        let errors = [
            (fields.integer("n", 0..=9).err(), "`n` must be a whole number from 0 to 9, but it is 10"),
            (
                fields.integer("h", -1..=i64::MAX).err(),
                "`h` must be a whole number, at least -1, but it is 5.5",
            ),
            (fields.string("s").err(), "`s` must be a string, but it is 1"),
            (fields.flag("b", false).err(), "`b` must be true or false, but it is \"x\""),
            (fields.number("f").err(), "`f` must be a number, but it is 1e+39"),
        ];
        for (error, expected) in errors {
            assert_eq!(error.unwrap().to_string(), expected);
        }
    }

    #[test]
    fn whole_floats_are_integers() {
        assert_eq!(fields(r#"{"n": 5.0}"#).integer("n", 0..=9).unwrap(), Some(5));
    }

    #[test]
    fn anything_but_an_object_is_refused() {
        for body in ["[]", "1", "", "{", "{\"a\":NaN}", "{\"a\":1e999}", "\u{feff}{}"] {
            assert!(Fields::parse(body.as_bytes()).is_err(), "{body}");
        }
        assert!(Fields::parse(&[b'['; 10_000]).is_err(), "deep nesting");
    }
}
