//! Statements → text.

use std::rc::Rc;

use super::Failure;
use super::arguments::Given;
use super::filters::filter;
use super::meter::Meter;
use super::print::print;
use super::syntax::{Action, Block, Expression, FilterCall, Macro, Statement, Target};
use super::text::{Author, Text, TextBuilder};
use super::value::{Function, Items, Loop, Value};

/// Statements and expressions in each other while rendering. What it takes of the stack is measured by a test.
const DEEPEST: usize = 300;

/// The functions that every template has, by their names.
const FUNCTIONS: [(&str, Function); 4] = [
    ("range", Function::Range),
    ("namespace", Function::Namespace),
    ("dict", Function::Dict),
    ("raise_exception", Function::RaiseException),
];

/// What a rendering is at.
pub(super) struct Renderer<'t, 'm> {
    pub(super) meter: &'m Meter<'m>,
    /// The variables, from the outermost scope to the innermost. Macros see the outermost and their own.
    scopes: Vec<Vec<(&'t str, Value<'t>)>>,
    /// What is printed, and in front of it what waits for the end of a block.
    outputs: Vec<TextBuilder>,
    /// Longest result.
    limit: usize,
    nesting: usize,
    line: usize,
}

/// Where it goes on after a statement.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

/// Renders a template with these variables; the result has at most `limit` bytes.
pub(crate) fn render<'t>(
    template: &'t Block,
    variables: Vec<(&'t str, Value<'t>)>,
    limit: usize,
    meter: &Meter,
) -> Result<Text, Failure> {
    let mut renderer = Renderer {
        meter,
        scopes: vec![variables],
        outputs: vec![TextBuilder::default()],
        limit,
        nesting: 0,
        line: 1,
    };
    match renderer.block(template) {
        Ok(_) => renderer.outputs.pop().unwrap_or_default().finish(meter),
        Err(Failure::Invalid(reason)) => Err(Failure::Invalid(format!("{reason} (line {})", renderer.line))),
        Err(failure) => Err(failure),
    }
}

impl<'t> Renderer<'t, '_> {
    /// One level deeper, for as long as `work` takes.
    pub(super) fn nested<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.meter.step()?;
        if self.nesting >= DEEPEST {
            return Err(Failure::invalid("it is nested too deeply"));
        }
        self.nesting += 1;
        let result = work(self);
        self.nesting -= 1;
        result
    }

    pub(super) fn variable(&self, name: &str) -> Result<Value<'t>, Failure> {
        for scope in self.scopes.iter().rev() {
            for (other, value) in scope {
                self.meter.step()?;
                if *other == name {
                    return Ok(value.clone());
                }
            }
        }
        let function = FUNCTIONS.iter().find(|(other, _)| *other == name);
        Ok(function.map_or(Value::Undefined, |(_, function)| Value::Function(*function)))
    }

    fn set(&mut self, name: &'t str, value: Value<'t>) -> Result<(), Failure> {
        self.meter.make(size_of::<(&str, Value)>())?;
        if let Some(scope) = self.scopes.last_mut() {
            match scope.iter_mut().find(|(other, _)| *other == name) {
                Some((_, old)) => *old = value,
                None => scope.push((name, value)),
            }
        }
        Ok(())
    }

    fn assign(&mut self, target: &'t Target, value: Value<'t>) -> Result<(), Failure> {
        match target {
            Target::Name(name) => self.set(name, value),
            Target::Several(targets) => {
                let items = value.items(self.meter)?;
                if items.len() != targets.len() {
                    return Err(Failure::invalid(format!(
                        "{} values do not fit {} names",
                        items.len(),
                        targets.len()
                    )));
                }
                let mut pairs = targets.iter().enumerate();
                pairs.try_for_each(|(index, target)| {
                    self.assign(target, items.get(index).unwrap_or(Value::Undefined))
                })
            }
            Target::Attribute(name, attribute) => {
                let Value::Namespace(variables) = self.variable(name)? else {
                    return Err(Failure::invalid(format!("{name} is no namespace")));
                };
                if !value.can_be_kept() {
                    return Err(Failure::invalid("a namespace cannot hold another one"));
                }
                self.meter.make(size_of::<(String, Value)>() + attribute.len())?;
                let mut variables = variables.borrow_mut();
                match variables.iter_mut().find(|(other, _)| other == attribute) {
                    Some((_, old)) => *old = value,
                    None => variables.push((attribute.clone(), value)),
                }
                Ok(())
            }
        }
    }

    fn write(&mut self, text: &Text) -> Result<(), Failure> {
        let whole = self.outputs.len() == 1;
        let Some(output) = self.outputs.last_mut() else { return Ok(()) };
        if whole && output.len() + text.as_str().len() > self.limit {
            return Err(Failure::Overflow);
        }
        output.push_text(text, self.meter)
    }

    fn block(&mut self, block: &'t Block) -> Result<Flow, Failure> {
        self.nested(|renderer| {
            for statement in block {
                let flow = renderer.statement(statement)?;
                if flow != Flow::Next {
                    return Ok(flow);
                }
            }
            Ok(Flow::Next)
        })
    }

    /// A block with variables of its own.
    fn scoped(&mut self, variables: Vec<(&'t str, Value<'t>)>, block: &'t Block) -> Result<Flow, Failure> {
        self.scopes.push(variables);
        let flow = self.block(block);
        self.scopes.pop();
        flow
    }

    /// What a block prints.
    fn captured(&mut self, variables: Vec<(&'t str, Value<'t>)>, block: &'t Block) -> Result<Text, Failure> {
        self.outputs.push(TextBuilder::default());
        let flow = self.scoped(variables, block);
        let output = self.outputs.pop().unwrap_or_default();
        flow?;
        output.finish(self.meter)
    }

    fn statement(&mut self, statement: &'t Statement) -> Result<Flow, Failure> {
        self.meter.step()?;
        self.line = statement.line;
        match &statement.action {
            Action::Data(text) => self.write(&Text::new(text.clone(), Author::Template))?,
            Action::Print(expression) => {
                let value = self.evaluate(expression)?;
                if let Value::Text(text) = &value {
                    self.write(text)?;
                } else {
                    let mut text = TextBuilder::default();
                    print(&value, &mut text, self.meter)?;
                    self.write(&text.finish(self.meter)?)?;
                }
            }
            Action::If { branches, otherwise } => {
                for (condition, body) in branches {
                    if self.evaluate(condition)?.is_true() {
                        return self.block(body);
                    }
                }
                return self.block(otherwise);
            }
            Action::For { target, over, only, body, otherwise } => {
                self.for_loop(target, over, only.as_ref(), body, otherwise)?;
            }
            Action::Set(target, value) => {
                let value = self.evaluate(value)?;
                self.assign(target, value)?;
            }
            Action::Capture { name, filters, body } => {
                let text = self.captured(Vec::new(), body)?;
                let value = self.filtered(Value::Text(text), filters)?;
                self.set(name, value)?;
            }
            Action::Filter { filters, body } => {
                let text = self.captured(Vec::new(), body)?;
                let mut printed = TextBuilder::default();
                print(&self.filtered(Value::Text(text), filters)?, &mut printed, self.meter)?;
                self.write(&printed.finish(self.meter)?)?;
            }
            Action::With { variables, body } => {
                let mut scope = Vec::new();
                for (name, value) in variables {
                    scope.push((name.as_str(), self.evaluate(value)?));
                }
                return self.scoped(scope, body);
            }
            Action::Macro(definition) => self.set(&definition.name, Value::Macro(definition))?,
            Action::Do(expression) => drop(self.evaluate(expression)?),
            Action::Plain(body) => return self.block(body),
            Action::Break => return Ok(Flow::Break),
            Action::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn filtered(&mut self, value: Value<'t>, filters: &'t [FilterCall]) -> Result<Value<'t>, Failure> {
        filters.iter().try_fold(value, |value, (name, arguments)| {
            let given = self.given(arguments)?;
            filter(name, value, given, self.meter)
        })
    }

    fn for_loop(
        &mut self,
        target: &'t Target,
        over: &'t Expression,
        only: Option<&'t Expression>,
        body: &'t Block,
        otherwise: &'t Block,
    ) -> Result<(), Failure> {
        let items = self.evaluate(over)?.items(self.meter)?;
        let items = match only {
            Some(only) => self.selected(target, &items, only)?,
            None => items,
        };
        if items.len() == 0 {
            self.block(otherwise)?;
            return Ok(());
        }
        for index in 0..items.len() {
            self.meter.make(size_of::<Loop>())?;
            let state = Loop { items: items.clone(), index };
            self.scopes.push(vec![("loop", Value::Loop(Rc::new(state)))]);
            let item = items.get(index).unwrap_or(Value::Undefined);
            let flow = self.assign(target, item).and_then(|()| self.block(body));
            self.scopes.pop();
            if flow? == Flow::Break {
                break;
            }
        }
        Ok(())
    }

    /// The items for which the condition of a loop holds.
    fn selected(
        &mut self,
        target: &'t Target,
        items: &Items<'t>,
        only: &'t Expression,
    ) -> Result<Items<'t>, Failure> {
        let mut selected = Vec::new();
        for item in (0..items.len()).filter_map(|index| items.get(index)) {
            self.meter.make(size_of::<Value>())?;
            self.scopes.push(Vec::new());
            let holds = self.assign(target, item.clone()).and_then(|()| self.evaluate(only));
            self.scopes.pop();
            if holds?.is_true() {
                selected.push(item);
            }
        }
        Value::list(selected, self.meter)?.items(self.meter)
    }

    pub(super) fn call_macro(
        &mut self,
        callee: &'t Macro,
        mut given: Given<'t>,
    ) -> Result<Value<'t>, Failure> {
        let mut variables = Vec::new();
        for (name, default) in &callee.parameters {
            let value = match (given.take(name), default) {
                (Some(value), _) => value,
                (None, Some(default)) => self.evaluate(default)?,
                (None, None) => Value::Undefined,
            };
            variables.push((name.as_str(), value));
        }
        given.done()?;
        let hidden = self.scopes.split_off(1);
        let text = self.nested(|renderer| renderer.captured(variables, &callee.body));
        self.scopes.truncate(1);
        self.scopes.extend(hidden);
        text.map(Value::Text)
    }
}
