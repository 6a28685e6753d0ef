//! Chat messages to a prompt: the model's own Jinja template, and a guard around what people write.
//!
//! A template joins messages and control tokens into one text, and in that text a message that spells `<|eot_id|>` would look
//! like the end of its turn. The guard keeps the two apart, so that only the template can write control tokens.
//!
//! Templates come from files that anyone may have made: instructions, recursion and the length of the result are limited. What
//! is not: a template that doubles a text again and again, or pads one to an absurd width, can take all memory. The Jinja
//! library has no limit for that, so a template that is not trusted should be replaced with `--chat-template`.
//! Absent on purpose: `strftime_now`, because a prompt that contains the date of today is another prompt tomorrow.

mod guard;

use std::error::Error as _;
use std::io::{self, Write};

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, Value, context};
use minijinja_contrib::pycompat::unknown_method_callback;
use tracing::info;

use crate::tokenizer::{Part, Tokenizer, TokenizerError};
use guard::Guard;

/// What BitNet b1.58 2B4T was trained with (its `tokenizer_config.json`).
const BITNET: &str = "{% for message in messages %}{{ message['role'] | capitalize }}: {{ message['content'] | trim }}<|eot_id|>\
    {% endfor %}{% if add_generation_prompt %}Assistant: {% endif %}";

/// What ends a turn in [`BITNET`].
const END_OF_TURN: &str = "<|eot_id|>";

/// The template inside the official GGUF, a leftover of its conversion: it drops system messages and ends the answer before it
/// begins. White space is left out; see [`is_leftover`].
const LEFTOVER: &str = "{%formessageinmessages%}{%ifloop.first%}{{bos_token}}{%endif%}{%ifmessage['role']=='user'%}\
    {{'Human:'+message['content']+'\\n\\nBITNETAssistant:'+eos_token}}{%elifmessage['role']=='assistant'%}\
    {{message['content']+eos_token}}{%endif%}{%endfor%}";

/// Longer templates are refused; published ones have a few thousand bytes.
const SOURCE_LIMIT: usize = 1 << 20;
/// Instructions for a conversation; a message takes some tens.
const FUEL: u64 = 5_000_000;
/// Nested loops, blocks and macros.
const RECURSION_LIMIT: usize = 100;

/// Why there is no prompt.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The template is too long to be one.
    #[error("the chat template has {bytes} bytes; at most {SOURCE_LIMIT} are read")]
    TooLong {
        /// Its size.
        bytes: usize,
    },
    /// The template cannot be compiled, or does not work for any conversation.
    #[error("the chat template is not usable (another can be given with --chat-template): {0}")]
    Invalid(String),
    /// The template called `raise_exception` about these messages.
    #[error("the chat template refuses these messages: {0}")]
    Refused(String),
    /// The template failed for these messages.
    #[error("the chat template fails for these messages: {0}")]
    Failed(String),
    /// The result is far longer than the messages.
    #[error("the chat template makes more than {limit} bytes out of these messages")]
    Overflow {
        /// The limit in bytes.
        limit: usize,
    },
    /// No character is left that could serve as the sentinel.
    #[error("the messages contain every private-use character of Unicode")]
    NoSentinel,
    /// The prompt could not be encoded.
    #[error(transparent)]
    Encode(#[from] TokenizerError),
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, …
    pub role: String,
    /// What they say.
    pub content: String,
}

/// A compiled template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    bos: String,
    eos: String,
    guard: Guard,
}

/// The only template in an environment.
const NAME: &str = "chat";

impl ChatTemplate {
    /// The template to use: `override_` if given, else the file's unless it is known to be wrong. The log says which.
    pub fn select(
        override_: Option<&str>,
        from_file: Option<&str>,
        tokenizer: &Tokenizer,
    ) -> Result<Self, TemplateError> {
        let ends_turns = tokenizer.control_texts().any(|text| text == END_OF_TURN);
        let default =
            if ends_turns { BITNET.to_owned() } else { BITNET.replace(END_OF_TURN, "{{ eos_token }}") };
        let (source, choice) = match (override_, from_file) {
            (Some(source), _) => (source.to_owned(), "the one that the configuration gives"),
            (None, Some(source)) if is_leftover(source) => (
                default,
                "that of BitNet b1.58; the one in the file is known to be a leftover of its conversion",
            ),
            (None, Some(source)) => (source.to_owned(), "the one in the file"),
            (None, None) => (default, "that of BitNet b1.58, since the file has none"),
        };
        info!("chat template: {choice}");
        Self::compile(source, tokenizer)
    }

    fn compile(source: String, tokenizer: &Tokenizer) -> Result<Self, TemplateError> {
        if source.len() > SOURCE_LIMIT {
            return Err(TemplateError::TooLong { bytes: source.len() });
        }
        let invalid = |error: minijinja::Error| TemplateError::Invalid(error.to_string());
        let mut environment = Environment::new();
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(RECURSION_LIMIT);
        // As `transformers` sets up Jinja for chat templates.
        let syntax =
            SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(invalid)?;
        environment.set_syntax(syntax);
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_template_owned(NAME, source.clone()).map_err(invalid)?;
        let text_of = |id: Option<u32>| id.map(|id| tokenizer.token_text(id)).unwrap_or_default();
        let template = Self {
            environment,
            source,
            bos: text_of(tokenizer.bos()),
            eos: text_of(tokenizer.eos()),
            guard: Guard::new(tokenizer.control_texts()),
        };
        // Unknown filters and the like only show when they are reached.
        let greeting = Message { role: "user".to_owned(), content: "Hi".to_owned() };
        match template.render(&[greeting], true) {
            Ok(_) | Err(TemplateError::Refused(_)) => Ok(template),
            Err(error) => Err(TemplateError::Invalid(error.to_string())),
        }
    }

    /// The Jinja text of the template.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The prompt as text, for people to look at. Encoding it would let messages forge control tokens; see [`prompt`](Self::prompt).
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, TemplateError> {
        let failed = |error: minijinja::Error| match raised(&error) {
            Some(Raised(reason)) => TemplateError::Refused(reason.clone()),
            None => TemplateError::Failed(error.to_string()),
        };
        let values: Value = messages
            .iter()
            .map(|message| context! { role => message.role.as_str(), content => message.content.as_str() })
            .collect();
        let variables = context! {
            messages => values,
            add_generation_prompt,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
            tools => (),
            documents => (),
        };
        let length: usize = messages.iter().map(|message| message.role.len() + message.content.len()).sum();
        let mut output = Bounded { bytes: Vec::new(), limit: 4 * length + SOURCE_LIMIT, exceeded: false };
        let template = self.environment.get_template(NAME).map_err(failed)?;
        match template.render_captured_to(variables, &mut output) {
            Ok(_) => {
                String::from_utf8(output.bytes).map_err(|error| TemplateError::Failed(error.to_string()))
            }
            Err(_) if output.exceeded => Err(TemplateError::Overflow { limit: output.limit }),
            Err(error) => Err(failed(error)),
        }
    }

    /// The prompt as tokens, BOS included where the vocabulary wants it. Only the template can write control tokens.
    pub fn prompt(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        tokenizer: &Tokenizer,
    ) -> Result<Vec<u32>, TemplateError> {
        let (guarded, sentinel) = self.guard.messages(&self.source, messages)?;
        let rendered = self.render(&guarded, add_generation_prompt)?;
        let mut ids = Vec::new();
        let mut text = String::new();
        for part in tokenizer.parts(&rendered, true) {
            match part {
                Part::Text(part) => text.extend(part.chars().filter(|&character| character != sentinel)),
                // No sentinel fits into a single character, so it may be a message's.
                Part::Token(id) if tokenizer.token_text(id).chars().nth(1).is_none() => {
                    text.push_str(&tokenizer.token_text(id));
                }
                Part::Token(id) => {
                    ids.extend(tokenizer.encode(&text, false)?);
                    ids.push(id);
                    text.clear();
                }
            }
        }
        ids.extend(tokenizer.encode(&text, false)?);
        match tokenizer.bos() {
            Some(bos) if tokenizer.adds_bos() && ids.first() != Some(&bos) => ids.insert(0, bos),
            _ => {}
        }
        Ok(ids)
    }
}

/// Whether `source` is [`LEFTOVER`], however its white space was changed on the way.
fn is_leftover(source: &str) -> bool {
    source.chars().filter(|character| !character.is_whitespace()).eq(LEFTOVER.chars())
}

/// What a template says when it calls `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

fn raise_exception(reason: String) -> Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(Raised(reason)))
}

/// The reason, if `error` comes from [`raise_exception`].
fn raised(error: &minijinja::Error) -> Option<&Raised> {
    std::iter::successors(error.source(), |&error| error.source()).find_map(|error| error.downcast_ref())
}

/// A writer that fails instead of growing beyond its limit.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
    exceeded: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.exceeded |= bytes.len() > self.limit - self.bytes.len();
        if self.exceeded {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
