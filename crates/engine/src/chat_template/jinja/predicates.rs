//! `value is name`

use super::Failure;
use super::arguments::Given;
use super::meter::Meter;
use super::operators::{apply, contains};
use super::syntax::Operator;
use super::value::Value;

/// Whether a test holds.
pub(crate) fn test<'t>(
    name: &str,
    value: &Value<'t>,
    mut given: Given<'t>,
    meter: &Meter,
) -> Result<bool, Failure> {
    meter.step()?;
    let holds = holds(name, value, &mut given, meter)?;
    given.done()?;
    Ok(holds)
}

fn holds<'t>(name: &str, value: &Value<'t>, given: &mut Given<'t>, meter: &Meter) -> Result<bool, Failure> {
    let compared = match name {
        "eq" | "equalto" | "==" | "sameas" => Some(Operator::Equal),
        "ne" | "!=" => Some(Operator::NotEqual),
        "lt" | "lessthan" | "<" => Some(Operator::Less),
        "le" | "<=" => Some(Operator::LessOrEqual),
        "gt" | "greaterthan" | ">" => Some(Operator::Greater),
        "ge" | ">=" => Some(Operator::GreaterOrEqual),
        _ => None,
    };
    if let Some(operator) = compared {
        return Ok(apply(operator, value, &given.require("other")?, meter)?.is_true());
    }
    let text = || value.as_str().unwrap_or_default();
    Ok(match name {
        "defined" => !matches!(value, Value::Undefined),
        "undefined" => matches!(value, Value::Undefined),
        "none" => matches!(value, Value::None),
        "boolean" => matches!(value, Value::Bool(_)),
        "true" => matches!(value, Value::Bool(true)),
        "false" => matches!(value, Value::Bool(false)),
        "string" => matches!(value, Value::Text(_)),
        "number" => matches!(value, Value::Int(_) | Value::Float(_)),
        "integer" | "int" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "mapping" => matches!(value, Value::Map(_)),
        // As in Python, a string is one, too; templates ask whether a content is a string first.
        "sequence" | "iterable" => {
            matches!(value, Value::Text(_) | Value::List(_) | Value::Range(_) | Value::Map(_))
        }
        "callable" => matches!(value, Value::Macro(_) | Value::Function(_)),
        "odd" | "even" | "divisibleby" => {
            let number = value.as_int().ok_or_else(|| Failure::invalid("a number is missing"))?;
            let divisor = if name == "divisibleby" { given.optional_int("num")?.unwrap_or(0) } else { 2 };
            let rest = number.checked_rem(divisor).ok_or_else(|| Failure::invalid("divided by zero"))?;
            (rest == 0) == (name != "odd")
        }
        "in" => contains(&given.require("seq")?, value, meter)?,
        "startingwith" => text().starts_with(given.text("prefix")?.as_str()),
        "endingwith" => text().ends_with(given.text("suffix")?.as_str()),
        "lower" | "upper" => {
            meter.read(text().len())?;
            let other: fn(char) -> bool =
                if name == "lower" { char::is_uppercase } else { char::is_lowercase };
            text().chars().any(char::is_alphabetic) && !text().chars().any(other)
        }
        _ => return Err(Failure::invalid(format!("the test {name} is not known here"))),
    })
}
