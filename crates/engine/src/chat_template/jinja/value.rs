//! The values of a template.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::rc::Rc;

use super::Failure;
use super::meter::Meter;
use super::syntax::Macro;
use super::text::{Author, Text};

/// Lists in lists; also what printing, comparing and dropping them take of the stack.
const DEEPEST: usize = 32;

/// Immutable but for namespaces, cheap to clone.
#[derive(Clone)]
pub(crate) enum Value<'t> {
    Undefined,
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Text),
    List(Rc<List<'t>>),
    Map(Rc<Map<'t>>),
    /// The one thing that can be changed, since what a loop sets is gone after it.
    Namespace(Rc<RefCell<Vec<(String, Value<'t>)>>>),
    Range(Range),
    Macro(&'t Macro),
    Function(Function),
    Loop(Rc<Loop<'t>>),
}

/// The functions that every template has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Range,
    Namespace,
    Dict,
    RaiseException,
}

pub(crate) struct List<'t> {
    pub(crate) items: Vec<Value<'t>>,
    depth: usize,
}

/// In the order in which they were written. Looking one up reads them all, which is paid for.
pub(crate) struct Map<'t> {
    pub(crate) entries: Vec<(Value<'t>, Value<'t>)>,
    depth: usize,
}

/// Numbers that are made as they are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) start: i64,
    pub(crate) step: i64,
    pub(crate) length: usize,
}

impl Range {
    pub(crate) fn get(self, index: usize) -> Option<i64> {
        // The sum is in range, however far the product is beyond it.
        (index < self.length).then(|| self.start.wrapping_add(self.step.wrapping_mul(index as i64)))
    }
}

/// What `loop` is in the body of a loop.
pub(crate) struct Loop<'t> {
    pub(crate) items: Items<'t>,
    pub(crate) index: usize,
}

/// What a loop goes over.
#[derive(Clone)]
pub(crate) enum Items<'t> {
    List(Rc<List<'t>>),
    Range(Range),
}

impl<'t> Items<'t> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::List(list) => list.items.len(),
            Self::Range(range) => range.length,
        }
    }

    pub(crate) fn get(&self, index: usize) -> Option<Value<'t>> {
        match self {
            Self::List(list) => list.items.get(index).cloned(),
            Self::Range(range) => range.get(index).map(Value::Int),
        }
    }
}

impl<'t> Value<'t> {
    pub(crate) fn list(items: Vec<Self>, meter: &Meter) -> Result<Self, Failure> {
        meter.make(size_of::<List>() + items.len() * size_of::<Self>())?;
        let depth = deeper(items.iter())?;
        Ok(Self::List(Rc::new(List { items, depth })))
    }

    /// Of two entries with the same key the later one counts.
    pub(crate) fn map(entries: Vec<(Self, Self)>, meter: &Meter) -> Result<Self, Failure> {
        meter.make(size_of::<Map>() + entries.len() * size_of::<(Self, Self)>())?;
        let depth = deeper(entries.iter().flat_map(|(key, value)| [key, value]))?;
        let mut kept: Vec<(Self, Self)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let mut same = None;
            for (index, (other, _)) in kept.iter().enumerate() {
                if other.equals(&key, meter)? {
                    same = Some(index);
                }
            }
            match same {
                Some(index) => kept[index].1 = value,
                None => kept.push((key, value)),
            }
        }
        Ok(Self::Map(Rc::new(Map { entries: kept, depth })))
    }

    pub(crate) fn text(text: &str, author: Author, meter: &Meter) -> Result<Self, Failure> {
        Text::copy(text, author, meter).map(Self::Text)
    }

    /// Whether this may be kept in a namespace, which must not hold itself.
    pub(crate) fn can_be_kept(&self) -> bool {
        depth(self) < DEEPEST
    }

    pub(crate) fn is_true(&self) -> bool {
        match self {
            Self::Undefined | Self::None => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Text(text) => !text.as_str().is_empty(),
            Self::List(list) => !list.items.is_empty(),
            Self::Map(map) => !map.entries.is_empty(),
            Self::Range(range) => range.length > 0,
            Self::Namespace(_) | Self::Macro(_) | Self::Function(_) | Self::Loop(_) => true,
        }
    }

    /// What it is, for an error.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Undefined => "undefined",
            Self::None => "none",
            Self::Bool(_) => "a boolean",
            Self::Int(_) | Self::Float(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) | Self::Range(_) => "a list",
            Self::Map(_) => "a mapping",
            Self::Namespace(_) => "a namespace",
            Self::Macro(_) | Self::Function(_) => "a function",
            Self::Loop(_) => "a loop",
        }
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text.as_str()),
            _ => None,
        }
    }

    pub(crate) fn as_int(&self) -> Option<i64> {
        match *self {
            Self::Int(value) => Some(value),
            Self::Bool(value) => Some(value.into()),
            Self::Float(value) if value.fract() == 0.0 && value.abs() < 1e15 => Some(value as i64),
            _ => None,
        }
    }

    pub(crate) fn as_float(&self) -> Option<f64> {
        match *self {
            Self::Int(value) => Some(value as f64),
            Self::Bool(value) => Some(f64::from(u8::from(value))),
            Self::Float(value) => Some(value),
            _ => None,
        }
    }

    /// The value of `key` in a mapping.
    pub(crate) fn lookup(&self, key: &Value<'t>, meter: &Meter) -> Result<Option<Value<'t>>, Failure> {
        let Self::Map(map) = self else { return Ok(None) };
        for (other, value) in &map.entries {
            if other.equals(key, meter)? {
                return Ok(Some(value.clone()));
            }
        }
        Ok(None)
    }

    /// The value of a key that is a name.
    pub(crate) fn lookup_name(&self, name: &str, meter: &Meter) -> Result<Option<Value<'t>>, Failure> {
        let Self::Map(map) = self else { return Ok(None) };
        for (other, value) in &map.entries {
            meter.step()?;
            if other.as_str() == Some(name) {
                return Ok(Some(value.clone()));
            }
        }
        Ok(None)
    }

    /// What a loop over this goes over: elements, keys or characters.
    pub(crate) fn items(&self, meter: &Meter) -> Result<Items<'t>, Failure> {
        let list = match self {
            Self::List(list) => return Ok(Items::List(Rc::clone(list))),
            Self::Range(range) => return Ok(Items::Range(*range)),
            Self::Undefined => Vec::new(),
            Self::Map(map) => map.entries.iter().map(|(key, _)| key.clone()).collect(),
            Self::Text(text) => {
                let mut characters = Vec::new();
                for (start, character) in text.as_str().char_indices() {
                    meter.make(size_of::<Self>())?;
                    characters.push(Self::Text(text.slice(start..start + character.len_utf8(), meter)?));
                }
                characters
            }
            other => return Err(Failure::invalid(format!("{} cannot be iterated over", other.kind()))),
        };
        match Self::list(list, meter)? {
            Self::List(list) => Ok(Items::List(list)),
            _ => Err(Failure::invalid("a list is no list")),
        }
    }

    /// The elements, keys or characters.
    pub(crate) fn to_vec(&self, meter: &Meter) -> Result<Vec<Value<'t>>, Failure> {
        let items = self.items(meter)?;
        meter.make(items.len().saturating_mul(size_of::<Self>()))?;
        Ok((0..items.len()).filter_map(|index| items.get(index)).collect())
    }

    /// The number of elements, keys or characters.
    pub(crate) fn length(&self, meter: &Meter) -> Result<usize, Failure> {
        match self {
            Self::Undefined => Ok(0),
            Self::Text(text) => {
                meter.read(text.as_str().len())?;
                Ok(text.as_str().chars().count())
            }
            Self::List(list) => Ok(list.items.len()),
            Self::Map(map) => Ok(map.entries.len()),
            Self::Range(range) => Ok(range.length),
            other => Err(Failure::invalid(format!("{} has no length", other.kind()))),
        }
    }

    pub(crate) fn equals(&self, other: &Self, meter: &Meter) -> Result<bool, Failure> {
        meter.step()?;
        Ok(match (self, other) {
            (Self::Undefined, Self::Undefined) | (Self::None, Self::None) => true,
            (Self::Text(a), Self::Text(b)) => {
                let (a, b) = (a.as_str(), b.as_str());
                if a.len() == b.len() {
                    meter.read(a.len())?;
                }
                a == b
            }
            (Self::Map(a), Self::Map(b)) => {
                if a.entries.len() != b.entries.len() {
                    return Ok(false);
                }
                for (key, value) in &a.entries {
                    match other.lookup(key, meter)? {
                        Some(found) if found.equals(value, meter)? => {}
                        _ => return Ok(false),
                    }
                }
                true
            }
            (Self::Range(a), Self::Range(b)) => a == b,
            (Self::List(_) | Self::Range(_), Self::List(_) | Self::Range(_)) => {
                let (a, b) = (self.items(meter)?, other.items(meter)?);
                if a.len() != b.len() {
                    return Ok(false);
                }
                for index in 0..a.len() {
                    if let (Some(a), Some(b)) = (a.get(index), b.get(index))
                        && !a.equals(&b, meter)?
                    {
                        return Ok(false);
                    }
                }
                true
            }
            (Self::Function(a), Self::Function(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            _ => matches!((self.as_float(), other.as_float()), (Some(a), Some(b)) if a == b),
        })
    }

    /// Which comes first; `None` for values that have no order between them.
    pub(crate) fn compare(&self, other: &Self, meter: &Meter) -> Result<Option<Ordering>, Failure> {
        meter.step()?;
        Ok(match (self, other) {
            (Self::Text(a), Self::Text(b)) => {
                meter.read(a.as_str().len().min(b.as_str().len()))?;
                Some(a.as_str().cmp(b.as_str()))
            }
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (Self::List(a), Self::List(b)) => {
                for (a, b) in a.items.iter().zip(&b.items) {
                    match a.compare(b, meter)? {
                        Some(Ordering::Equal) => {}
                        other => return Ok(other),
                    }
                }
                Some(a.items.len().cmp(&b.items.len()))
            }
            _ => match (self.as_float(), other.as_float()) {
                (Some(a), Some(b)) => a.partial_cmp(&b),
                _ => None,
            },
        })
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::List(list) => list.depth,
        Value::Map(map) => map.depth,
        // These could come to hold themselves.
        Value::Namespace(_) | Value::Loop(_) => DEEPEST,
        _ => 0,
    }
}

fn deeper<'v, 't: 'v>(values: impl Iterator<Item = &'v Value<'t>>) -> Result<usize, Failure> {
    let depth = 1 + values.map(depth).max().unwrap_or(0);
    if depth < DEEPEST { Ok(depth) } else { Err(Failure::invalid("lists are nested too deeply")) }
}
