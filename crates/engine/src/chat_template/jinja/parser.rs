//! Tokens → statements.

use super::Failure;
use super::lexer::{Token, tokens};
use super::syntax::{Action, Block, FilterCall, Macro, Statement, Target};

/// Blocks in blocks, and what is in brackets in brackets. Published templates reach about ten.
const DEEPEST: usize = 50;

/// Parses a whole template.
pub(crate) fn parse(source: &str) -> Result<Block, Failure> {
    let mut parser = Parser { tokens: tokens(source)?, position: 0, nesting: 0 };
    let (block, end) = parser.block(&[])?;
    debug_assert!(end.is_empty());
    Ok(block)
}

pub(super) struct Parser {
    tokens: Vec<(Token, usize)>,
    position: usize,
    nesting: usize,
}

impl Parser {
    pub(super) fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.position).map(|(token, _)| token)
    }

    pub(super) fn peek_second(&self) -> Option<&Token> {
        self.tokens.get(self.position + 1).map(|(token, _)| token)
    }

    pub(super) fn next(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.position += 1;
        token
    }

    fn line(&self) -> usize {
        let at = self.position.min(self.tokens.len().saturating_sub(1));
        self.tokens.get(at).map_or(1, |(_, line)| *line)
    }

    pub(super) fn error(&self, message: &str) -> Failure {
        Failure::invalid(format!("{message} (line {})", self.line()))
    }

    /// Goes one level deeper, for as long as `parse` takes.
    pub(super) fn nested<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.nesting += 1;
        if self.nesting > DEEPEST {
            return Err(self.error("it is nested too deeply"));
        }
        let result = parse(self);
        self.nesting -= 1;
        result
    }

    pub(super) fn is_symbol(&self, symbol: &str) -> bool {
        matches!(self.peek(), Some(Token::Symbol(next)) if *next == symbol)
    }

    pub(super) fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Some(Token::Name(next)) if next == name)
    }

    /// Takes the symbol, if it comes next.
    pub(super) fn symbol(&mut self, symbol: &str) -> bool {
        let found = self.is_symbol(symbol);
        self.position += usize::from(found);
        found
    }

    /// Takes the name, if it comes next.
    pub(super) fn keyword(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        self.position += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, symbol: &str) -> Result<(), Failure> {
        if self.symbol(symbol) { Ok(()) } else { Err(self.error(&format!("{symbol} is missing"))) }
    }

    pub(super) fn name(&mut self) -> Result<String, Failure> {
        match self.next() {
            Some(Token::Name(name)) => Ok(name),
            _ => Err(self.error("a name is missing")),
        }
    }

    fn end(&mut self) -> Result<(), Failure> {
        if !matches!(self.peek(), Some(Token::End)) {
            return Err(self.error("the end of a tag is missing"));
        }
        self.position += 1;
        Ok(())
    }

    /// Statements up to a tag that begins with one of `ends`, and that name, which is taken; all that is left if there are none.
    fn block(&mut self, ends: &[&str]) -> Result<(Block, String), Failure> {
        let mut block = Block::new();
        loop {
            let line = self.line();
            let action = match self.next() {
                None if ends.is_empty() => return Ok((block, String::new())),
                None => return Err(self.error(&format!("{} is missing", ends.join(" or ")))),
                Some(Token::Data(text)) => Action::Data(text.into()),
                Some(Token::Print) => {
                    let expression = self.expression()?;
                    self.end()?;
                    Action::Print(expression)
                }
                Some(Token::Tag) => {
                    let name = self.name()?;
                    if ends.contains(&name.as_str()) {
                        return Ok((block, name));
                    }
                    self.nested(|parser| parser.statement(&name))?
                }
                Some(_) => return Err(self.error("a tag is missing")),
            };
            block.push(Statement { line, action });
        }
    }

    /// As `block`, with the end of the tag that ends it.
    fn body(&mut self, end: &str) -> Result<Block, Failure> {
        let (block, _) = self.block(&[end])?;
        self.end()?;
        Ok(block)
    }

    fn statement(&mut self, name: &str) -> Result<Action, Failure> {
        match name {
            "if" => self.if_statement(),
            "for" => self.for_statement(),
            "set" => self.set_statement(),
            "macro" => self.macro_statement(),
            "with" => {
                let mut variables = Vec::new();
                while !matches!(self.peek(), Some(Token::End)) {
                    if !variables.is_empty() {
                        self.expect(",")?;
                    }
                    let name = self.name()?;
                    self.expect("=")?;
                    variables.push((name, self.expression()?));
                }
                self.end()?;
                Ok(Action::With { variables, body: self.body("endwith")? })
            }
            "filter" => {
                let filters = self.filters(true)?;
                self.end()?;
                Ok(Action::Filter { filters, body: self.body("endfilter")? })
            }
            "generation" => {
                self.end()?;
                Ok(Action::Plain(self.body("endgeneration")?))
            }
            "do" => {
                let expression = self.expression()?;
                self.end()?;
                Ok(Action::Do(expression))
            }
            "break" | "continue" => {
                self.end()?;
                Ok(if name == "break" { Action::Break } else { Action::Continue })
            }
            _ => Err(self.error(&format!("{name:?} is no tag that is known here"))),
        }
    }

    fn if_statement(&mut self) -> Result<Action, Failure> {
        let mut branches = Vec::new();
        loop {
            let condition = self.expression()?;
            self.end()?;
            let (body, end) = self.block(&["elif", "else", "endif"])?;
            branches.push((condition, body));
            match end.as_str() {
                "elif" => {}
                "else" => {
                    self.end()?;
                    return Ok(Action::If { branches, otherwise: self.body("endif")? });
                }
                _ => {
                    self.end()?;
                    return Ok(Action::If { branches, otherwise: Block::new() });
                }
            }
        }
    }

    fn for_statement(&mut self) -> Result<Action, Failure> {
        let target = self.target()?;
        if !self.keyword("in") {
            return Err(self.error("`in` is missing"));
        }
        let over = self.without_choice()?;
        let only = if self.keyword("if") { Some(self.expression()?) } else { None };
        if self.keyword("recursive") {
            return Err(self.error("recursive loops are not known here"));
        }
        self.end()?;
        let (body, end) = self.block(&["else", "endfor"])?;
        self.end()?;
        let otherwise = if end == "else" { self.body("endfor")? } else { Block::new() };
        Ok(Action::For { target, over, only, body, otherwise })
    }

    fn set_statement(&mut self) -> Result<Action, Failure> {
        let target = self.target()?;
        if self.symbol("=") {
            let value = self.expression_or_tuple()?;
            self.end()?;
            return Ok(Action::Set(target, value));
        }
        let Target::Name(name) = target else { return Err(self.error("= is missing")) };
        let filters = if self.is_symbol("|") { self.filters(false)? } else { Vec::new() };
        self.end()?;
        Ok(Action::Capture { name, filters, body: self.body("endset")? })
    }

    fn macro_statement(&mut self) -> Result<Action, Failure> {
        let name = self.name()?;
        self.expect("(")?;
        let mut parameters = Vec::new();
        while !self.symbol(")") {
            if !parameters.is_empty() {
                self.expect(",")?;
                if self.symbol(")") {
                    break;
                }
            }
            let parameter = self.name()?;
            let default = if self.symbol("=") { Some(self.expression()?) } else { None };
            parameters.push((parameter, default));
        }
        self.end()?;
        let (body, _) = self.block(&["endmacro"])?;
        // Its name may stand there once more.
        self.keyword(&name);
        self.end()?;
        Ok(Action::Macro(Macro { name, parameters, body }))
    }

    fn target(&mut self) -> Result<Target, Failure> {
        let first = self.single_target()?;
        if !self.is_symbol(",") {
            return Ok(first);
        }
        let mut several = vec![first];
        while self.symbol(",") {
            several.push(self.single_target()?);
        }
        Ok(Target::Several(several))
    }

    fn single_target(&mut self) -> Result<Target, Failure> {
        if self.symbol("(") {
            let target = self.nested(Self::target)?;
            self.expect(")")?;
            return Ok(target);
        }
        let name = self.name()?;
        if self.symbol(".") {
            return Ok(Target::Attribute(name, self.name()?));
        }
        Ok(Target::Name(name))
    }

    /// `| name(…) | name …`; the first without its bar, if `bare`.
    fn filters(&mut self, bare: bool) -> Result<Vec<FilterCall>, Failure> {
        let mut filters = Vec::new();
        if bare {
            filters.push(self.filter()?.0);
        }
        while self.symbol("|") {
            filters.push(self.filter()?.0);
        }
        Ok(filters)
    }
}
