//! The prompts of decoder-only models.

use minijinja::{Environment, context};
use tokenizers::Tokenizer;

use super::chat::{ChatTemplate, Message};
use super::{Encoded, guarded};
use crate::error::{LoadError, Result, RowError};

/// What an instruct model is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The system message. Empty: none.
    pub system: String,
    /// The user's message: a Jinja template with the variable `text`. Without `{{`, the text follows after an empty line.
    pub user: String,
}

impl Default for Prompt {
    fn default() -> Self {
        Self {
            system: "You summarize news articles in one sentence.".to_owned(),
            user: "Summarize this article in one sentence:".to_owned(),
        }
    }
}

/// Turns texts into the prompts of one model.
pub(super) struct Prompts {
    prompt: Prompt,
    user: Environment<'static>,
    /// `None` for a model that was not trained for conversations: it continues the user's message.
    template: Option<ChatTemplate>,
    /// The token that a text without a template begins with, if the tokenizer does not add it.
    bos: Option<u32>,
    /// Whether the template accepts a system message. Otherwise the user's message contains it.
    system: bool,
    /// The texts of control tokens, longest first.
    control: Vec<String>,
    max_input_tokens: usize,
}

impl Prompts {
    /// Checks the prompt with this model.
    ///
    /// # Errors
    /// A template that is not valid, or a prompt that leaves no room for a text.
    pub(super) fn new(
        prompt: Prompt,
        template: Option<ChatTemplate>,
        bos: Option<u32>,
        tokenizer: &Tokenizer,
        max_input_tokens: usize,
    ) -> Result<Self> {
        let mut user = Environment::new();
        let source = match prompt.user.contains("{{") {
            true => prompt.user.clone(),
            false => format!("{}\n\n{{{{ text }}}}", prompt.user),
        };
        let compiled = user.add_template_owned("user", source);
        compiled.map_err(|error| LoadError::Prompt {
            reason: error.to_string(),
        })?;
        let mut control: Vec<String> = tokenizer
            .get_added_tokens_decoder()
            .into_values()
            .filter(|token| token.special && !token.content.is_empty())
            .map(|token| token.content)
            .collect();
        control.sort_by_key(|token| std::cmp::Reverse(token.len()));
        let mut prompts = Self {
            prompt,
            user,
            template,
            bos,
            system: true,
            control,
            max_input_tokens,
        };
        let refused = |error: RowError| LoadError::Prompt {
            reason: error.to_string(),
        };
        if prompts.render("x").is_err() {
            prompts.system = false;
        }
        let empty = prompts.ids(tokenizer, "").map_err(refused)?.len();
        let marked = prompts.render("\u{1}").map_err(refused)?;
        if !marked.contains('\u{1}') {
            return Err(LoadError::Prompt {
                reason: "it does not contain the text: write {{ text }} where the text goes".to_owned(),
            });
        }
        match empty < max_input_tokens {
            true => Ok(prompts),
            false => Err(LoadError::Prompt {
                reason: format!("it has {empty} tokens, and the model reads {max_input_tokens}"),
            }),
        }
    }

    /// Encodes the prompt of a text. A text that is too long loses its end; the prompt stays whole.
    pub(super) fn encode(&self, tokenizer: &Tokenizer, text: &str) -> Result<Encoded, RowError> {
        let text = self.without_control_tokens(text);
        let mut ids = self.ids(tokenizer, &text)?;
        let tokens = ids.len();
        if tokens > self.max_input_tokens {
            let encoding = guarded(|| tokenizer.encode(text.as_str(), false)).map_err(RowError::Tokenize)?;
            let ends: Vec<usize> = encoding.get_offsets().iter().map(|(_, end)| *end).collect();
            let mut kept = ends.len();
            while ids.len() > self.max_input_tokens {
                let excess = ids.len() - self.max_input_tokens;
                if kept == 0 {
                    return Err(RowError::Tokenize(
                        "the prompt is too long without a text".to_owned(),
                    ));
                }
                kept = kept.saturating_sub(excess);
                let mut end = kept.checked_sub(1).map_or(0, |last| ends[last]);
                // A token may end within a character. Index 0 is always a boundary.
                while !text.is_char_boundary(end) {
                    end -= 1;
                }
                ids = self.ids(tokenizer, &text[..end])?;
            }
        }
        Ok(Encoded {
            truncated_tokens: tokens - ids.len(),
            ids,
            tokens,
        })
    }

    fn ids(&self, tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, RowError> {
        let prompt = self.render(text)?;
        // A template writes the control tokens itself.
        let adds = self.template.is_none();
        let encode = || tokenizer.encode_fast(prompt, adds);
        let encoding = guarded(encode).map_err(RowError::Tokenize)?;
        let ids = encoding.get_ids();
        Ok(match self.bos {
            Some(bos) if adds && ids.first() != Some(&bos) => [&[bos], ids].concat(),
            _ => ids.to_vec(),
        })
    }

    fn render(&self, text: &str) -> Result<String, RowError> {
        let wrong = |error: minijinja::Error| RowError::Tokenize(format!("the prompt: {error}"));
        let user = self.user.get_template("user").map_err(wrong)?;
        let user = user.render(context! { text => text }).map_err(wrong)?;
        let system = self.prompt.system.as_str();
        let Some(template) = &self.template else {
            return Ok(user);
        };
        let joined;
        let messages = match (system.is_empty(), self.system) {
            (true, _) => vec![("user", user.as_str())],
            (false, true) => vec![("system", system), ("user", user.as_str())],
            (false, false) => {
                joined = format!("{system}\n\n{user}");
                vec![("user", joined.as_str())]
            }
        };
        let messages: Vec<Message<'_>> = messages
            .into_iter()
            .map(|(role, content)| Message { role, content })
            .collect();
        let rendered = template.render(&messages);
        rendered.map_err(|error| RowError::Tokenize(format!("the chat template: {error}")))
    }

    /// Removes the texts of control tokens: a text must not end its own message.
    fn without_control_tokens(&self, text: &str) -> String {
        let mut text = text.to_owned();
        // Removing one can join the parts of another.
        while let Some(token) = self.control.iter().find(|token| text.contains(token.as_str())) {
            text = text.replace(token.as_str(), "");
        }
        text
    }
}
