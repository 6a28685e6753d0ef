//! What filters and methods do with text. Every piece of a result keeps its author.

use super::Failure;
use super::meter::Meter;
use super::text::{Author, Text, TextBuilder};
use super::value::Value;

/// One letter for each word, or only the first, in upper case.
pub(crate) fn capitalized(text: &Text, every_word: bool, meter: &Meter) -> Result<Text, Failure> {
    let mut out = TextBuilder::default();
    let mut begins = true;
    for (run, author) in text.runs() {
        meter.make(3 * run.len())?;
        let mut changed = String::new();
        for character in run.chars() {
            if begins {
                changed.extend(character.to_uppercase());
            } else {
                changed.extend(character.to_lowercase());
            }
            // Where Jinja sees words begin: not behind an apostrophe.
            begins = every_word && (character.is_whitespace() || "-({[<".contains(character));
        }
        out.push(&changed, author, meter)?;
    }
    out.finish(meter)
}

/// Without some characters at its ends, white space unless they are given.
pub(crate) fn trimmed(
    text: &Text,
    characters: Option<&Text>,
    (start, end): (bool, bool),
    meter: &Meter,
) -> Result<Text, Failure> {
    let whole = text.as_str();
    let set: Option<std::collections::HashSet<char>> =
        characters.map(|characters| characters.as_str().chars().collect());
    meter.read(whole.len() + characters.map_or(0, |characters| 16 * characters.as_str().len()))?;
    let goes =
        |character: char| set.as_ref().map_or(character.is_whitespace(), |set| set.contains(&character));
    let from = if start { whole.len() - whole.trim_start_matches(goes).len() } else { 0 };
    let to = if end { whole.trim_end_matches(goes).len() } else { whole.len() };
    text.slice(from..to.max(from), meter)
}

/// `part` in a text, from left to right and at most `limit` times, as byte offsets.
fn occurrences(text: &Text, part: &str, limit: Option<i64>, meter: &Meter) -> Result<Vec<usize>, Failure> {
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    meter.read(text.as_str().len() + part.len())?;
    let mut found = Vec::new();
    for (start, _) in text.as_str().match_indices(part).take(limit) {
        meter.make(size_of::<usize>())?;
        found.push(start);
    }
    Ok(found)
}

pub(crate) fn replaced(
    text: &Text,
    old: &Text,
    new: &Text,
    limit: Option<i64>,
    meter: &Meter,
) -> Result<Text, Failure> {
    let mut out = TextBuilder::default();
    let mut end = 0;
    for start in occurrences(text, old.as_str(), limit, meter)? {
        meter.step()?;
        out.push_slice(text, end..start, meter)?;
        out.push_text(new, meter)?;
        end = start + old.as_str().len();
    }
    out.push_slice(text, end..text.as_str().len(), meter)?;
    out.finish(meter)
}

/// At a separator, or at white space without empty pieces.
pub(crate) fn split<'t>(
    text: &Text,
    separator: Option<&Text>,
    limit: Option<i64>,
    meter: &Meter,
) -> Result<Value<'t>, Failure> {
    let whole = text.as_str();
    let mut ranges = Vec::new();
    let mut piece = |range: std::ops::Range<usize>| -> Result<(), Failure> {
        meter.make(size_of::<Value>())?;
        ranges.push(Value::Text(text.slice(range, meter)?));
        Ok(())
    };
    match separator {
        Some(separator) if separator.as_str().is_empty() => {
            return Err(Failure::invalid("the separator is empty"));
        }
        Some(separator) => {
            let mut end = 0;
            for start in occurrences(text, separator.as_str(), limit, meter)? {
                piece(end..start)?;
                end = start + separator.as_str().len();
            }
            piece(end..whole.len())?;
        }
        None => {
            let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
            meter.read(whole.len())?;
            let mut position = 0;
            for done in 0.. {
                let rest = whole[position..].trim_start();
                position = whole.len() - rest.len();
                if rest.is_empty() {
                    break;
                }
                let length = if done == limit {
                    rest.trim_end().len()
                } else {
                    rest.find(char::is_whitespace).unwrap_or(rest.len())
                };
                piece(position..position + length)?;
                position += length;
                if done == limit {
                    break;
                }
            }
        }
    }
    Value::list(ranges, meter)
}

/// At a separator from the right.
pub(crate) fn split_from_the_end<'t>(
    text: &Text,
    separator: &Text,
    limit: Option<i64>,
    meter: &Meter,
) -> Result<Value<'t>, Failure> {
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    meter.read(text.as_str().len())?;
    let mut pieces = Vec::new();
    let mut end = text.as_str().len();
    let found = if separator.as_str().is_empty() { 0 } else { limit };
    for (start, part) in text.as_str().rmatch_indices(separator.as_str()).take(found) {
        meter.make(size_of::<Value>())?;
        pieces.push(Value::Text(text.slice(start + part.len()..end, meter)?));
        end = start;
    }
    pieces.push(Value::Text(text.slice(0..end, meter)?));
    pieces.reverse();
    Value::list(pieces, meter)
}

pub(crate) fn lines<'t>(text: &Text, meter: &Meter) -> Result<Value<'t>, Failure> {
    let mut lines = Vec::new();
    let mut start = 0;
    for line in text.as_str().split_inclusive('\n') {
        meter.make(size_of::<Value>())?;
        let length = line.trim_end_matches('\n').trim_end_matches('\r').len();
        lines.push(Value::Text(text.slice(start..start + length, meter)?));
        start += line.len();
    }
    Value::list(lines, meter)
}

/// With `separator` between them.
pub(crate) fn joined(parts: &[Text], separator: Option<&Text>, meter: &Meter) -> Result<Text, Failure> {
    let mut out = TextBuilder::default();
    for (index, part) in parts.iter().enumerate() {
        meter.step()?;
        if let Some(separator) = separator.filter(|_| index > 0) {
            out.push_text(separator, meter)?;
        }
        out.push_text(part, meter)?;
    }
    out.finish(meter)
}

pub(crate) fn reversed(text: &Text, meter: &Meter) -> Result<Text, Failure> {
    let runs: Vec<_> = text.runs().collect();
    meter.make(std::mem::size_of_val(&runs[..]))?;
    let mut out = TextBuilder::default();
    for (run, author) in runs.into_iter().rev() {
        meter.make(run.len())?;
        out.push(&run.chars().rev().collect::<String>(), author, meter)?;
    }
    out.finish(meter)
}

/// Each line but the first with spaces in front of it.
pub(crate) fn indented(
    text: &Text,
    width: i64,
    first: bool,
    blank: bool,
    meter: &Meter,
) -> Result<Text, Failure> {
    let width = usize::try_from(width).unwrap_or(0);
    meter.make(width)?;
    let spaces = Text::copy(&" ".repeat(width), Author::Template, meter)?;
    let mut out = TextBuilder::default();
    let mut start = 0;
    for line in text.as_str().split_inclusive('\n') {
        if (start > 0 || first) && (blank || !line.trim().is_empty()) {
            out.push_text(&spaces, meter)?;
        }
        out.push_slice(text, start..start + line.len(), meter)?;
        start += line.len();
    }
    out.finish(meter)
}

/// The characters from `start` to `stop`, each `step`-th, as Python counts them.
pub(crate) fn sliced(text: &Text, parts: [Option<i64>; 3], meter: &Meter) -> Result<Text, Failure> {
    let whole = text.as_str();
    meter.read(whole.len())?;
    let length = whole.chars().count();
    let (start, step, count) = slice_bounds(parts, length)?;
    let offset = |index: usize| whole.char_indices().nth(index).map_or(whole.len(), |(offset, _)| offset);
    if step == 1 {
        let from = offset(start);
        let rest = &whole[from..];
        let to = rest.char_indices().nth(count).map_or(rest.len(), |(offset, _)| offset);
        return text.slice(from..from + to, meter);
    }
    meter.make(length.saturating_mul(size_of::<usize>()))?;
    let offsets: Vec<usize> = whole.char_indices().map(|(offset, _)| offset).collect();
    let mut out = TextBuilder::default();
    for index in (0..count).filter_map(|nth| usize::try_from(start as i64 + nth as i64 * step).ok()) {
        meter.step()?;
        if let Some(&from) = offsets.get(index) {
            let to = offsets.get(index + 1).copied().unwrap_or(whole.len());
            out.push_slice(text, from..to, meter)?;
        }
    }
    out.finish(meter)
}

/// The first index of a slice, its step, and how many elements it has.
pub(crate) fn slice_bounds(parts: [Option<i64>; 3], length: usize) -> Result<(usize, i64, usize), Failure> {
    let [start, stop, step] = parts;
    let step = step.unwrap_or(1);
    let length = length as i64;
    // A step beyond the length is one that never arrives.
    let step = step.clamp(-length - 1, length + 1);
    if step == 0 {
        return Err(Failure::invalid("the step of a slice is 0"));
    }
    let (lowest, highest) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let clamp =
        |index: i64| if index < 0 { index.saturating_add(length) } else { index }.clamp(lowest, highest);
    let start = start.map_or(if step > 0 { lowest } else { highest }, clamp);
    let stop = stop.map_or(if step > 0 { highest } else { lowest }, clamp);
    let span = if step > 0 { stop - start } else { start - stop };
    let count = if span <= 0 { 0 } else { (span + step.abs() - 1) / step.abs() };
    Ok((usize::try_from(start).unwrap_or(0), step, count as usize))
}
