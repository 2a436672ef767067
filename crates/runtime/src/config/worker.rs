//! `[worker]`: workers and their model.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use precis_schemas::{GenerationParams, Lane};
use serde::{Deserialize, Serialize};

use super::lists::lanes;
use super::{ConfigError, Section, check, loopback};

/// The model that a worker loads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum ModelChoice {
    /// The built-in model.
    Embedded,
    /// A directory in Hugging Face's layout, or a GGUF file.
    Folder(PathBuf),
    /// A repository of the Hugging Face hub, with an optional revision after `@`.
    Hub {
        /// Name of the repository, such as `google/flan-t5-small`.
        id: String,
        /// Branch, tag or commit; `main` by default.
        revision: Option<String>,
    },
    /// `benchmark:no-op`: no model. Each summary is the first sentence of its text. For benchmarks of everything around
    /// the engine; no directory or repository has this name by accident.
    NoOp,
    /// `benchmark:faulty`: like `benchmark:no-op`, and texts that start with `[[panic]]`, `[[hang]]`, `[[abort]]`,
    /// `[[exhaust]]` or `[[sleep <ms>]]` make the engine do so. For tests of everything around the engine.
    Faulty,
}

fn is_gguf_file(path: &Path) -> bool {
    path.extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"))
        && path.is_file()
}

const NO_OP: &str = "benchmark:no-op";
const FAULTY: &str = "benchmark:faulty";

impl From<String> for ModelChoice {
    fn from(text: String) -> Self {
        let path = PathBuf::from(&text);
        if text == "embedded" {
            Self::Embedded
        } else if text == NO_OP {
            Self::NoOp
        } else if text == FAULTY {
            Self::Faulty
        } else if path.is_absolute()
            || text.starts_with('.')
            || text.starts_with('~')
            || path.is_dir()
            || is_gguf_file(&path)
        {
            Self::Folder(path)
        } else {
            match text.split_once('@') {
                Some((id, revision)) => Self::Hub {
                    id: id.into(),
                    revision: Some(revision.into()),
                },
                None => Self::Hub {
                    id: text,
                    revision: None,
                },
            }
        }
    }
}

impl From<ModelChoice> for String {
    fn from(choice: ModelChoice) -> Self {
        match choice {
            ModelChoice::Embedded => "embedded".into(),
            ModelChoice::NoOp => NO_OP.into(),
            ModelChoice::Faulty => FAULTY.into(),
            ModelChoice::Folder(path) => path.display().to_string(),
            ModelChoice::Hub { id, revision: None } => id,
            ModelChoice::Hub {
                id,
                revision: Some(revision),
            } => format!("{id}@{revision}"),
        }
    }
}

choices! {
    /// The texts for which a worker returns embeddings.
    #[derive(Default)]
    EmbeddingTexts {
        /// No text.
        #[default]
        None = "none",
        /// The job's text.
        Document = "document",
        /// The job's text and its summary.
        Both = "both",
    }
}

/// Workers and their model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(documented::Documented, documented::DocumentedFields))]
#[serde(deny_unknown_fields, default)]
pub struct WorkerConfig {
    /// Id in heartbeats and rows; by default the host name and a random suffix.
    pub id: Option<String>,
    /// `embedded`, a directory or a GGUF file (absolute, or starting with a dot), or a hub id with an optional
    /// `@revision`.
    pub model: ModelChoice,
    /// How often to check the files of a model directory. Changed files are loaded once they are stable, and serve all
    /// later jobs. 0: only on SIGHUP, which also reloads a hub id.
    pub watch_model_seconds: u64,
    /// What an instruct model is asked: a Jinja template of the user's message, with `{{ text }}` for the text. Without
    /// `{{`, the text follows after an empty line. T5 models have their own prefix instead.
    pub prompt: String,
    /// System message of an instruct model. Empty: none.
    pub system_prompt: String,
    /// Name under which the model is served. It is the model's token in the subject of its jobs.
    pub serve_as: String,
    /// Device: `cpu`, `cuda`, `metal` or `auto`.
    pub device: String,
    /// Number of engine threads. 0: one per core.
    pub threads: usize,
    /// Precision: `f32` reproduces the output of transformers; `bf16` and `int8` are faster and nearly as good. `auto`
    /// is `f32` on a CPU, `bf16` on CUDA and `f16` on Metal.
    pub precision: String,
    /// Maximum number of jobs that the engine decodes together, 1 to 1024.
    pub max_batch: usize,
    /// How long a pull waits for more jobs after the first, at most 10000. Jobs can join a decoding batch at any time,
    /// so waiting gains little.
    pub linger_ms: u64,
    /// Lanes to pull: a list, or a string with commas (`high,normal`).
    #[serde(deserialize_with = "lanes")]
    pub lanes: Vec<Lane>,
    /// Embeddings in results, for drift, Arize and Phoenix: `none`, `document` (free with T5, because the encoder reads
    /// the text anyway; another pass with other models) or `both` (the model also reads the summary).
    pub embeddings: EmbeddingTexts,
    /// Jobs without a progress acknowledgement for this time are delivered to another worker, 2 to 3600. Use the same
    /// value for all workers of a model.
    pub ack_wait_seconds: u64,
    /// How long a stopping worker may take to finish its jobs, at most 3600.
    pub drain_seconds: u64,
    /// Address of `/healthz`, `/readyz` and `/metrics`. Unset: port 9021 on 127.0.0.1, or a free port if another process
    /// has it; the worker logs which.
    #[serde(deserialize_with = "super::values::optional_address")]
    pub admin_listen: Option<SocketAddr>,
    /// Generation parameters for requests that don't set them.
    pub params: GenerationParams,
}

impl WorkerConfig {
    /// Returns the address that is preferred if `admin_listen` is unset.
    pub fn preferred_admin_listen() -> SocketAddr {
        loopback(9021)
    }
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            id: None,
            model: ModelChoice::Embedded,
            watch_model_seconds: 0,
            prompt: "Summarize this article in one sentence:".into(),
            system_prompt: "You summarize news articles in one sentence.".into(),
            serve_as: "default".into(),
            device: "auto".into(),
            threads: 0,
            max_batch: 16,
            linger_ms: 0,
            precision: "auto".into(),
            lanes: Lane::ALL.to_vec(),
            embeddings: EmbeddingTexts::None,
            ack_wait_seconds: 30,
            drain_seconds: 30,
            admin_listen: None,
            params: GenerationParams::default(),
        }
    }
}

impl Section for WorkerConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        check::within("worker.max_batch", self.max_batch, 1..=1024)?;
        check::at_most("worker.linger_ms", self.linger_ms, 10_000)?;
        check::within("worker.ack_wait_seconds", self.ack_wait_seconds, 2..=3_600)?;
        check::require(
            !self.lanes.is_empty(),
            "worker.lanes",
            "must name at least one lane",
        )?;
        check::token("worker.serve_as", &self.serve_as)?;
        if let Some(id) = &self.id {
            check::token("worker.id", id)?;
        }
        check::require(
            matches!(self.device.as_str(), "auto" | "cpu" | "cuda" | "metal"),
            "worker.device",
            "must be auto, cpu, cuda or metal",
        )?;
        check::at_most("worker.drain_seconds", self.drain_seconds, 3_600)?;
        self.params.validate().map_err(|refusal| ConfigError::Invalid {
            key: "worker.params",
            problem: refusal.message.trim_start_matches("params.").to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_directories_or_hub_ids() {
        let choice = |text: &str| ModelChoice::from(text.to_owned());
        assert_eq!(choice("embedded"), ModelChoice::Embedded);
        assert_eq!(choice("benchmark:no-op"), ModelChoice::NoOp);
        assert_eq!(choice("benchmark:faulty"), ModelChoice::Faulty);
        assert_eq!(
            choice("./models/mine"),
            ModelChoice::Folder("./models/mine".into())
        );
        assert_eq!(
            choice("google/flan-t5-small"),
            ModelChoice::Hub {
                id: "google/flan-t5-small".into(),
                revision: None
            }
        );
        assert_eq!(String::from(choice("a/b@v2")), "a/b@v2");
    }
}
