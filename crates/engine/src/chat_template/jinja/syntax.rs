//! The parts of a parsed template.

use std::sync::Arc;

pub(crate) type Block = Vec<Statement>;

#[derive(Debug)]
pub(crate) struct Statement {
    /// Where it begins, from 1.
    pub(crate) line: usize,
    pub(crate) action: Action,
}

#[derive(Debug)]
pub(crate) enum Action {
    Data(Arc<str>),
    Print(Expression),
    If {
        branches: Vec<(Expression, Block)>,
        otherwise: Block,
    },
    For {
        target: Target,
        over: Expression,
        only: Option<Expression>,
        body: Block,
        otherwise: Block,
    },
    Set(Target, Expression),
    /// Prints a block into a variable.
    Capture {
        name: String,
        filters: Vec<FilterCall>,
        body: Block,
    },
    /// Prints a block through filters.
    Filter {
        filters: Vec<FilterCall>,
        body: Block,
    },
    With {
        variables: Vec<(String, Expression)>,
        body: Block,
    },
    Macro(Macro),
    /// Evaluates and forgets.
    Do(Expression),
    /// A block that means nothing to a prompt.
    Plain(Block),
    Break,
    Continue,
}

#[derive(Debug)]
pub(crate) struct Macro {
    pub(crate) name: String,
    pub(crate) parameters: Vec<(String, Option<Expression>)>,
    pub(crate) body: Block,
}

/// What can be assigned to.
#[derive(Debug)]
pub(crate) enum Target {
    Name(String),
    Several(Vec<Target>),
    /// An attribute of a namespace.
    Attribute(String, String),
}

#[derive(Debug)]
pub(crate) enum Expression {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Arc<str>),
    Name(String),
    List(Vec<Expression>),
    Map(Vec<(Expression, Expression)>),
    Attribute(Box<Expression>, String),
    Index(Box<Expression>, Box<Expression>),
    Slice(Box<Expression>, [Option<Box<Expression>>; 3]),
    Call(Box<Expression>, Arguments),
    Filter(Box<Expression>, String, Arguments),
    Test(Box<Expression>, String, Arguments),
    Not(Box<Expression>),
    Negative(Box<Expression>),
    Binary(Operator, Box<Expression>, Box<Expression>),
    /// `then if condition else otherwise`
    Choice {
        condition: Box<Expression>,
        then: Box<Expression>,
        otherwise: Option<Box<Expression>>,
    },
}

/// The name of a filter, and what stands behind it in brackets.
pub(crate) type FilterCall = (String, Arguments);

#[derive(Debug, Default)]
pub(crate) struct Arguments {
    pub(crate) positional: Vec<Expression>,
    pub(crate) named: Vec<(String, Expression)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
    Concatenate,
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Remainder,
    Power,
}
