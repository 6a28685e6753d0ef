//! The text of a template → data and tags, with white space around tags left out as `transformers` asks Jinja to.

use super::Failure;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// Text that is printed as it is.
    Data(String),
    /// `{{`, and the tokens up to [`Token::End`].
    Print,
    /// `{%`, and the tokens up to [`Token::End`].
    Tag,
    End,
    Name(String),
    Text(String),
    Int(i64),
    Float(f64),
    Symbol(&'static str),
}

/// Longer ones first.
const SYMBOLS: [&str; 27] = [
    "//", "**", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "<", ">", "=", "|", ".", ",", ":", "(",
    ")", "[", "]", "{", "}", ";", "!",
];

/// The tokens, each with its line.
pub(crate) fn tokens(source: &str) -> Result<Vec<(Token, usize)>, Failure> {
    // As Jinja does, for files that editors end with a newline.
    let source = source.strip_suffix('\n').map_or(source, |text| text.strip_suffix('\r').unwrap_or(text));
    Lexer { source, position: 0, line: 1, tokens: Vec::new() }.run()
}

struct Lexer<'s> {
    source: &'s str,
    position: usize,
    line: usize,
    tokens: Vec<(Token, usize)>,
}

impl<'s> Lexer<'s> {
    fn run(mut self) -> Result<Vec<(Token, usize)>, Failure> {
        // Whether what follows is at the beginning of a line, and whether white space in front of it is left out.
        let (mut line_begins, mut trim) = (true, false);
        loop {
            let rest = self.rest();
            let Some((length, opening)) = next_opening(rest) else {
                self.data(rest, trim);
                return Ok(self.tokens);
            };
            let after = &rest[length + 2..];
            let sign = after.chars().next().filter(|sign| matches!(sign, '-' | '+'));
            let mut data = &rest[..length];
            match sign {
                Some('-') => data = data.trim_end(),
                Some(_) => {}
                None if opening == "{{" => {}
                None => {
                    let line = data.trim_end_matches([' ', '\t']);
                    if line.ends_with('\n') || (line.is_empty() && line_begins) {
                        data = line;
                    }
                }
            }
            self.data(data, trim);
            self.skip(length + 2 + sign.map_or(0, char::len_utf8));
            let closing = match opening {
                "{#" => {
                    let end = self.rest().find("#}").ok_or_else(|| self.error("a comment does not end"))?;
                    let closing = self.rest()[..end].chars().next_back();
                    self.skip(end + 2);
                    closing
                }
                "{{" => {
                    self.push(Token::Print);
                    self.tag("}}")?
                }
                _ => {
                    if let Some((length, sign)) = named_tag(self.rest(), "raw") {
                        self.skip(length);
                        self.raw(sign)?
                    } else {
                        self.push(Token::Tag);
                        self.tag("%}")?
                    }
                }
            };
            trim = closing == Some('-');
            line_begins = false;
            if opening != "{{" && !trim && closing != Some('+') {
                let newline = ["\n", "\r\n"].into_iter().find(|newline| self.rest().starts_with(newline));
                self.skip(newline.map_or(0, str::len));
                line_begins = newline.is_some();
            }
        }
    }

    fn rest(&self) -> &'s str {
        &self.source[self.position..]
    }

    fn skip(&mut self, bytes: usize) {
        let end = self.position + bytes;
        self.line += self.source[self.position..end].matches('\n').count();
        self.position = end;
    }

    fn push(&mut self, token: Token) {
        self.tokens.push((token, self.line));
    }

    fn data(&mut self, data: &str, trim: bool) {
        let data = if trim { data.trim_start() } else { data };
        if !data.is_empty() {
            self.push(Token::Data(data.to_owned()));
        }
    }

    fn error(&self, message: &str) -> Failure {
        Failure::invalid(format!("{message} (line {})", self.line))
    }

    /// What is in a raw block, and the tag at its end; returns the sign in there.
    fn raw(&mut self, sign: Option<char>) -> Result<Option<char>, Failure> {
        let mut searched = 0;
        while let Some(found) = self.rest()[searched..].find("{%") {
            let start = searched + found;
            let tag = &self.rest()[start + 2..];
            let opening = tag.chars().next().filter(|sign| matches!(sign, '-' | '+'));
            let skipped = start + 2 + opening.map_or(0, char::len_utf8);
            if let Some((length, closing)) = named_tag(&self.rest()[skipped..], "endraw") {
                let data = &self.rest()[..start];
                let data = if opening == Some('-') { data.trim_end() } else { data };
                let newline = if sign.is_none() { data.strip_prefix('\n') } else { None };
                self.data(newline.unwrap_or(data), sign == Some('-'));
                self.skip(skipped + length);
                return Ok(closing);
            }
            searched = start + 2;
        }
        Err(self.error("a raw block does not end"))
    }

    /// The tokens of a tag; returns the sign before its end.
    fn tag(&mut self, end: &str) -> Result<Option<char>, Failure> {
        let mut brackets = 0_usize;
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.skip(rest.len() - trimmed.len());
            let rest = self.rest();
            let Some(first) = rest.chars().next() else { return Err(self.error("a tag does not end")) };
            let sign = Some(first).filter(|sign| matches!(sign, '-' | '+'));
            let closes = |text: &str| brackets == 0 && text.starts_with(end);
            if closes(rest) || sign.is_some_and(|sign| closes(&rest[sign.len_utf8()..])) {
                self.skip(end.len() + sign.map_or(0, char::len_utf8));
                self.push(Token::End);
                return Ok(sign);
            }
            if first.is_alphabetic() || first == '_' {
                let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                self.push(Token::Name(rest[..length].to_owned()));
                self.skip(length);
            } else if first.is_ascii_digit() {
                self.number(rest)?;
            } else if matches!(first, '"' | '\'') {
                self.text(rest, first)?;
            } else {
                let symbol = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol));
                let symbol = symbol.ok_or_else(|| self.error(&format!("{first:?} is not expected")))?;
                match symbol {
                    "{" | "(" | "[" => brackets += 1,
                    "}" | ")" | "]" => brackets = brackets.saturating_sub(1),
                    _ => {}
                }
                self.push(Token::Symbol(symbol));
                self.skip(symbol.len());
            }
        }
    }

    fn number(&mut self, rest: &str) -> Result<(), Failure> {
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
        let mut length = digits(rest);
        let mut float = false;
        if let Some(fraction) = rest[length..].strip_prefix('.')
            && fraction.starts_with(|c: char| c.is_ascii_digit())
        {
            length += 1 + digits(fraction);
            float = true;
        }
        if let Some(exponent) = rest[length..].strip_prefix(['e', 'E']) {
            let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if unsigned.starts_with(|c: char| c.is_ascii_digit()) {
                length += 1 + exponent.len() - unsigned.len() + digits(unsigned);
                float = true;
            }
        }
        let number = rest[..length].replace('_', "");
        let token =
            if float { number.parse().ok().map(Token::Float) } else { number.parse().ok().map(Token::Int) };
        self.push(token.ok_or_else(|| self.error(&format!("{number} is no number that can be used")))?);
        self.skip(length);
        Ok(())
    }

    fn text(&mut self, rest: &str, quote: char) -> Result<(), Failure> {
        let mut text = String::new();
        let mut characters = rest.char_indices().skip(1);
        while let Some((index, character)) = characters.next() {
            if character == quote {
                self.push(Token::Text(text));
                self.skip(index + 1);
                return Ok(());
            }
            if character != '\\' {
                text.push(character);
                continue;
            }
            let Some((_, escaped)) = characters.next() else { break };
            let digits = match escaped {
                'x' => 2,
                'u' => 4,
                'U' => 8,
                _ => 0,
            };
            let character = match escaped {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'b' => '\u{8}',
                'f' => '\u{c}',
                '0' => '\0',
                'x' | 'u' | 'U' => {
                    let mut unit = || {
                        let digits: String =
                            characters.by_ref().take(digits).map(|(_, digit)| digit).collect();
                        u32::from_str_radix(&digits, 16).ok()
                    };
                    let first = unit();
                    let code = match first {
                        // Two halves of a character.
                        Some(high @ 0xd800..0xdc00) => {
                            characters.by_ref().take(2).for_each(drop);
                            let mut unit = || {
                                let digits: String =
                                    characters.by_ref().take(4).map(|(_, digit)| digit).collect();
                                u32::from_str_radix(&digits, 16).ok()
                            };
                            unit().and_then(|low| {
                                Some(0x10000 + ((high - 0xd800) << 10) + low.checked_sub(0xdc00)?)
                            })
                        }
                        code => code,
                    };
                    code.and_then(char::from_u32)
                        .ok_or_else(|| self.error("an escape in a string is wrong"))?
                }
                '\\' | '\'' | '"' | '/' => escaped,
                // Python keeps what it does not know.
                other => {
                    text.push('\\');
                    other
                }
            };
            text.push(character);
        }
        Err(self.error("a string does not end"))
    }
}

fn next_opening(text: &str) -> Option<(usize, &'static str)> {
    let mut searched = 0;
    while let Some(found) = text[searched..].find('{') {
        let start = searched + found;
        let opening = ["{{", "{%", "{#"].into_iter().find(|opening| text[start..].starts_with(opening));
        if let Some(opening) = opening {
            return Some((start, opening));
        }
        searched = start + 1;
    }
    None
}

/// If `text`, behind `{%`, is a tag that consists of this name, its length and the sign before its end.
fn named_tag(text: &str, name: &str) -> Option<(usize, Option<char>)> {
    let after = text.trim_start().strip_prefix(name)?.trim_start();
    let sign = after.chars().next().filter(|sign| matches!(sign, '-' | '+'));
    let after = after[sign.map_or(0, char::len_utf8)..].strip_prefix("%}")?;
    Some((text.len() - after.len(), sign))
}
