//! Expressions → values.

use std::cell::RefCell;
use std::rc::Rc;

use super::Failure;
use super::arguments::Given;
use super::filters::filter;
use super::methods::method;
use super::operators::apply;
use super::predicates::test;
use super::render::Renderer;
use super::strings::{slice_bounds, sliced};
use super::syntax::{Arguments, Expression, Operator};
use super::text::{Author, Text};
use super::value::{Function, Loop, Range, Value};

/// Elements of a range; a conversation has fewer messages.
const LONGEST_RANGE: i128 = 1_000_000;

impl<'t> Renderer<'t, '_> {
    pub(super) fn evaluate(&mut self, expression: &'t Expression) -> Result<Value<'t>, Failure> {
        self.nested(|renderer| renderer.evaluate_here(expression))
    }

    fn evaluate_here(&mut self, expression: &'t Expression) -> Result<Value<'t>, Failure> {
        let meter = self.meter;
        match expression {
            Expression::None => Ok(Value::None),
            Expression::Bool(value) => Ok(Value::Bool(*value)),
            Expression::Int(value) => Ok(Value::Int(*value)),
            Expression::Float(value) => Ok(Value::Float(*value)),
            Expression::Text(text) => Ok(Value::Text(Text::new(text.clone(), Author::Template))),
            Expression::Name(name) => self.variable(name),
            Expression::List(elements) => {
                let elements = self.evaluate_all(elements)?;
                Value::list(elements, meter)
            }
            Expression::Map(entries) => {
                let mut evaluated = Vec::new();
                for (key, value) in entries {
                    evaluated.push((self.evaluate(key)?, self.evaluate(value)?));
                }
                Value::map(evaluated, meter)
            }
            Expression::Attribute(inner, name) => {
                let value = self.evaluate(inner)?;
                self.attribute(&value, name)
            }
            Expression::Index(inner, index) => {
                let (value, index) = (self.evaluate(inner)?, self.evaluate(index)?);
                self.index(&value, &index)
            }
            Expression::Slice(inner, parts) => self.slice(inner, parts),
            Expression::Call(callee, arguments) => self.call(callee, arguments),
            Expression::Filter(inner, name, arguments) => {
                let value = self.evaluate(inner)?;
                let given = self.given(arguments)?;
                filter(name, value, given, meter)
            }
            Expression::Test(inner, name, arguments) => {
                let value = self.evaluate(inner)?;
                let given = self.given(arguments)?;
                test(name, &value, given, meter).map(Value::Bool)
            }
            Expression::Not(inner) => Ok(Value::Bool(!self.evaluate(inner)?.is_true())),
            Expression::Negative(inner) => {
                let value = self.evaluate(inner)?;
                apply(Operator::Subtract, &Value::Int(0), &value, meter)
            }
            Expression::Binary(operator @ (Operator::And | Operator::Or), left, right) => {
                let left = self.evaluate(left)?;
                // `or` ends with the first that is true, `and` with the first that is not.
                if left.is_true() == (*operator == Operator::Or) { Ok(left) } else { self.evaluate(right) }
            }
            Expression::Binary(operator, left, right) => {
                let (left, right) = (self.evaluate(left)?, self.evaluate(right)?);
                apply(*operator, &left, &right, meter)
            }
            Expression::Choice { condition, then, otherwise } => {
                if self.evaluate(condition)?.is_true() {
                    self.evaluate(then)
                } else {
                    otherwise.as_ref().map_or(Ok(Value::Undefined), |otherwise| self.evaluate(otherwise))
                }
            }
        }
    }

    fn evaluate_all(&mut self, expressions: &'t [Expression]) -> Result<Vec<Value<'t>>, Failure> {
        expressions.iter().map(|expression| self.evaluate(expression)).collect()
    }

    pub(super) fn given(&mut self, arguments: &'t Arguments) -> Result<Given<'t>, Failure> {
        let positional = self.evaluate_all(&arguments.positional)?;
        let mut named = Vec::new();
        for (name, value) in &arguments.named {
            named.push((name.clone(), self.evaluate(value)?));
        }
        Ok(Given::new(positional, named))
    }

    /// `value.name`
    fn attribute(&self, value: &Value<'t>, name: &str) -> Result<Value<'t>, Failure> {
        let found = match value {
            Value::Undefined => {
                return Err(Failure::invalid(format!("{name} is looked up in an undefined value")));
            }
            Value::Namespace(variables) => {
                let variables = variables.borrow();
                variables.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())
            }
            Value::Loop(state) => loop_variable(state, name),
            _ => value.lookup_name(name, self.meter)?,
        };
        Ok(found.unwrap_or(Value::Undefined))
    }

    /// `value[index]`
    fn index(&self, value: &Value<'t>, index: &Value<'t>) -> Result<Value<'t>, Failure> {
        if let Some(name) = index.as_str()
            && !matches!(value, Value::Map(_) | Value::List(_) | Value::Text(_))
        {
            return self.attribute(value, name);
        }
        let place = |length: usize| {
            let index = index.as_int()?;
            usize::try_from(if index < 0 { index + length as i64 } else { index }).ok()
        };
        let found = match value {
            Value::Undefined => return Err(Failure::invalid("an undefined value is indexed")),
            Value::Map(_) => value.lookup(index, self.meter)?,
            Value::List(list) => place(list.items.len()).and_then(|place| list.items.get(place).cloned()),
            Value::Range(range) => place(range.length).and_then(|place| range.get(place)).map(Value::Int),
            Value::Text(text) => {
                let length = value.length(self.meter)?;
                match place(length).filter(|place| *place < length) {
                    Some(place) => {
                        let place = place as i64;
                        let character = sliced(text, [Some(place), Some(place + 1), None], self.meter)?;
                        Some(Value::Text(character))
                    }
                    None => None,
                }
            }
            _ => None,
        };
        Ok(found.unwrap_or(Value::Undefined))
    }

    fn slice(
        &mut self,
        inner: &'t Expression,
        parts: &'t [Option<Box<Expression>>; 3],
    ) -> Result<Value<'t>, Failure> {
        let value = self.evaluate(inner)?;
        let mut bounds = [None; 3];
        for (bound, part) in bounds.iter_mut().zip(parts) {
            if let Some(part) = part {
                let part = self.evaluate(part)?;
                *bound = match part {
                    Value::None | Value::Undefined => None,
                    _ => {
                        Some(part.as_int().ok_or_else(|| Failure::invalid("a slice has numbers as bounds"))?)
                    }
                };
            }
        }
        if let Value::Text(text) = &value {
            return sliced(text, bounds, self.meter).map(Value::Text);
        }
        let items = value.items(self.meter)?;
        let (start, step, count) = slice_bounds(bounds, items.len())?;
        self.meter.make(count.saturating_mul(size_of::<Value>()))?;
        let place = |nth: usize| usize::try_from(start as i64 + nth as i64 * step).ok();
        let selected = (0..count).filter_map(|nth| items.get(place(nth)?)).collect();
        Value::list(selected, self.meter)
    }

    fn call(&mut self, callee: &'t Expression, arguments: &'t Arguments) -> Result<Value<'t>, Failure> {
        if let Expression::Attribute(inner, name) = callee {
            let value = self.evaluate(inner)?;
            let given = self.given(arguments)?;
            if let Value::Loop(state) = &value {
                return loop_method(state, name, given);
            }
            return method(&value, name, given, self.meter);
        }
        let value = self.evaluate(callee)?;
        let given = self.given(arguments)?;
        match value {
            Value::Function(function) => self.function(function, given),
            Value::Macro(callee) => self.call_macro(callee, given),
            Value::Undefined => Err(Failure::invalid(match callee {
                Expression::Name(name) => format!("the function {name} is not known here"),
                _ => "an undefined value is called".to_owned(),
            })),
            other => Err(Failure::invalid(format!("{} is called", other.kind()))),
        }
    }

    fn function(&mut self, function: Function, mut given: Given<'t>) -> Result<Value<'t>, Failure> {
        match function {
            Function::RaiseException => Err(Failure::Raised(given.text("message")?.as_str().to_owned())),
            Function::Range => {
                let first = given.optional_int("start")?.unwrap_or(0);
                let second = given.optional_int("stop")?;
                let step = given.optional_int("step")?.unwrap_or(1);
                given.done()?;
                let (start, stop) = second.map_or((0, first), |second| (first, second));
                let (span, step_size) = (i128::from(stop) - i128::from(start), i128::from(step));
                if step == 0 {
                    return Err(Failure::invalid("the step of a range is 0"));
                }
                let length = ((span + step_size - step_size.signum()) / step_size).max(0);
                if length > LONGEST_RANGE {
                    return Err(Failure::invalid("a range is too long"));
                }
                Ok(Value::Range(Range { start, step, length: length as usize }))
            }
            Function::Namespace => {
                let first = given.take("first");
                let mut variables = given.into_named();
                if let Some(Value::Map(map)) = first {
                    for (name, value) in &map.entries {
                        self.meter.make(size_of::<Value>())?;
                        variables.push((name.as_str().unwrap_or_default().to_owned(), value.clone()));
                    }
                }
                if !variables.iter().all(|(_, value)| value.can_be_kept()) {
                    return Err(Failure::invalid("a namespace cannot hold another one"));
                }
                Ok(Value::Namespace(Rc::new(RefCell::new(variables))))
            }
            Function::Dict => {
                let mut entries = match given.take("mapping") {
                    Some(Value::Map(map)) => map.entries.clone(),
                    _ => Vec::new(),
                };
                for (name, value) in given.into_named() {
                    entries.push((Value::text(&name, Author::Template, self.meter)?, value));
                }
                Value::map(entries, self.meter)
            }
        }
    }
}

fn loop_variable<'t>(state: &Loop<'t>, name: &str) -> Option<Value<'t>> {
    let (index, length) = (state.index, state.items.len());
    Some(match name {
        "index" => Value::Int(index as i64 + 1),
        "index0" => Value::Int(index as i64),
        "revindex" => Value::Int((length - index) as i64),
        "revindex0" => Value::Int((length - index) as i64 - 1),
        "first" => Value::Bool(index == 0),
        "last" => Value::Bool(index + 1 == length),
        "length" => Value::Int(length as i64),
        // They count recursive loops.
        "depth" => Value::Int(1),
        "depth0" => Value::Int(0),
        "previtem" => index.checked_sub(1).and_then(|index| state.items.get(index))?,
        "nextitem" => state.items.get(index + 1)?,
        _ => return None,
    })
}

fn loop_method<'t>(state: &Loop<'t>, name: &str, mut given: Given<'t>) -> Result<Value<'t>, Failure> {
    if name != "cycle" {
        return Err(Failure::invalid(format!("loop.{name} is not known here")));
    }
    let mut values = Vec::new();
    while let Some(value) = given.take("value") {
        values.push(value);
    }
    let place = state.index.checked_rem(values.len());
    place.and_then(|place| values.get(place).cloned()).ok_or_else(|| Failure::invalid("cycle has no values"))
}
