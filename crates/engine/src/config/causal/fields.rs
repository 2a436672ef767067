//! The families of decoder-only models, and the keys of their configurations.

use serde_json::{Map, Value};

use crate::config::wrong;
use crate::error::Result;

/// The supported values of `model_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
    Gemma3,
}

impl Family {
    /// Returns the family of a `model_type`.
    pub(super) fn of(model_type: &str) -> Option<Self> {
        match model_type {
            "llama" => Some(Self::Llama),
            "mistral" => Some(Self::Mistral),
            "qwen2" => Some(Self::Qwen2),
            "qwen3" => Some(Self::Qwen3),
            "gemma3_text" => Some(Self::Gemma3),
            _ => None,
        }
    }

    /// Returns the name that the engine reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gemma3 => "gemma3",
        }
    }
}

/// The keys of a configuration. `null` counts as absent.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    pub(super) fn new(map: &'a Map<String, Value>) -> Self {
        Self(map)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn whole(&self, name: &str) -> Result<Option<usize>> {
        let read = |value: &Value| value.as_u64().and_then(|whole| usize::try_from(whole).ok());
        self.get(name)
            .map(|value| read(value).ok_or_else(|| wrong(format!("{name} is {value}"))))
            .transpose()
    }

    pub(super) fn needed(&self, name: &str) -> Result<usize> {
        self.whole(name)?
            .ok_or_else(|| wrong(format!("missing field `{name}`")))
    }

    pub(super) fn number(&self, name: &str, default: f64) -> Result<f64> {
        self.get(name).map_or(Ok(default), |value| {
            value.as_f64().ok_or_else(|| wrong(format!("{name} is {value}")))
        })
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.get(name).and_then(Value::as_bool).unwrap_or(false)
    }
}
