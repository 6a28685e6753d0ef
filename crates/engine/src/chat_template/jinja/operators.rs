//! What stands between two values.

use super::Failure;
use super::meter::Meter;
use super::print::print;
use super::syntax::Operator;
use super::text::{Text, TextBuilder};
use super::value::Value;

/// All but `and` and `or`, which do not always need both.
pub(crate) fn apply<'t>(
    operator: Operator,
    left: &Value<'t>,
    right: &Value<'t>,
    meter: &Meter,
) -> Result<Value<'t>, Failure> {
    let compare = |wanted: fn(std::cmp::Ordering) -> bool| -> Result<Value<'t>, Failure> {
        match left.compare(right, meter)? {
            Some(order) => Ok(Value::Bool(wanted(order))),
            None => Err(wrong("compared", left, right)),
        }
    };
    match operator {
        Operator::Or | Operator::And => {
            Ok(if left.is_true() == (operator == Operator::Or) { left.clone() } else { right.clone() })
        }
        Operator::Equal => left.equals(right, meter).map(Value::Bool),
        Operator::NotEqual => left.equals(right, meter).map(|equal| Value::Bool(!equal)),
        Operator::Less => compare(std::cmp::Ordering::is_lt),
        Operator::LessOrEqual => compare(std::cmp::Ordering::is_le),
        Operator::Greater => compare(std::cmp::Ordering::is_gt),
        Operator::GreaterOrEqual => compare(std::cmp::Ordering::is_ge),
        Operator::In => contains(right, left, meter).map(Value::Bool),
        Operator::NotIn => contains(right, left, meter).map(|found| Value::Bool(!found)),
        Operator::Concatenate => {
            let mut text = TextBuilder::default();
            print(left, &mut text, meter)?;
            print(right, &mut text, meter)?;
            text.finish(meter).map(Value::Text)
        }
        Operator::Add => add(left, right, meter),
        Operator::Multiply => multiply(left, right, meter),
        Operator::Subtract
        | Operator::Divide
        | Operator::FloorDivide
        | Operator::Remainder
        | Operator::Power => arithmetic(operator, left, right),
    }
}

fn wrong(done: &str, left: &Value, right: &Value) -> Failure {
    Failure::invalid(format!("{} and {} cannot be {done}", left.kind(), right.kind()))
}

/// `needle in haystack`
pub(crate) fn contains<'t>(haystack: &Value<'t>, needle: &Value<'t>, meter: &Meter) -> Result<bool, Failure> {
    match (haystack, needle) {
        (Value::Undefined, _) => Ok(false),
        (Value::Text(text), Value::Text(part)) => {
            meter.read(text.as_str().len() + part.as_str().len())?;
            Ok(text.as_str().contains(part.as_str()))
        }
        (Value::Map(_), _) => Ok(haystack.lookup(needle, meter)?.is_some()),
        (Value::List(_) | Value::Range(_), _) => {
            let items = haystack.items(meter)?;
            for index in 0..items.len() {
                if let Some(item) = items.get(index)
                    && item.equals(needle, meter)?
                {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        _ => Err(wrong("searched in each other", needle, haystack)),
    }
}

pub(crate) fn concatenated(left: &Text, right: &Text, meter: &Meter) -> Result<Text, Failure> {
    let mut text = TextBuilder::default();
    text.push_text(left, meter)?;
    text.push_text(right, meter)?;
    text.finish(meter)
}

pub(crate) fn add<'t>(left: &Value<'t>, right: &Value<'t>, meter: &Meter) -> Result<Value<'t>, Failure> {
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => concatenated(left, right, meter).map(Value::Text),
        (Value::List(_) | Value::Range(_), Value::List(_) | Value::Range(_)) => {
            let mut items = left.to_vec(meter)?;
            items.extend(right.to_vec(meter)?);
            Value::list(items, meter)
        }
        _ => arithmetic(Operator::Add, left, right),
    }
}

fn multiply<'t>(left: &Value<'t>, right: &Value<'t>, meter: &Meter) -> Result<Value<'t>, Failure> {
    let (repeated, times) = if left.as_float().is_some() { (right, left) } else { (left, right) };
    let times = || {
        let times = times.as_int().ok_or_else(|| wrong("multiplied", left, right))?;
        Ok(usize::try_from(times).unwrap_or(0))
    };
    match repeated {
        Value::Text(text) => {
            let mut out = TextBuilder::default();
            for _ in 0..times()? {
                meter.step()?;
                out.push_text(text, meter)?;
            }
            out.finish(meter).map(Value::Text)
        }
        Value::List(list) => {
            let times = times()?;
            meter.make(list.items.len().saturating_mul(times).saturating_mul(size_of::<Value>()))?;
            let mut items = Vec::new();
            // Nothing times a great number takes no memory, and must take no time.
            for _ in 0..if list.items.is_empty() { 0 } else { times } {
                items.extend(list.items.iter().cloned());
            }
            Value::list(items, meter)
        }
        _ => arithmetic(Operator::Multiply, left, right),
    }
}

fn arithmetic<'t>(operator: Operator, left: &Value<'t>, right: &Value<'t>) -> Result<Value<'t>, Failure> {
    let too_large = || Failure::invalid("a number is too large, or divided by zero");
    if let (Value::Int(_) | Value::Bool(_), Value::Int(_) | Value::Bool(_)) = (left, right)
        && let (Some(a), Some(b)) = (left.as_int(), right.as_int())
    {
        let result = match operator {
            Operator::Add => a.checked_add(b),
            Operator::Subtract => a.checked_sub(b),
            Operator::Multiply => a.checked_mul(b),
            // Rounded down, and with the sign of the divisor, as in Python.
            Operator::FloorDivide => {
                a.checked_div(b).map(|q| if a % b != 0 && (a < 0) != (b < 0) { q - 1 } else { q })
            }
            Operator::Remainder => {
                a.checked_rem(b).map(|r| if r != 0 && (r < 0) != (b < 0) { r + b } else { r })
            }
            Operator::Power if b >= 0 => a.checked_pow(u32::try_from(b).map_err(|_| too_large())?),
            _ if b == 0 && operator == Operator::Divide => None,
            Operator::Divide => return Ok(Value::Float(a as f64 / b as f64)),
            _ => return Ok(Value::Float((a as f64).powf(b as f64))),
        };
        return result.map(Value::Int).ok_or_else(too_large);
    }
    let (Some(a), Some(b)) = (left.as_float(), right.as_float()) else {
        return Err(wrong("calculated with", left, right));
    };
    if b == 0.0 && matches!(operator, Operator::Divide | Operator::FloorDivide | Operator::Remainder) {
        return Err(too_large());
    }
    Ok(Value::Float(match operator {
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Divide => a / b,
        Operator::FloorDivide => (a / b).floor(),
        Operator::Remainder => a - b * (a / b).floor(),
        _ => a.powf(b),
    }))
}
