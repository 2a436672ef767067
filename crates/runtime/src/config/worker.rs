//! `[worker]`: those who run the model, and which one.

use std::net::SocketAddr;
use std::path::PathBuf;

use precis_schemas::{GenerationParams, Lane};
use serde::{Deserialize, Serialize};

use super::lists::lanes;
use super::sections::loopback;

/// Which model a worker loads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum ModelChoice {
    /// The one that is built in.
    Embedded,
    /// A folder in Hugging Face's layout.
    Folder(PathBuf),
    /// A repository of the hub, with a revision after `@` if not `main`.
    Hub {
        /// Such as `google/flan-t5-small`.
        id: String,
        /// Branch, tag or commit.
        revision: Option<String>,
    },
    /// None at all, `benchmark:no-op`: every text is answered at once with its first sentence. Only for benchmarks of
    /// what is around the engine; no folder and no repository can have that name by accident.
    NoOp,
}

const NO_OP: &str = "benchmark:no-op";

impl From<String> for ModelChoice {
    fn from(text: String) -> Self {
        let path = PathBuf::from(&text);
        if text == "embedded" {
            Self::Embedded
        } else if text == NO_OP {
            Self::NoOp
        } else if path.is_absolute() || text.starts_with('.') || text.starts_with('~') || path.is_dir() {
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
            ModelChoice::Folder(path) => path.display().to_string(),
            ModelChoice::Hub { id, revision: None } => id,
            ModelChoice::Hub {
                id,
                revision: Some(revision),
            } => format!("{id}@{revision}"),
        }
    }
}

/// Which texts a worker gives vectors of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EmbeddingTexts {
    /// None.
    #[default]
    None,
    /// The text that is summarized.
    Document,
    /// The text and its summary.
    Both,
}

/// `[worker]`: those who run the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkerConfig {
    /// Id in heartbeats and rows; by default made of the host name and a random part.
    pub id: Option<String>,
    /// `embedded`, a folder (absolute, or beginning with a dot), or a hub id with an optional `@revision`.
    pub model: ModelChoice,
    /// The files of a model folder are looked at this often, in seconds; when they have changed and are left alone, they are
    /// loaded, and get the jobs that come from then on. 0: only on SIGHUP, which does the same for a hub id.
    pub watch_model_seconds: u64,
    /// Name under which the model is served: the token in the subject of its jobs.
    pub serve_as: String,
    /// `cpu`, `cuda`, `metal` or `auto`.
    pub device: String,
    /// Threads of the engine; 0: one for each core.
    pub threads: usize,
    /// `f32` writes what transformers writes; `bf16` and `int8` are faster and nearly as good; `auto` is `f32` on a CPU,
    /// `bf16` on CUDA, `f16` on Metal.
    pub precision: String,
    /// Most jobs that are given to the engine at a time; it decodes them together.
    pub max_batch: usize,
    /// How long a pull waits for more jobs after the first, in milliseconds. A job joins those that are being decoded
    /// at any time, so that there is little to wait for.
    pub linger_ms: u64,
    /// Lanes to pull: a list, or a text with commas between (`high,normal`).
    #[serde(deserialize_with = "lanes")]
    pub lanes: Vec<Lane>,
    /// Which vectors a result carries, for drift and for Arize and Phoenix: `none`, `document` (free, the model has read
    /// it anyway) or `both` (the summary is read by the encoder for it).
    pub embeddings: EmbeddingTexts,
    /// A job whose worker gives no sign of life for this long is delivered to another, in seconds. All
    /// workers of a model should agree on it.
    pub ack_wait_seconds: u64,
    /// How long a stopping worker may take to finish what it has begun, in seconds.
    pub drain_seconds: u64,
    /// Address of `/healthz`, `/readyz` and `/metrics`.
    pub admin_listen: SocketAddr,
    /// Generation parameters of requests that leave them open.
    pub params: GenerationParams,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            id: None,
            model: ModelChoice::Embedded,
            watch_model_seconds: 0,
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
            admin_listen: loopback(9021),
            params: GenerationParams::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_a_folder_or_a_hub_id() {
        let choice = |text: &str| ModelChoice::from(text.to_owned());
        assert_eq!(choice("embedded"), ModelChoice::Embedded);
        assert_eq!(choice("benchmark:no-op"), ModelChoice::NoOp);
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
