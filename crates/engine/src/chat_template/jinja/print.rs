//! Values → text, as Python writes them and as JSON.

use super::Failure;
use super::meter::Meter;
use super::text::{Author, Text, TextBuilder};
use super::value::Value;

/// What `{{ value }}` prints.
pub(crate) fn print(value: &Value, out: &mut TextBuilder, meter: &Meter) -> Result<(), Failure> {
    match value {
        Value::Text(text) => out.push_text(text, meter),
        Value::Undefined => Ok(()),
        other => represent(other, out, meter),
    }
}

/// The text of a value.
pub(crate) fn to_text(value: &Value, meter: &Meter) -> Result<Text, Failure> {
    if let Value::Text(text) = value {
        return Ok(text.clone());
    }
    let mut out = TextBuilder::default();
    print(value, &mut out, meter)?;
    out.finish(meter)
}

/// As it is written in a list.
fn represent(value: &Value, out: &mut TextBuilder, meter: &Meter) -> Result<(), Failure> {
    meter.step()?;
    let mut write = |text: &str| out.push(text, Author::Template, meter);
    match value {
        Value::Undefined => write("Undefined"),
        Value::None => write("None"),
        Value::Bool(value) => write(if *value { "True" } else { "False" }),
        Value::Int(value) => write(&value.to_string()),
        Value::Float(value) => write(&float(*value)),
        Value::Text(text) => {
            let quote = if text.as_str().contains('\'') && !text.as_str().contains('"') { "\"" } else { "'" };
            write(quote)?;
            escaped(text, out, meter, |character| match character {
                '\\' => Some("\\\\".to_owned()),
                '\n' => Some("\\n".to_owned()),
                '\r' => Some("\\r".to_owned()),
                '\t' => Some("\\t".to_owned()),
                '\'' if quote == "'" => Some("\\'".to_owned()),
                _ => None,
            })?;
            out.push(quote, Author::Template, meter)
        }
        Value::List(_) | Value::Range(_) => {
            write("[")?;
            let items = value.items(meter)?;
            for index in 0..items.len() {
                if index > 0 {
                    out.push(", ", Author::Template, meter)?;
                }
                represent(&items.get(index).unwrap_or(Value::Undefined), out, meter)?;
            }
            out.push("]", Author::Template, meter)
        }
        Value::Map(map) => {
            write("{")?;
            for (index, (key, value)) in map.entries.iter().enumerate() {
                if index > 0 {
                    out.push(", ", Author::Template, meter)?;
                }
                represent(key, out, meter)?;
                out.push(": ", Author::Template, meter)?;
                represent(value, out, meter)?;
            }
            out.push("}", Author::Template, meter)
        }
        Value::Namespace(_) | Value::Macro(_) | Value::Function(_) | Value::Loop(_) => {
            Err(Failure::invalid(format!("{} cannot be printed", value.kind())))
        }
    }
}

/// With a point, so that it stays a float.
pub(crate) fn float(value: f64) -> String {
    let text = value.to_string();
    if value.is_finite() && !text.contains('.') { text + ".0" } else { text }
}

/// The text with other text in the place of some characters, from the same author.
fn escaped(
    text: &Text,
    out: &mut TextBuilder,
    meter: &Meter,
    escape: impl Fn(char) -> Option<String>,
) -> Result<(), Failure> {
    for (run, author) in text.runs() {
        let mut plain = 0;
        for (index, character) in run.char_indices() {
            if let Some(escape) = escape(character) {
                out.push(&run[plain..index], author, meter)?;
                out.push(&escape, author, meter)?;
                plain = index + character.len_utf8();
            }
        }
        out.push(&run[plain..], author, meter)?;
    }
    Ok(())
}

/// As Python's `json.dumps` without `ensure_ascii`; each level indented by `indent` spaces on lines of their own, if given.
pub(crate) fn json(
    value: &Value,
    indent: Option<usize>,
    level: usize,
    out: &mut TextBuilder,
    meter: &Meter,
) -> Result<(), Failure> {
    meter.step()?;
    let line = |level: usize| indent.map(|indent| format!("\n{}", " ".repeat(indent * level)));
    let between = if indent.is_some() { "," } else { ", " };
    let mut write = |text: &str| out.push(text, Author::Template, meter);
    match value {
        Value::Undefined | Value::None => write("null"),
        Value::Bool(value) => write(if *value { "true" } else { "false" }),
        Value::Int(value) => write(&value.to_string()),
        Value::Float(value) => write(&float(*value)),
        Value::Text(text) => {
            write("\"")?;
            escaped(text, out, meter, |character| match character {
                '"' => Some("\\\"".to_owned()),
                '\\' => Some("\\\\".to_owned()),
                '\n' => Some("\\n".to_owned()),
                '\r' => Some("\\r".to_owned()),
                '\t' => Some("\\t".to_owned()),
                control if control < ' ' => Some(format!("\\u{:04x}", u32::from(control))),
                _ => None,
            })?;
            out.push("\"", Author::Template, meter)
        }
        Value::List(_) | Value::Range(_) => {
            let items = value.items(meter)?;
            write("[")?;
            for index in 0..items.len() {
                if index > 0 {
                    out.push(between, Author::Template, meter)?;
                }
                out.push(&line(level + 1).unwrap_or_default(), Author::Template, meter)?;
                json(&items.get(index).unwrap_or(Value::Undefined), indent, level + 1, out, meter)?;
            }
            if items.len() > 0 {
                out.push(&line(level).unwrap_or_default(), Author::Template, meter)?;
            }
            out.push("]", Author::Template, meter)
        }
        Value::Map(map) => {
            write("{")?;
            for (index, (key, value)) in map.entries.iter().enumerate() {
                if index > 0 {
                    out.push(between, Author::Template, meter)?;
                }
                out.push(&line(level + 1).unwrap_or_default(), Author::Template, meter)?;
                json(&Value::Text(to_text(key, meter)?), indent, level + 1, out, meter)?;
                out.push(": ", Author::Template, meter)?;
                json(value, indent, level + 1, out, meter)?;
            }
            if !map.entries.is_empty() {
                out.push(&line(level).unwrap_or_default(), Author::Template, meter)?;
            }
            out.push("}", Author::Template, meter)
        }
        Value::Namespace(_) | Value::Macro(_) | Value::Function(_) | Value::Loop(_) => {
            Err(Failure::invalid(format!("{} has no JSON", value.kind())))
        }
    }
}
