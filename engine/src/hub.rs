//! Models of the Hugging Face hub, through its cache.

use std::path::PathBuf;

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};

use crate::error::{LoadError, Result};
use crate::source::{ModelFiles, WeightFiles, read, shard_names};

/// Downloads are tried again this often.
const RETRIES: usize = 3;

/// One revision of one repository.
struct Revision<'a> {
    id: &'a str,
    revision: &'a str,
    cache: Cache,
    /// `None` with `HF_HUB_OFFLINE=1`: only the cache is looked at.
    api: Option<Api>,
}

/// The files of a model on the hub: from the cache, or downloaded into it.
pub(crate) fn files(id: &str, revision: &str) -> Result<ModelFiles> {
    let offline = std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| !matches!(value.as_str(), "" | "0"));
    let mut repository = Revision {
        id,
        revision,
        cache: Cache::from_env(),
        api: None,
    };
    if !offline {
        let mut builder = ApiBuilder::from_env().with_progress(false).with_retries(RETRIES);
        if let Ok(token) = std::env::var("HF_TOKEN") {
            builder = builder.with_token(Some(token).filter(|token| !token.is_empty()));
        }
        let api = builder
            .build()
            .map_err(|error| repository.failed("the repository", &error.to_string()))?;
        repository.api = Some(api);
    }
    let config = repository.required("config.json")?;
    let tokenizer = repository.required("tokenizer.json")?;
    let weights = match repository.optional("model.safetensors.index.json") {
        Some(index) => {
            let index = read(&index)?.unwrap_or_default();
            shard_names(&index)?
                .iter()
                .map(|shard| repository.required(shard))
                .collect::<Result<Vec<_>>>()?
        }
        None => vec![repository.required("model.safetensors")?],
    };
    let generation = match repository.optional("generation_config.json") {
        Some(path) => read(&path)?,
        None => None,
    };
    // The cache keeps a revision's files in `snapshots/<commit>`.
    let commit = config.parent().and_then(|folder| folder.file_name());
    Ok(ModelFiles {
        name: id.rsplit('/').next().unwrap_or(id).to_owned(),
        revision: commit.map_or_else(
            || revision.to_owned(),
            |commit| commit.to_string_lossy().into_owned(),
        ),
        config: read(&config)?.unwrap_or_default().into(),
        generation: generation.map(Into::into),
        tokenizer: read(&tokenizer)?.unwrap_or_default().into(),
        weights: WeightFiles::Files(weights),
    })
}

impl Revision<'_> {
    fn repo(&self) -> Repo {
        Repo::with_revision(self.id.to_owned(), RepoType::Model, self.revision.to_owned())
    }

    fn failed(&self, file: &str, reason: &str) -> LoadError {
        LoadError::Hub {
            id: self.id.to_owned(),
            revision: self.revision.to_owned(),
            file: file.to_owned(),
            reason: reason.to_owned(),
        }
    }

    fn required(&self, file: &str) -> Result<PathBuf> {
        let found = self
            .fetch(file)
            .map_err(|error| self.failed(file, &error.to_string()))?;
        found.ok_or_else(|| match &self.api {
            Some(_) => LoadError::MissingFile {
                file: file.to_owned(),
                place: format!("{} at {} on the hub", self.id, self.revision),
                hint: "this engine reads repositories with safetensors weights and a tokenizer.json",
            },
            None => self.failed(file, "it is not in the cache, and HF_HUB_OFFLINE is set"),
        })
    }

    /// `None` if the repository has no such file, or if neither cache nor hub can tell.
    fn optional(&self, file: &str) -> Option<PathBuf> {
        self.fetch(file).unwrap_or_else(|error| {
            tracing::warn!(model = self.id, file, %error, "not in the cache, and the hub cannot be asked");
            None
        })
    }

    fn fetch(&self, file: &str) -> Result<Option<PathBuf>, ApiError> {
        if let Some(path) = self.cache.repo(self.repo()).get(file) {
            return Ok(Some(path));
        }
        let Some(api) = &self.api else { return Ok(None) };
        match api.repo(self.repo()).download(file) {
            Ok(path) => Ok(Some(path)),
            Err(ApiError::RequestError(error)) if error.to_string().contains("404") => Ok(None),
            Err(error) => Err(error),
        }
    }
}
