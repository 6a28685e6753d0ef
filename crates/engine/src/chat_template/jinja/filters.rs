//! `value | name(…)`

use super::Failure;
use super::arguments::Given;
use super::meter::Meter;
use super::operators::add;
use super::predicates::test;
use super::print::{json, to_text};
use super::strings;
use super::text::{Author, Text, TextBuilder};
use super::value::Value;

/// Applies a filter.
pub(crate) fn filter<'t>(
    name: &str,
    value: Value<'t>,
    mut given: Given<'t>,
    meter: &Meter,
) -> Result<Value<'t>, Failure> {
    meter.step()?;
    let result = apply(name, value, &mut given, meter)?;
    given.done()?;
    Ok(result)
}

fn apply<'t>(
    name: &str,
    value: Value<'t>,
    given: &mut Given<'t>,
    meter: &Meter,
) -> Result<Value<'t>, Failure> {
    let text = || to_text(&value, meter);
    Ok(match name {
        "string" => Value::Text(text()?),
        "safe" => value,
        "lower" => Value::Text(text()?.map(str::to_lowercase, meter)?),
        "upper" => Value::Text(text()?.map(str::to_uppercase, meter)?),
        "capitalize" => Value::Text(strings::capitalized(&text()?, false, meter)?),
        "title" => Value::Text(strings::capitalized(&text()?, true, meter)?),
        "trim" => {
            let characters = given.optional_text("chars")?;
            Value::Text(strings::trimmed(&text()?, characters.as_ref(), (true, true), meter)?)
        }
        "replace" => {
            let (old, new) = (given.text("old")?, given.text("new")?);
            Value::Text(strings::replaced(&text()?, &old, &new, given.optional_int("count")?, meter)?)
        }
        "split" => {
            let separator = given.optional_text("sep")?;
            strings::split(&text()?, separator.as_ref(), given.optional_int("maxsplit")?, meter)?
        }
        "lines" => strings::lines(&text()?, meter)?,
        "indent" => {
            let width = given.optional_int("width")?.unwrap_or(4);
            let (first, blank) = (given.is_true("first"), given.is_true("blank"));
            Value::Text(strings::indented(&text()?, width, first, blank, meter)?)
        }
        "wordcount" => {
            let text = text()?;
            meter.read(text.as_str().len())?;
            Value::Int(text.as_str().split_whitespace().count() as i64)
        }
        "tojson" => {
            let indent = given.optional_int("indent")?.map(|indent| indent.clamp(0, 16) as usize);
            let mut out = TextBuilder::default();
            json(&value, indent, 0, &mut out, meter)?;
            Value::Text(out.finish(meter)?)
        }
        "length" | "count" => Value::Int(value.length(meter)? as i64),
        "default" | "d" => {
            let other =
                given.take("default_value").map_or_else(|| Value::text("", Author::Template, meter), Ok)?;
            let also_false = given.is_true("boolean");
            if matches!(value, Value::Undefined) || (also_false && !value.is_true()) { other } else { value }
        }
        "int" | "float" | "abs" | "round" | "bool" => number(name, value, given, meter)?,
        _ => return sequence(name, &value, given, meter),
    })
}

fn number<'t>(
    name: &str,
    value: Value<'t>,
    given: &mut Given<'t>,
    meter: &Meter,
) -> Result<Value<'t>, Failure> {
    let wrong = |value: &Value| Failure::invalid(format!("{} is no number", value.kind()));
    let parsed = |value: &Value| {
        value.as_str().map_or_else(|| value.as_float(), |text| text.trim().parse::<f64>().ok())
    };
    Ok(match name {
        "bool" => Value::Bool(value.is_true()),
        "int" => {
            let default = given.take("default").unwrap_or(Value::Int(0));
            let whole = value.as_str().and_then(|text| text.trim().parse().ok()).map(Value::Int);
            match whole.or_else(|| parsed(&value).map(|value| Value::Int(value.trunc() as i64))) {
                Some(number) => number,
                None => default,
            }
        }
        "float" => {
            let default = given.take("default").unwrap_or(Value::Float(0.0));
            parsed(&value).map_or(default, Value::Float)
        }
        "abs" => match value {
            Value::Int(value) => Value::Int(value.saturating_abs()),
            other => Value::Float(other.as_float().ok_or_else(|| wrong(&other))?.abs()),
        },
        _ => {
            let digits = given.optional_int("precision")?.unwrap_or(0).clamp(-300, 300) as i32;
            let scale = 10_f64.powi(digits);
            meter.step()?;
            Value::Float((value.as_float().ok_or_else(|| wrong(&value))? * scale).round() / scale)
        }
    })
}

fn sequence<'t>(
    name: &str,
    value: &Value<'t>,
    given: &mut Given<'t>,
    meter: &Meter,
) -> Result<Value<'t>, Failure> {
    match name {
        "list" => Value::list(value.to_vec(meter)?, meter),
        "first" | "last" => {
            let items = value.items(meter)?;
            let index = if name == "first" { 0 } else { items.len().wrapping_sub(1) };
            Ok(items.get(index).unwrap_or(Value::Undefined))
        }
        "reverse" => {
            if let Value::Text(text) = value {
                return strings::reversed(text, meter).map(Value::Text);
            }
            let mut items = value.to_vec(meter)?;
            items.reverse();
            Value::list(items, meter)
        }
        "join" => {
            let separator = given.take("d").map(|separator| to_text(&separator, meter)).transpose()?;
            let attribute = given.optional_text("attribute")?;
            let mut parts = Vec::new();
            for item in value.to_vec(meter)? {
                let item = match &attribute {
                    Some(path) => attribute_of(&item, path.as_str(), meter)?,
                    None => item,
                };
                meter.make(size_of::<Text>())?;
                parts.push(to_text(&item, meter)?);
            }
            strings::joined(&parts, separator.as_ref(), meter).map(Value::Text)
        }
        "items" | "dictsort" => {
            let mut pairs = Vec::new();
            if let Value::Map(map) = value {
                for (key, value) in &map.entries {
                    pairs.push(Value::list(vec![key.clone(), value.clone()], meter)?);
                }
            } else if !matches!(value, Value::Undefined) {
                return Err(Failure::invalid(format!("{} is no mapping", value.kind())));
            }
            if name == "dictsort" {
                pairs = sorted(pairs, None, meter)?;
            }
            Value::list(pairs, meter)
        }
        "attr" => {
            let name = given.text("name")?;
            Ok(value.lookup_name(name.as_str(), meter)?.unwrap_or(Value::Undefined))
        }
        "sort" | "unique" | "min" | "max" => {
            let reverse = name == "sort" && given.is_true("reverse");
            let _case = given.take_named("case_sensitive");
            let attribute = given.take_named("attribute");
            let path = attribute.as_ref().and_then(Value::as_str);
            let items = value.to_vec(meter)?;
            if name == "unique" {
                return unique(items, path, meter);
            }
            let mut items = sorted(items, path, meter)?;
            if reverse {
                items.reverse();
            }
            match name {
                "sort" => Value::list(items, meter),
                "min" => Ok(items.into_iter().next().unwrap_or(Value::Undefined)),
                _ => Ok(items.pop().unwrap_or(Value::Undefined)),
            }
        }
        "sum" => {
            let attribute = given.optional_text("attribute")?;
            let mut sum = given.take("start").unwrap_or(Value::Int(0));
            for item in value.to_vec(meter)? {
                let item = match &attribute {
                    Some(path) => attribute_of(&item, path.as_str(), meter)?,
                    None => item,
                };
                sum = add(&sum, &item, meter)?;
            }
            Ok(sum)
        }
        "batch" => {
            let size = given.optional_int("linecount")?.and_then(|size| usize::try_from(size).ok());
            let size = size.filter(|size| *size > 0).ok_or_else(|| Failure::invalid("a batch has a size"))?;
            let mut batches = Vec::new();
            for batch in value.to_vec(meter)?.chunks(size) {
                batches.push(Value::list(batch.to_vec(), meter)?);
            }
            Value::list(batches, meter)
        }
        "map" => map(value, given, meter),
        "select" | "reject" | "selectattr" | "rejectattr" => select(name, value, given, meter),
        _ => Err(Failure::invalid(format!("the filter {name} is not known here"))),
    }
}

/// `a.b.0` of a value.
fn attribute_of<'t>(value: &Value<'t>, path: &str, meter: &Meter) -> Result<Value<'t>, Failure> {
    let mut value = value.clone();
    for name in path.split('.') {
        meter.step()?;
        value = match (&value, name.parse::<usize>()) {
            (Value::List(list), Ok(index)) => list.items.get(index).cloned().unwrap_or(Value::Undefined),
            _ => value.lookup_name(name, meter)?.unwrap_or(Value::Undefined),
        };
    }
    Ok(value)
}

fn map<'t>(value: &Value<'t>, given: &mut Given<'t>, meter: &Meter) -> Result<Value<'t>, Failure> {
    let attribute = given.take_named("attribute");
    let default = given.take_named("default");
    let filter_name = if attribute.is_none() { Some(given.text("filter")?) } else { None };
    let arguments = std::mem::take(given);
    let mut mapped = Vec::new();
    for item in value.to_vec(meter)? {
        meter.make(size_of::<Value>())?;
        mapped.push(match (&attribute, &filter_name) {
            (Some(path), _) => {
                let path = to_text(path, meter)?;
                match (attribute_of(&item, path.as_str(), meter)?, &default) {
                    (Value::Undefined, Some(default)) => default.clone(),
                    (value, _) => value,
                }
            }
            (None, Some(name)) => filter(name.as_str(), item, arguments.copied(meter)?, meter)?,
            (None, None) => item,
        });
    }
    Value::list(mapped, meter)
}

fn select<'t>(
    name: &str,
    value: &Value<'t>,
    given: &mut Given<'t>,
    meter: &Meter,
) -> Result<Value<'t>, Failure> {
    let attribute = if name.ends_with("attr") { Some(given.text("attribute")?) } else { None };
    let wanted = name.starts_with("select");
    let test_name = given.optional_text("test")?;
    let arguments = std::mem::take(given);
    let mut selected = Vec::new();
    for item in value.to_vec(meter)? {
        let tested = match &attribute {
            Some(path) => attribute_of(&item, path.as_str(), meter)?,
            None => item.clone(),
        };
        let holds = match &test_name {
            Some(name) => test(name.as_str(), &tested, arguments.copied(meter)?, meter)?,
            None => tested.is_true(),
        };
        if holds == wanted {
            meter.make(size_of::<Value>())?;
            selected.push(item);
        }
    }
    Value::list(selected, meter)
}

/// A stable order; values without one are an error.
fn sorted<'t>(items: Vec<Value<'t>>, path: Option<&str>, meter: &Meter) -> Result<Vec<Value<'t>>, Failure> {
    let mut keyed = Vec::new();
    for item in items {
        meter.make(2 * size_of::<Value>())?;
        let key = match path {
            Some(path) => attribute_of(&item, path, meter)?,
            None => item.clone(),
        };
        // As Jinja does unless it is told otherwise.
        let key = match key {
            Value::Text(text) => Value::Text(text.map(str::to_lowercase, meter)?),
            other => other,
        };
        keyed.push((key, item));
    }
    let sorted = merged(keyed, meter)?;
    Ok(sorted.into_iter().map(|(_, item)| item).collect())
}

/// Merge sort, since that of the standard library may panic where values have no order.
fn merged<'t>(
    mut items: Vec<(Value<'t>, Value<'t>)>,
    meter: &Meter,
) -> Result<Vec<(Value<'t>, Value<'t>)>, Failure> {
    if items.len() < 2 {
        return Ok(items);
    }
    meter.make(size_of_val(&items[..]))?;
    let mut merging = Vec::with_capacity(items.len());
    let right = items.split_off(items.len() / 2);
    let mut left = merged(items, meter)?.into_iter().peekable();
    let mut right = merged(right, meter)?.into_iter().peekable();
    while let (Some((a, _)), Some((b, _))) = (left.peek(), right.peek()) {
        let order = b.compare(a, meter)?;
        let order =
            order.ok_or_else(|| Failure::invalid(format!("{} and {} have no order", a.kind(), b.kind())))?;
        merging.extend(if order.is_lt() { right.next() } else { left.next() });
    }
    merging.extend(left.chain(right));
    Ok(merging)
}

fn unique<'t>(items: Vec<Value<'t>>, path: Option<&str>, meter: &Meter) -> Result<Value<'t>, Failure> {
    let mut kept: Vec<(Value, Value)> = Vec::new();
    'items: for item in items {
        let key = match path {
            Some(path) => attribute_of(&item, path, meter)?,
            None => item.clone(),
        };
        for (other, _) in &kept {
            if other.equals(&key, meter)? {
                continue 'items;
            }
        }
        meter.make(2 * size_of::<Value>())?;
        kept.push((key, item));
    }
    Value::list(kept.into_iter().map(|(_, item)| item).collect(), meter)
}
