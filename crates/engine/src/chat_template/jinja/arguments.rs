//! The arguments of a call, as a filter or function takes them.

use super::Failure;
use super::meter::Meter;
use super::text::Text;
use super::value::Value;

/// Evaluated arguments, of which each is taken once.
#[derive(Default)]
pub(crate) struct Given<'t> {
    positional: std::collections::VecDeque<Value<'t>>,
    named: Vec<(String, Value<'t>)>,
}

impl<'t> Given<'t> {
    pub(crate) fn new(positional: Vec<Value<'t>>, named: Vec<(String, Value<'t>)>) -> Self {
        Self { positional: positional.into(), named }
    }

    /// The next one, by its place or its name.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value<'t>> {
        self.positional.pop_front().or_else(|| self.take_named(name))
    }

    pub(crate) fn take_named(&mut self, name: &str) -> Option<Value<'t>> {
        let index = self.named.iter().position(|(other, _)| other == name)?;
        Some(self.named.swap_remove(index).1)
    }

    pub(crate) fn require(&mut self, name: &str) -> Result<Value<'t>, Failure> {
        self.take(name).ok_or_else(|| Failure::invalid(format!("the argument {name} is missing")))
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<Text, Failure> {
        text_of(self.require(name)?, name)
    }

    /// `none` is as good as nothing.
    pub(crate) fn optional_text(&mut self, name: &str) -> Result<Option<Text>, Failure> {
        match self.take(name) {
            None | Some(Value::None) => Ok(None),
            Some(value) => text_of(value, name).map(Some),
        }
    }

    pub(crate) fn optional_int(&mut self, name: &str) -> Result<Option<i64>, Failure> {
        match self.take(name) {
            None | Some(Value::None) => Ok(None),
            Some(value) => value
                .as_int()
                .map(Some)
                .ok_or_else(|| Failure::invalid(format!("{name} must be a number, not {}", value.kind()))),
        }
    }

    pub(crate) fn is_true(&mut self, name: &str) -> bool {
        self.take(name).is_some_and(|value| value.is_true())
    }

    /// The same once more, for a filter that applies another one to each element.
    pub(crate) fn copied(&self, meter: &Meter) -> Result<Self, Failure> {
        meter.make((self.positional.len() + 2 * self.named.len()) * size_of::<Value>())?;
        Ok(Self { positional: self.positional.clone(), named: self.named.clone() })
    }

    /// All that is named, in order.
    pub(crate) fn into_named(self) -> Vec<(String, Value<'t>)> {
        self.named
    }

    /// Nothing may be left that nobody looked at.
    pub(crate) fn done(&self) -> Result<(), Failure> {
        if let Some((name, _)) = self.named.first() {
            return Err(Failure::invalid(format!("there is no argument {name}")));
        }
        if self.positional.is_empty() {
            Ok(())
        } else {
            Err(Failure::invalid("there are too many arguments"))
        }
    }
}

fn text_of(value: Value, name: &str) -> Result<Text, Failure> {
    match value {
        Value::Text(text) => Ok(text),
        other => Err(Failure::invalid(format!("{name} must be a string, not {}", other.kind()))),
    }
}
