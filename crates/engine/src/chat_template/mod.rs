//! Chat messages to a prompt: the model's own Jinja template, rendered so that only the template can write control tokens.
//!
//! A template joins messages and control tokens into one text, and in that text a message that spells `<|eot_id|>` would look
//! like the end of its turn. So every byte of what is rendered knows who wrote it ([`jinja`]), and the text of a control token
//! counts as that token where the template wrote all of it.
//!
//! Templates come from files that anyone may have made: what a rendering may do, and what it may make on the way, is limited.
//! Absent on purpose: `strftime_now`, because a prompt that contains the date of today is another prompt tomorrow.

mod jinja;

use tracing::info;

use crate::tokenizer::{Part, Tokenizer, TokenizerError};
use jinja::{Author, Block, Failure, Meter, Text, Value};

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
pub(crate) const LONGEST_SOURCE: usize = 1 << 20;
/// What a rendering may read, step by step, and for each byte of the messages: published templates take some tens of steps for a
/// message, of 64 bytes each.
const WORK: (u64, u64) = (320_000_000, 256);
/// What it may make on the way, in bytes, and for each byte of the messages: published templates copy a message some five times.
const MEMORY: (u64, u64) = (16 << 20, 16);

/// Roles that templates know. They may complete what a template begins, as in `<|user|>`.
const ROLES: [&str; 8] =
    ["system", "user", "assistant", "tool", "developer", "function", "ipython", "environment"];

/// Why there is no prompt.
#[expect(missing_docs, reason = "the messages say what the fields are")]
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The template is too long to be one.
    #[error("the chat template has {bytes} bytes; at most {LONGEST_SOURCE} are read")]
    TooLong { bytes: usize },
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
    /// The prompt has more tokens than are of use. They were not counted.
    #[error("the prompt has at least {tokens} tokens")]
    PromptTooLong {
        /// The least that there are.
        tokens: usize,
    },
    /// Nobody waits for the prompt any more.
    #[error("the prompt is no longer wanted")]
    Abandoned,
    /// The prompt could not be encoded.
    #[error(transparent)]
    Encode(TokenizerError),
}

impl From<TokenizerError> for TemplateError {
    fn from(error: TokenizerError) -> Self {
        match error {
            TokenizerError::Abandoned => Self::Abandoned,
            error => Self::Encode(error),
        }
    }
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, …
    pub role: String,
    /// Its text, in which nothing is a control token.
    pub content: String,
}

/// A compiled template.
#[derive(Debug)]
pub struct ChatTemplate {
    parsed: Block,
    source: String,
    bos: String,
    eos: String,
}

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
        if source.len() > LONGEST_SOURCE {
            return Err(TemplateError::TooLong { bytes: source.len() });
        }
        let parsed = jinja::parse(&source).map_err(|failure| match failure {
            Failure::Invalid(reason) => TemplateError::Invalid(reason),
            other => refusal(other, LONGEST_SOURCE),
        })?;
        let text_of = |id: Option<u32>| id.map(|id| tokenizer.token_text(id)).unwrap_or_default();
        let (bos, eos) = (text_of(tokenizer.bos()), text_of(tokenizer.eos()));
        let template = Self { parsed, source, bos, eos };
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
        let text = self.rendered(messages, add_generation_prompt, &|| true)?;
        Ok(text.as_str().to_owned())
    }

    /// The prompt as tokens, BOS included where the vocabulary wants it. Only the template can write control tokens.
    pub fn prompt(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        tokenizer: &Tokenizer,
    ) -> Result<Vec<u32>, TemplateError> {
        self.prompt_while(messages, add_generation_prompt, tokenizer, usize::MAX, &|| true)
    }

    /// As [`prompt`](Self::prompt), for somebody who has no use for more than `most` tokens and may leave: gives up before
    /// encoding what has certainly more, and soon after `wanted` says no.
    pub fn prompt_while(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        tokenizer: &Tokenizer,
        most: usize,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Vec<u32>, TemplateError> {
        let rendered = self.rendered(messages, add_generation_prompt, wanted)?;
        let tokens = tokenizer.fewest_tokens(rendered.as_str().len());
        if tokens > most {
            return Err(TemplateError::PromptTooLong { tokens });
        }
        let mut ids = Vec::new();
        let mut text = String::new();
        for (run, author) in rendered.runs() {
            if author == Author::Message {
                text.push_str(run);
                continue;
            }
            for part in tokenizer.parts(run, true) {
                match part {
                    Part::Token(id) if tokenizer.is_control(id) => {
                        ids.extend(tokenizer.encode_while(&text, false, wanted)?);
                        ids.push(id);
                        text.clear();
                    }
                    // Together with what a message has beside it, it may be another token.
                    Part::Token(id) => text.push_str(&tokenizer.token_text(id)),
                    Part::Text(part) => text.push_str(part),
                }
            }
        }
        ids.extend(tokenizer.encode_while(&text, false, wanted)?);
        match tokenizer.bos() {
            Some(bos) if tokenizer.adds_bos() && ids.first() != Some(&bos) => ids.insert(0, bos),
            _ => {}
        }
        Ok(ids)
    }

    fn rendered(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Text, TemplateError> {
        let length: usize = messages.iter().map(|message| message.role.len() + message.content.len()).sum();
        let allowance = |(base, factor): (u64, u64)| base + factor * length as u64;
        let meter = Meter::new(allowance(WORK), allowance(MEMORY), wanted);
        let limit = 4 * length + LONGEST_SOURCE;
        let variables = self.variables(messages, add_generation_prompt, &meter);
        let rendered = variables.and_then(|variables| jinja::render(&self.parsed, variables, limit, &meter));
        rendered.map_err(|failure| refusal(failure, limit))
    }

    /// As `transformers` gives them to a chat template.
    fn variables<'t>(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        meter: &Meter,
    ) -> Result<Vec<(&'t str, Value<'t>)>, Failure> {
        let mut values = Vec::new();
        for Message { role, content } in messages {
            let known = ROLES.iter().any(|known| known.eq_ignore_ascii_case(role));
            let author = if known { Author::Template } else { Author::Message };
            let entries = [("role", role, author), ("content", content, Author::Message)];
            let entries = entries.map(|(name, text, author)| {
                Ok((Value::text(name, Author::Template, meter)?, Value::text(text, author, meter)?))
            });
            values.push(Value::map(entries.into_iter().collect::<Result<_, _>>()?, meter)?);
        }
        Ok(vec![
            ("messages", Value::list(values, meter)?),
            ("add_generation_prompt", Value::Bool(add_generation_prompt)),
            ("bos_token", Value::text(&self.bos, Author::Template, meter)?),
            ("eos_token", Value::text(&self.eos, Author::Template, meter)?),
            ("tools", Value::None),
            ("documents", Value::None),
        ])
    }
}

/// What a failure means to whoever asked for a prompt of at most `limit` bytes.
fn refusal(failure: Failure, limit: usize) -> TemplateError {
    match failure {
        Failure::Raised(reason) => TemplateError::Refused(reason),
        Failure::Overflow => TemplateError::Overflow { limit },
        Failure::Abandoned => TemplateError::Abandoned,
        Failure::Invalid(reason) => TemplateError::Failed(reason),
    }
}

/// Whether `source` is [`LEFTOVER`], however its white space was changed on the way.
fn is_leftover(source: &str) -> bool {
    source.chars().filter(|character| !character.is_whitespace()).eq(LEFTOVER.chars())
}

#[cfg(test)]
mod tests;
