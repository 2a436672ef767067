//! Chat templates: how a model was trained to see a conversation.

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, context};
use serde::Deserialize;
use serde_json::Value;

use crate::error::{LoadError, Result};

/// Instructions that a template may run. A template comes with a model, so it is not trusted.
const FUEL: u64 = 1_000_000;

/// A message of a conversation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    /// `system`, `user` or `assistant`.
    pub(crate) role: &'a str,
    pub(crate) content: &'a str,
}

/// A template of `tokenizer_config.json` or `chat_template.jinja`.
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    bos_token: Option<String>,
    eos_token: Option<String>,
}

/// A token in `tokenizer_config.json`: its text, or an object that contains it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Token {
    Text(String),
    Object { content: String },
}

impl Token {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) | Self::Object { content: text } => text,
        }
    }
}

/// What the engine reads from `tokenizer_config.json`.
#[derive(Default, Deserialize)]
pub(crate) struct TokenizerConfig {
    bos_token: Option<Token>,
    eos_token: Option<Token>,
    /// Whether a text begins with the first token.
    pub(crate) add_bos_token: Option<bool>,
    /// A template, or a list of named ones.
    chat_template: Option<Value>,
}

impl TokenizerConfig {
    /// Parses the file, if there is one.
    pub(crate) fn parse(bytes: Option<&[u8]>) -> Result<Self> {
        let Some(bytes) = bytes else {
            return Ok(Self::default());
        };
        serde_json::from_slice(bytes).map_err(|error| wrong(&error))
    }

    /// Returns the text of the first token.
    pub(crate) fn bos_token(&self) -> Option<&str> {
        match self.bos_token.as_ref()? {
            Token::Text(text) | Token::Object { content: text } => Some(text),
        }
    }

    /// Compiles the template: `own_file` if there is one, otherwise that of this file. Returns `None` for a model
    /// without a template.
    pub(crate) fn into_template(self, own_file: Option<String>) -> Result<Option<ChatTemplate>> {
        let source = own_file.or_else(|| match self.chat_template? {
            Value::String(source) => Some(source),
            Value::Array(named) => {
                let is_default = |entry: &&Value| entry.get("name").is_some_and(|name| name == "default");
                let entry = named.iter().find(is_default).or_else(|| named.first())?;
                entry.get("template")?.as_str().map(str::to_owned)
            }
            _ => None,
        });
        let Some(source) = source else {
            return Ok(None);
        };
        let template = ChatTemplate {
            environment: environment(source).map_err(|error| wrong(&error))?,
            bos_token: self.bos_token.map(Token::into_text),
            eos_token: self.eos_token.map(Token::into_text),
        };
        Ok(Some(template))
    }
}

fn wrong(error: &dyn std::fmt::Display) -> LoadError {
    LoadError::Config {
        file: "tokenizer_config.json",
        reason: error.to_string(),
    }
}

fn environment(mut source: String) -> Result<Environment<'static>, Error> {
    // transformers marks what the model writes, for training only.
    for tag in ["generation", "endgeneration"] {
        for (open, close) in [("{% ", " %}"), ("{%- ", " -%}"), ("{%- ", " %}"), ("{% ", " -%}")] {
            let (from, to) = (
                format!("{open}{tag}{close}"),
                format!("{open}if true{close}{open}endif{close}"),
            );
            source = source.replace(&from, &to);
        }
    }
    let mut environment = Environment::new();
    environment.set_syntax(
        SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()?,
    );
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_template_owned("chat", source)?;
    Ok(environment)
}

impl ChatTemplate {
    /// Renders a conversation as transformers' `apply_chat_template` does with `add_generation_prompt=True`. A template
    /// that prints the date prints its own default: a prompt must not change from day to day.
    ///
    /// # Errors
    /// What the template refuses, in words.
    pub(crate) fn render(&self, messages: &[Message<'_>]) -> Result<String, String> {
        let template = self
            .environment
            .get_template("chat")
            .map_err(|error| error.to_string())?;
        let messages = messages
            .iter()
            .map(|message| context! { role => message.role, content => message.content });
        let token = |token: &Option<String>| match token {
            Some(token) => minijinja::Value::from(token.as_str()),
            None => minijinja::Value::UNDEFINED,
        };
        let context = context! {
            messages => messages.collect::<Vec<_>>(),
            bos_token => token(&self.bos_token),
            eos_token => token(&self.eos_token),
            add_generation_prompt => true,
        };
        template.render(context).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(source: &str, messages: &[Message<'_>]) -> Result<String, String> {
        let config = serde_json::json!({"chat_template": source, "bos_token": {"content": "<s>"}, "eos_token": "</s>"});
        let config = TokenizerConfig::parse(Some(config.to_string().as_bytes())).unwrap();
        config.into_template(None).unwrap().unwrap().render(messages)
    }

    const USER: Message<'static> = Message {
        role: "user",
        content: " Hi <b> ",
    };

    #[test]
    fn templates_render_as_in_jinja() {
        let source = concat!(
            "{{ bos_token }}{% for m in messages %}\n  {% if m['role'] == 'user' %}\n",
            "U: {{ m.content.strip() }}{{ eos_token }}\n  {% endif %}\n{% endfor %}\n",
            "{% if add_generation_prompt %}A:{% endif %}\n",
        );
        assert_eq!(rendered(source, &[USER]).unwrap(), "<s>U: Hi <b></s>\nA:");
    }

    #[test]
    fn a_template_can_refuse_a_conversation_and_cannot_run_forever() {
        let refused = rendered("{{ raise_exception('no system') }}", &[USER]).unwrap_err();
        assert!(refused.contains("no system"), "{refused}");
        let endless = "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
        assert!(rendered(endless, &[USER]).unwrap_err().contains("fuel"));
    }

    #[test]
    fn a_default_template_is_chosen_by_name() {
        let config =
            br#"{"chat_template": [{"name": "rag", "template": "R"}, {"name": "default", "template": "D"}]}"#;
        let template = TokenizerConfig::parse(Some(config))
            .unwrap()
            .into_template(None)
            .unwrap();
        assert_eq!(template.unwrap().render(&[USER]).unwrap(), "D");
        let own = TokenizerConfig::parse(Some(config))
            .unwrap()
            .into_template(Some("O".to_owned()));
        assert_eq!(own.unwrap().unwrap().render(&[USER]).unwrap(), "O");
    }
}
