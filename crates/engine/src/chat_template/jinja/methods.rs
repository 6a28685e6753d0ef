//! `value.name(…)`, as in Python.

use super::Failure;
use super::arguments::Given;
use super::filters::filter;
use super::meter::Meter;
use super::print::to_text;
use super::strings;
use super::text::Text;
use super::value::Value;

/// Calls a method.
pub(crate) fn method<'t>(
    value: &Value<'t>,
    name: &str,
    mut given: Given<'t>,
    meter: &Meter,
) -> Result<Value<'t>, Failure> {
    meter.step()?;
    let result = match value {
        Value::Text(text) => of_text(text, name, &mut given, meter)?,
        Value::Map(map) => match name {
            "get" => {
                let key = given.require("key")?;
                let default = given.take("default").unwrap_or(Value::None);
                Some(value.lookup(&key, meter)?.unwrap_or(default))
            }
            "keys" => Some(Value::list(map.entries.iter().map(|(key, _)| key.clone()).collect(), meter)?),
            "values" => {
                Some(Value::list(map.entries.iter().map(|(_, value)| value.clone()).collect(), meter)?)
            }
            "items" => Some(filter("items", value.clone(), Given::default(), meter)?),
            _ => None,
        },
        Value::List(list) => match name {
            "count" => {
                let wanted = given.require("value")?;
                let mut count = 0;
                for item in &list.items {
                    count += i64::from(item.equals(&wanted, meter)?);
                }
                Some(Value::Int(count))
            }
            "index" => {
                let wanted = given.require("value")?;
                let mut found = None;
                for (index, item) in list.items.iter().enumerate() {
                    if found.is_none() && item.equals(&wanted, meter)? {
                        found = Some(Value::Int(index as i64));
                    }
                }
                Some(found.ok_or_else(|| Failure::invalid("the list has no such element"))?)
            }
            _ => None,
        },
        Value::Undefined => return Err(Failure::invalid(format!("{name} is called on an undefined value"))),
        _ => None,
    };
    let missing = || Failure::invalid(format!("{} has no method {name} that is known here", value.kind()));
    let result = result.ok_or_else(missing)?;
    given.done()?;
    Ok(result)
}

fn of_text<'t>(
    text: &Text,
    name: &str,
    given: &mut Given<'t>,
    meter: &Meter,
) -> Result<Option<Value<'t>>, Failure> {
    let whole = text.as_str();
    let every = |holds: fn(char) -> bool| -> Result<Value<'t>, Failure> {
        meter.read(whole.len())?;
        Ok(Value::Bool(!whole.is_empty() && whole.chars().all(holds)))
    };
    let result = match name {
        "upper" | "lower" | "title" | "capitalize" => {
            filter(name, Value::Text(text.clone()), Given::default(), meter)?
        }
        "strip" | "lstrip" | "rstrip" => {
            let characters = given.optional_text("chars")?;
            let ends = (name != "rstrip", name != "lstrip");
            Value::Text(strings::trimmed(text, characters.as_ref(), ends, meter)?)
        }
        "replace" => {
            let (old, new) = (given.text("old")?, given.text("new")?);
            Value::Text(strings::replaced(text, &old, &new, given.optional_int("count")?, meter)?)
        }
        "split" => {
            let separator = given.optional_text("sep")?;
            strings::split(text, separator.as_ref(), given.optional_int("maxsplit")?, meter)?
        }
        "rsplit" => {
            let separator = given.text("sep")?;
            strings::split_from_the_end(text, &separator, given.optional_int("maxsplit")?, meter)?
        }
        "splitlines" => strings::lines(text, meter)?,
        "join" => {
            let mut parts = Vec::new();
            for part in given.require("iterable")?.to_vec(meter)? {
                meter.make(size_of::<Text>())?;
                parts.push(to_text(&part, meter)?);
            }
            Value::Text(strings::joined(&parts, Some(text), meter)?)
        }
        "startswith" | "endswith" => {
            let part = given.require("prefix")?;
            let parts = match &part {
                Value::List(list) => list.items.clone(),
                _ => vec![part],
            };
            let mut holds = false;
            for part in parts {
                let part = part.as_str().ok_or_else(|| Failure::invalid("a string is missing"))?;
                meter.read(part.len())?;
                holds |= if name == "startswith" { whole.starts_with(part) } else { whole.ends_with(part) };
            }
            Value::Bool(holds)
        }
        "removeprefix" => {
            let part = given.text("prefix")?;
            let start = if whole.starts_with(part.as_str()) { part.as_str().len() } else { 0 };
            Value::Text(text.slice(start..whole.len(), meter)?)
        }
        "removesuffix" => {
            let part = given.text("suffix")?;
            let cut = if whole.ends_with(part.as_str()) { part.as_str().len() } else { 0 };
            Value::Text(text.slice(0..whole.len() - cut, meter)?)
        }
        "find" | "rfind" | "count" => {
            let part = given.text("sub")?;
            meter.read(whole.len() + part.as_str().len())?;
            let found = match name {
                "find" => whole.find(part.as_str()),
                "rfind" => whole.rfind(part.as_str()),
                _ => return Ok(Some(Value::Int(whole.matches(part.as_str()).count() as i64))),
            };
            Value::Int(found.map_or(-1, |found| whole[..found].chars().count() as i64))
        }
        "isspace" => every(char::is_whitespace)?,
        "isdigit" | "isnumeric" => every(char::is_numeric)?,
        "isalpha" => every(char::is_alphabetic)?,
        "isalnum" => every(char::is_alphanumeric)?,
        "isascii" => Value::Bool(whole.is_ascii()),
        "islower" | "isupper" => {
            let test = if name == "islower" { "lower" } else { "upper" };
            Value::Bool(super::predicates::test(test, &Value::Text(text.clone()), Given::default(), meter)?)
        }
        _ => return Ok(None),
    };
    Ok(Some(result))
}
