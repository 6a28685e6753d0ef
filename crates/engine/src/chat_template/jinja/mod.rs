//! Jinja, as chat templates use it: the text of a template and the variables of a conversation → text.
//!
//! A template comes from a file that anyone may have made, and messages from anyone at all. Two things follow that no library
//! offers, and that are why this is here: every byte of a text knows whether the template or a message wrote it ([`text`]), and
//! whatever a template does is paid for before it is done ([`meter`]), in work and in memory.
//!
//! Absent on purpose: inclusion and inheritance, which have no second file here; recursive loops; the clock.

mod arguments;
mod evaluate;
mod expressions;
mod filters;
mod lexer;
mod meter;
mod methods;
mod operators;
mod parser;
mod predicates;
mod print;
mod render;
mod strings;
mod syntax;
mod text;
mod value;

pub(crate) use meter::Meter;
pub(crate) use parser::parse;
pub(crate) use render::render;
pub(crate) use syntax::Block;
pub(crate) use text::{Author, Text};
pub(crate) use value::Value;

/// Why a rendering, or the reading of a template, ends early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The template called `raise_exception`.
    Raised(String),
    /// The result is longer than it may be.
    Overflow,
    /// Nobody waits for it any more.
    Abandoned,
    /// The template is wrong, or not for these messages.
    Invalid(String),
}

impl Failure {
    fn invalid(reason: impl Into<String>) -> Self {
        Self::Invalid(reason.into())
    }
}

#[cfg(test)]
mod tests;
