//! Tokens → expressions, by their precedence.

use super::Failure;
use super::lexer::Token;
use super::parser::Parser;
use super::syntax::{Arguments, Expression, FilterCall, Operator};

/// Expressions in expressions, however they came there: in brackets, or because `a + b + c` is `(a + b) + c`.
const DEEPEST: usize = 150;

/// An expression, and how many are in each other.
struct Node {
    expression: Expression,
    depth: usize,
}

type Parsed = Result<Node, Failure>;

impl Node {
    fn leaf(expression: Expression) -> Self {
        Self { expression, depth: 1 }
    }
}

/// From the weakest to the strongest.
const BINARY: [&[(&str, Operator)]; 3] = [
    &[("~", Operator::Concatenate)],
    &[("+", Operator::Add), ("-", Operator::Subtract)],
    &[
        ("*", Operator::Multiply),
        ("//", Operator::FloorDivide),
        ("/", Operator::Divide),
        ("%", Operator::Remainder),
    ],
];

const COMPARISONS: [(&str, Operator); 6] = [
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    ("<", Operator::Less),
    ("<=", Operator::LessOrEqual),
    (">", Operator::Greater),
    (">=", Operator::GreaterOrEqual),
];

impl Parser {
    pub(super) fn expression(&mut self) -> Result<Expression, Failure> {
        self.node().map(|node| node.expression)
    }

    /// `a, b` is a list.
    pub(super) fn expression_or_tuple(&mut self) -> Result<Expression, Failure> {
        let first = self.expression()?;
        if !self.is_symbol(",") {
            return Ok(first);
        }
        let mut elements = vec![first];
        while self.symbol(",") {
            if matches!(self.peek(), Some(Token::End)) {
                break;
            }
            elements.push(self.expression()?);
        }
        Ok(Expression::List(elements))
    }

    /// What a loop goes over: an `if` after it belongs to the loop.
    pub(super) fn without_choice(&mut self) -> Result<Expression, Failure> {
        let first = self.nested(Self::or)?.expression;
        if !self.is_symbol(",") {
            return Ok(first);
        }
        let mut elements = vec![first];
        while self.symbol(",") {
            elements.push(self.nested(Self::or)?.expression);
        }
        Ok(Expression::List(elements))
    }

    fn node(&mut self) -> Parsed {
        self.nested(|parser| {
            let mut node = parser.or()?;
            while parser.keyword("if") {
                let condition = parser.or()?;
                let otherwise = if parser.keyword("else") { Some(parser.node()?) } else { None };
                let depth =
                    node.depth.max(condition.depth).max(otherwise.as_ref().map_or(0, |node| node.depth));
                node = parser.over(
                    Expression::Choice {
                        condition: Box::new(condition.expression),
                        then: Box::new(node.expression),
                        otherwise: otherwise.map(|node| Box::new(node.expression)),
                    },
                    depth,
                )?;
            }
            Ok(node)
        })
    }

    /// An expression of others, the deepest of which has this depth.
    fn over(&self, expression: Expression, depth: usize) -> Parsed {
        if depth >= DEEPEST {
            return Err(self.error("an expression is too long"));
        }
        Ok(Node { expression, depth: depth + 1 })
    }

    fn binary(&self, operator: Operator, left: Node, right: Node) -> Parsed {
        let depth = left.depth.max(right.depth);
        self.over(Expression::Binary(operator, Box::new(left.expression), Box::new(right.expression)), depth)
    }

    fn negated(&self, node: Node) -> Parsed {
        self.over(Expression::Not(Box::new(node.expression)), node.depth)
    }

    fn or(&mut self) -> Parsed {
        let mut left = self.and()?;
        while self.keyword("or") {
            let right = self.and()?;
            left = self.binary(Operator::Or, left, right)?;
        }
        Ok(left)
    }

    fn and(&mut self) -> Parsed {
        let mut left = self.not()?;
        while self.keyword("and") {
            let right = self.not()?;
            left = self.binary(Operator::And, left, right)?;
        }
        Ok(left)
    }

    fn not(&mut self) -> Parsed {
        if self.keyword("not") {
            let node = self.nested(Self::not)?;
            return self.negated(node);
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Parsed {
        let mut left = self.operators(0)?;
        loop {
            let found = COMPARISONS.iter().find(|(symbol, _)| self.is_symbol(symbol));
            let operator = if let Some((symbol, operator)) = found {
                self.symbol(symbol);
                *operator
            } else if self.keyword("in") {
                Operator::In
            } else if self.is_name("not")
                && matches!(self.peek_second(), Some(Token::Name(name)) if name == "in")
            {
                self.next();
                self.next();
                Operator::NotIn
            } else {
                return Ok(left);
            };
            let right = self.operators(0)?;
            left = self.binary(operator, left, right)?;
        }
    }

    fn operators(&mut self, level: usize) -> Parsed {
        let Some(operators) = BINARY.get(level) else { return self.power() };
        let mut left = self.operators(level + 1)?;
        while let Some((symbol, operator)) = operators.iter().find(|(symbol, _)| self.is_symbol(symbol)) {
            self.symbol(symbol);
            let right = self.operators(level + 1)?;
            left = self.binary(*operator, left, right)?;
        }
        Ok(left)
    }

    fn power(&mut self) -> Parsed {
        let left = self.unary()?;
        if self.symbol("**") {
            let right = self.nested(Self::power)?;
            return self.binary(Operator::Power, left, right);
        }
        Ok(left)
    }

    fn unary(&mut self) -> Parsed {
        let node = if self.symbol("-") {
            let node = self.nested(Self::unary_only)?;
            self.over(Expression::Negative(Box::new(node.expression)), node.depth)?
        } else {
            self.symbol("+");
            let node = self.primary()?;
            self.postfix(node)?
        };
        self.filters_and_tests(node)
    }

    /// As `unary`, without the filters behind it: `-1 | abs` is `(-1) | abs`.
    fn unary_only(&mut self) -> Parsed {
        if self.symbol("-") {
            let node = self.nested(Self::unary_only)?;
            return self.over(Expression::Negative(Box::new(node.expression)), node.depth);
        }
        let node = self.primary()?;
        self.postfix(node)
    }

    fn primary(&mut self) -> Parsed {
        let leaf = match self.next() {
            Some(Token::Name(name)) => match name.as_str() {
                "true" | "True" => Expression::Bool(true),
                "false" | "False" => Expression::Bool(false),
                "none" | "None" => Expression::None,
                _ => Expression::Name(name),
            },
            Some(Token::Text(mut text)) => {
                // Two strings side by side are one.
                while let Some(Token::Text(more)) = self.peek() {
                    text.push_str(more);
                    self.next();
                }
                Expression::Text(text.into())
            }
            Some(Token::Int(value)) => Expression::Int(value),
            Some(Token::Float(value)) => Expression::Float(value),
            Some(Token::Symbol("(")) => return self.nested(Self::in_parentheses),
            Some(Token::Symbol("[")) => {
                let (elements, depth) = self.nested(|parser| parser.elements("]"))?;
                return self.over(Expression::List(elements), depth);
            }
            Some(Token::Symbol("{")) => return self.nested(Self::entries),
            _ => return Err(self.error("an expression is missing")),
        };
        Ok(Node::leaf(leaf))
    }

    fn in_parentheses(&mut self) -> Parsed {
        if self.symbol(")") {
            return Ok(Node::leaf(Expression::List(Vec::new())));
        }
        let first = self.node()?;
        if self.symbol(")") {
            return Ok(first);
        }
        self.expect(",")?;
        let (mut elements, depth) = self.elements(")")?;
        elements.insert(0, first.expression);
        self.over(Expression::List(elements), depth.max(first.depth))
    }

    /// Expressions with commas between them up to `end`, which is taken.
    fn elements(&mut self, end: &str) -> Result<(Vec<Expression>, usize), Failure> {
        let (mut elements, mut depth) = (Vec::new(), 0);
        while !self.symbol(end) {
            if !elements.is_empty() {
                self.expect(",")?;
                if self.symbol(end) {
                    break;
                }
            }
            let node = self.node()?;
            depth = depth.max(node.depth);
            elements.push(node.expression);
        }
        Ok((elements, depth))
    }

    fn entries(&mut self) -> Parsed {
        let (mut entries, mut depth) = (Vec::new(), 0);
        while !self.symbol("}") {
            if !entries.is_empty() {
                self.expect(",")?;
                if self.symbol("}") {
                    break;
                }
            }
            let key = self.node()?;
            self.expect(":")?;
            let value = self.node()?;
            depth = depth.max(key.depth).max(value.depth);
            entries.push((key.expression, value.expression));
        }
        self.over(Expression::Map(entries), depth)
    }

    /// `.name`, `[…]` and `(…)` behind an expression.
    fn postfix(&mut self, mut node: Node) -> Parsed {
        loop {
            let mut depth = node.depth;
            let inner = Box::new(node.expression);
            let outer = if self.symbol(".") {
                match self.next() {
                    Some(Token::Name(name)) => Expression::Attribute(inner, name),
                    Some(Token::Int(index)) => Expression::Index(inner, Box::new(Expression::Int(index))),
                    _ => return Err(self.error("a name is missing")),
                }
            } else if self.symbol("[") {
                let (index, inside) = self.nested(|parser| parser.index(inner))?;
                depth = depth.max(inside);
                index
            } else if self.symbol("(") {
                let (arguments, inside) = self.nested(Self::arguments)?;
                depth = depth.max(inside);
                Expression::Call(inner, arguments)
            } else {
                return Ok(Node { expression: *inner, depth });
            };
            node = self.over(outer, depth)?;
        }
    }

    /// Behind `[`: an index, or parts of a slice.
    fn index(&mut self, inner: Box<Expression>) -> Result<(Expression, usize), Failure> {
        let mut parts: [Option<Box<Expression>>; 3] = [None, None, None];
        let (mut part, mut depth) = (0, 0);
        loop {
            if self.symbol("]") {
                break;
            }
            if self.symbol(":") {
                part += 1;
                if part > 2 {
                    return Err(self.error("a slice has three parts"));
                }
            } else if parts[part].is_none() {
                let node = self.node()?;
                depth = depth.max(node.depth);
                parts[part] = Some(Box::new(node.expression));
            } else {
                return Err(self.error("] is missing"));
            }
        }
        match (part, parts) {
            (0, [Some(index), ..]) => Ok((Expression::Index(inner, index), depth)),
            (0, _) => Err(self.error("an index is missing")),
            (_, parts) => Ok((Expression::Slice(inner, parts), depth)),
        }
    }

    fn filters_and_tests(&mut self, mut node: Node) -> Parsed {
        loop {
            if self.symbol("|") {
                let ((name, arguments), depth) = self.filter()?;
                let depth = node.depth.max(depth);
                node = self.over(Expression::Filter(Box::new(node.expression), name, arguments), depth)?;
                node = self.postfix(node)?;
            } else if self.keyword("is") {
                let negated = self.keyword("not");
                let name = self.name()?;
                let (arguments, depth) = self.test_arguments()?;
                let depth = node.depth.max(depth);
                node = self.over(Expression::Test(Box::new(node.expression), name, arguments), depth)?;
                if negated {
                    node = self.negated(node)?;
                }
            } else {
                return Ok(node);
            }
        }
    }

    /// Behind `|`: a call of a filter, and how deep its arguments are.
    pub(super) fn filter(&mut self) -> Result<(FilterCall, usize), Failure> {
        let name = self.name()?;
        let (arguments, depth) =
            if self.symbol("(") { self.nested(Self::arguments)? } else { (Arguments::default(), 0) };
        Ok(((name, arguments), depth))
    }

    /// Up to `)`, which is taken, and how deep they are.
    fn arguments(&mut self) -> Result<(Arguments, usize), Failure> {
        let (mut arguments, mut depth) = (Arguments::default(), 0);
        while !self.symbol(")") {
            if !(arguments.positional.is_empty() && arguments.named.is_empty()) {
                self.expect(",")?;
                if self.symbol(")") {
                    break;
                }
            }
            let named = matches!(self.peek(), Some(Token::Name(_)))
                && matches!(self.peek_second(), Some(Token::Symbol("=")));
            let name = if named { Some(self.name()?) } else { None };
            if named {
                self.expect("=")?;
            }
            let node = self.node()?;
            depth = depth.max(node.depth);
            match name {
                Some(name) => arguments.named.push((name, node.expression)),
                None => arguments.positional.push(node.expression),
            }
        }
        Ok((arguments, depth))
    }

    /// In brackets, or one without: `is divisibleby 3`.
    fn test_arguments(&mut self) -> Result<(Arguments, usize), Failure> {
        if self.symbol("(") {
            return self.nested(Self::arguments);
        }
        let bare = match self.peek() {
            Some(Token::Text(_) | Token::Int(_) | Token::Float(_) | Token::Symbol("[" | "{")) => true,
            Some(Token::Name(name)) => {
                !matches!(name.as_str(), "and" | "or" | "not" | "in" | "is" | "if" | "else" | "recursive")
            }
            _ => false,
        };
        if !bare {
            return Ok((Arguments::default(), 0));
        }
        let node = self.nested(|parser| {
            let node = parser.primary()?;
            parser.postfix(node)
        })?;
        Ok((Arguments { positional: vec![node.expression], named: Vec::new() }, node.depth))
    }
}
