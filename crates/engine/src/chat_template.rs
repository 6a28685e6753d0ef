//! Chat messages to a prompt: the model's own Jinja template, and a guard around what people write.
//!
//! A template joins messages and control tokens into one text, and in that text a message that spells `<|eot_id|>` would look
//! like the end of its turn. So before rendering, a sentinel character that occurs nowhere else goes into every message behind
//! each character that could begin a control token; whatever the template then does with the message (cut it, change its case,
//! join it), no control token can appear out of it. The rendered text is cut at the control tokens that are left, which the
//! template itself wrote; the sentinels are taken out, and each piece is encoded as one plain text, as if they had never
//! been there. A template that compares message text with something that contains `<` may notice; that is the price.
//!
//! Templates come from files that anyone may have made: instructions, recursion and the length of the result are limited.
//! Absent on purpose: `strftime_now`, because a prompt that contains the date of today is another prompt tomorrow.

use std::collections::HashSet;
use std::error::Error as _;
use std::io::{self, Write};

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, Value, context};
use minijinja_contrib::pycompat::unknown_method_callback;
use tracing::{info, warn};

use crate::tokenizer::{Part, Tokenizer, TokenizerError};

/// What BitNet b1.58 2B4T was trained with (its `tokenizer_config.json`).
const BITNET: &str = "{% for message in messages %}{{ message['role'] | capitalize }}: {{ message['content'] | trim }}<|eot_id|>\
    {% endfor %}{% if add_generation_prompt %}Assistant: {% endif %}";

/// The same for a vocabulary that ends its turns in another way.
const GENERIC: &str = "{% for message in messages %}{{ message['role'] | capitalize }}: {{ message['content'] | trim }}\
    {{ eos_token }}{% endfor %}{% if add_generation_prompt %}Assistant: {% endif %}";

/// The template inside the official GGUF, a leftover of its conversion: it drops system messages and ends the answer before it
/// begins. White space is left out; see [`is_leftover`].
const LEFTOVER: &str = "{%formessageinmessages%}{%ifloop.first%}{{bos_token}}{%endif%}{%ifmessage['role']=='user'%}\
    {{'Human:'+message['content']+'\\n\\nBITNETAssistant:'+eos_token}}{%elifmessage['role']=='assistant'%}\
    {{message['content']+eos_token}}{%endif%}{%endfor%}";

/// Roles that templates know; they may complete a control token that the template begins (`<|user|>`).
const ROLES: [&str; 8] =
    ["system", "user", "assistant", "tool", "developer", "function", "ipython", "environment"];

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
        let default = if tokenizer.control_texts().any(|text| text == "<|eot_id|>") { BITNET } else { GENERIC };
        let source = match (override_, from_file) {
            (Some(source), _) => {
                info!("chat template: the one that the configuration gives");
                source
            }
            (None, Some(source)) if is_leftover(source) => {
                info!("chat template: that of BitNet b1.58; the one in the file is known to be a leftover of its conversion");
                default
            }
            (None, Some(source)) => {
                info!("chat template: the one in the file");
                source
            }
            (None, None) => {
                warn!("chat template: that of BitNet b1.58, since the file has none");
                default
            }
        };
        Self::compile(source, tokenizer)
    }

    fn compile(source: &str, tokenizer: &Tokenizer) -> Result<Self, TemplateError> {
        if source.len() > SOURCE_LIMIT {
            return Err(TemplateError::TooLong { bytes: source.len() });
        }
        let invalid = |error: minijinja::Error| TemplateError::Invalid(describe(&error));
        let mut environment = Environment::new();
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(RECURSION_LIMIT);
        // As `transformers` sets up Jinja for chat templates.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(invalid)?;
        environment.set_syntax(syntax);
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_template_owned(NAME, source.to_owned()).map_err(invalid)?;
        let text_of = |id: Option<u32>| id.map(|id| tokenizer.token_text(id)).unwrap_or_default();
        let template = Self {
            environment,
            source: source.to_owned(),
            bos: text_of(tokenizer.bos()),
            eos: text_of(tokenizer.eos()),
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
            None => TemplateError::Failed(describe(&error)),
        };
        let values: Value = messages
            .iter()
            .map(|message| context! { role => message.role, content => message.content })
            .collect();
        let variables = context! {
            messages => values,
            add_generation_prompt,
            bos_token => self.bos,
            eos_token => self.eos,
            tools => (),
            documents => (),
        };
        let length: usize = messages.iter().map(|message| message.role.len() + message.content.len()).sum();
        let mut output = Bounded { bytes: Vec::new(), limit: 4 * length + SOURCE_LIMIT, exceeded: false };
        let template = self.environment.get_template(NAME).map_err(failed)?;
        match template.render_captured_to(variables, &mut output) {
            Ok(_) => String::from_utf8(output.bytes).map_err(|error| TemplateError::Failed(error.to_string())),
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
        let guard = Guard::new(&self.source, messages, tokenizer)?;
        let guarded: Vec<Message> = messages.iter().map(|message| guard.message(message)).collect();
        let rendered = self.render(&guarded, add_generation_prompt)?;
        let mut ids: Vec<u32> = tokenizer.bos().filter(|_| tokenizer.adds_bos()).into_iter().collect();
        let mut text = String::new();
        for part in tokenizer.parts(&rendered, true).map(Some).chain([None]) {
            match part {
                Some(Part::Text(part)) => text.extend(part.chars().filter(|&c| c != guard.sentinel)),
                Some(Part::Token(id)) if Some(id) == tokenizer.bos() && ids == [id] && text.is_empty() => {}
                token => {
                    ids.extend(tokenizer.encode(&text, false)?);
                    text.clear();
                    if let Some(Part::Token(id)) = token {
                        ids.push(id);
                    }
                }
            }
        }
        Ok(ids)
    }
}
