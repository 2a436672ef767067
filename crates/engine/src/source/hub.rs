//! Models from the Hugging Face hub, through its local cache.

use std::cell::Cell;
use std::path::PathBuf;

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};

use super::files::{ChatFiles, ModelFiles, TokenizerFile, WeightFiles, read, shard_names};
use crate::config;
use crate::error::{LoadError, Result};

/// Number of download retries.
const RETRIES: usize = 3;

/// Returns the name of a repository's model: `flan-t5-small` for `google/flan-t5-small`.
pub(super) fn name(id: &str) -> String {
    id.rsplit('/').next().unwrap_or(id).to_owned()
}

/// One revision of a repository.
struct Revision<'a> {
    id: &'a str,
    revision: String,
    cache: Cache,
    /// `None` with `HF_HUB_OFFLINE=1`: only the cache is used.
    api: Option<Api>,
    /// Whether the hub has already answered. After that, a failed download is an error rather than a missing file.
    reached: Cell<bool>,
}

/// Returns the files of a hub model, from the cache or downloaded into it.
///
/// Reads `HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE`. With `newest`, resolves a branch to its latest
/// commit even if an older one is cached.
pub(crate) fn files(id: &str, revision: &str, newest: bool) -> Result<ModelFiles> {
    let mut repository = Revision {
        id,
        revision: revision.to_owned(),
        cache: Cache::from_env(),
        api: None,
        reached: Cell::new(false),
    };
    if !std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| !matches!(value.as_str(), "" | "0")) {
        let mut builder = ApiBuilder::from_env().with_progress(false).with_retries(RETRIES);
        if let Some(token) = std::env::var("HF_TOKEN").ok().filter(|token| !token.is_empty()) {
            builder = builder.with_token(Some(token));
        }
        let api = builder
            .build()
            .map_err(|error| repository.failed("the repository", &error.to_string()))?;
        repository.api = Some(api);
    }
    if newest {
        repository.resolve_newest()?;
    }
    repository.files()
}

impl Revision<'_> {
    /// Moves from a branch to its latest commit. Offline, keeps the cached one.
    fn resolve_newest(&mut self) -> Result<()> {
        let Some(api) = &self.api else { return Ok(()) };
        let info = api.repo(self.repo()).info();
        self.revision = info
            .map_err(|error| self.failed("the newest commit", &error.to_string()))?
            .sha;
        Ok(())
    }

    fn files(&self) -> Result<ModelFiles> {
        let config = self.required("config.json")?;
        let settings = read(&config)?.unwrap_or_default();
        let tokenizer = match self.optional("tokenizer.json")? {
            Some(path) => TokenizerFile::Json(read(&path)?.unwrap_or_default().into()),
            None => TokenizerFile::SentencePiece {
                model: read(&self.required("spiece.model")?)?.unwrap_or_default(),
                config: match self.optional("tokenizer_config.json")? {
                    Some(path) => read(&path)?,
                    None => None,
                },
            },
        };
        let weights = match self.optional("model.safetensors.index.json")? {
            Some(index) => {
                let index = read(&index)?.unwrap_or_default();
                shard_names(&index)?
                    .iter()
                    .map(|shard| self.required(shard))
                    .collect::<Result<Vec<_>>>()?
            }
            None => vec![self.required("model.safetensors")?],
        };
        let optional = |file: &str| match self.optional(file)? {
            Some(path) => read(&path),
            None => Ok(None),
        };
        let generation = optional("generation_config.json")?;
        let chat = match config::is_causal(&settings) {
            true => ChatFiles {
                config: optional("tokenizer_config.json")?,
                template: optional("chat_template.jinja")?
                    .map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
            },
            false => ChatFiles::default(),
        };
        // The cache stores a revision's files in `snapshots/<commit>`.
        let commit = config.parent().and_then(|folder| folder.file_name());
        let commit = commit.map_or_else(
            || self.revision.clone(),
            |commit| commit.to_string_lossy().into_owned(),
        );
        Ok(ModelFiles {
            name: name(self.id),
            revision: commit,
            config: settings.into(),
            generation: generation.map(Into::into),
            tokenizer,
            chat,
            weights: WeightFiles::Files(weights),
        })
    }

    fn repo(&self) -> Repo {
        Repo::with_revision(self.id.to_owned(), RepoType::Model, self.revision.clone())
    }

    fn failed(&self, file: &str, reason: &str) -> LoadError {
        LoadError::Hub {
            id: self.id.to_owned(),
            revision: self.revision.clone(),
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
                hint: "this engine reads repositories with safetensors weights and a tokenizer.json or a spiece.model",
            },
            None => self.failed(file, "the file is not in the cache and HF_HUB_OFFLINE is set"),
        })
    }

    /// Returns `None` if the repository has no such file, or if the hub is unreachable and all files so far came from
    /// the cache.
    ///
    /// If the hub served one file and fails at the next, ignoring the file would change the model. That is an error.
    fn optional(&self, file: &str) -> Result<Option<PathBuf>> {
        match self.fetch(file) {
            Ok(found) => Ok(found),
            Err(error) if self.reached.get() => Err(self.failed(file, &error.to_string())),
            Err(error) => {
                tracing::warn!(model = self.id, file, %error, "optional file is not cached and the hub is unreachable");
                Ok(None)
            }
        }
    }

    fn fetch(&self, file: &str) -> Result<Option<PathBuf>, ApiError> {
        if let Some(path) = self.cache.repo(self.repo()).get(file) {
            return Ok(Some(path));
        }
        let Some(api) = &self.api else { return Ok(None) };
        match api.repo(self.repo()).download(file) {
            Ok(path) => {
                self.reached.set(true);
                Ok(Some(path))
            }
            Err(ApiError::RequestError(error)) if error.to_string().contains("404") => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::path::Path;

    use super::*;

    const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/");

    /// Starts a fake hub that serves a folder's files for at most `requests` requests. Returns its address.
    fn hub(folder: &'static str, requests: usize) -> String {
        hub_without(folder, requests, "")
    }

    /// Like `hub`, but answers 503 for one of the files.
    fn hub_without(folder: &'static str, requests: usize, trouble: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming().take(requests) {
                let mut stream = stream.unwrap();
                let lines: Vec<String> = BufReader::new(&stream)
                    .lines()
                    .map_while(Result::ok)
                    .take_while(|line| !line.is_empty())
                    .collect();
                let path = lines[0].split(' ').nth(1).unwrap();
                if path == "/api/models/owner/small/revision/main" {
                    let body = r#"{"sha":"abc124","siblings":[]}"#;
                    let head = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
                         connection: close\r\n\r\n{body}",
                        body.len()
                    );
                    stream.write_all(head.as_bytes()).unwrap();
                    continue;
                }
                let (commit, file) = path
                    .strip_prefix("/owner/small/resolve/")
                    .and_then(|path| path.split_once('/'))
                    .unwrap();
                if file == trouble {
                    let answer: &[u8] =
                        b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                    stream.write_all(answer).unwrap();
                    continue;
                }
                let commit = if commit == "main" { "abc123" } else { commit };
                let Ok(bytes) = std::fs::read(Path::new(FOLDER).join(folder).join(file)) else {
                    stream
                        .write_all(
                            b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                        )
                        .unwrap();
                    continue;
                };
                let first_byte_only = lines
                    .iter()
                    .any(|line| line.eq_ignore_ascii_case("range: bytes=0-0"));
                let part = if first_byte_only { &bytes[..1] } else { &bytes[..] };
                let head = format!(
                    "HTTP/1.1 206 Partial Content\r\ncontent-length: {}\r\ncontent-range: bytes 0-{}/{}\r\n\
                     etag: \"{commit}-{file}-etag\"\r\nx-repo-commit: {commit}\r\nconnection: close\r\n\r\n",
                    part.len(),
                    part.len() - 1,
                    bytes.len()
                );
                stream.write_all(head.as_bytes()).unwrap();
                stream.write_all(part).unwrap();
            }
        });
        address
    }

    fn repository(cache: &Path, endpoint: Option<String>) -> Revision<'static> {
        let cache = Cache::new(cache.to_owned());
        let api = |endpoint| {
            ApiBuilder::from_cache(cache.clone())
                .with_endpoint(endpoint)
                .with_progress(false)
                .build()
        };
        Revision {
            id: "owner/small",
            revision: "main".to_owned(),
            api: endpoint.map(|endpoint| api(endpoint).unwrap()),
            cache,
            reached: Cell::new(false),
        }
    }

    #[test]
    fn downloaded_models_load_offline() {
        for (folder, weights) in [("t5", 1), ("t5-v1_1", 2)] {
            let cache = tempfile::tempdir().unwrap();
            let fetched = repository(cache.path(), Some(hub(folder, 100))).files().unwrap();
            let again = repository(cache.path(), None).files().unwrap();
            for files in [fetched, again] {
                assert_eq!(
                    (files.name.as_str(), files.revision.as_str()),
                    ("small", "abc123")
                );
                assert_eq!(
                    *files.config,
                    std::fs::read(format!("{FOLDER}{folder}/config.json")).unwrap()
                );
                assert!(files.generation.is_some());
                let WeightFiles::Files(paths) = files.weights else {
                    panic!("not files")
                };
                assert_eq!(paths.len(), weights);
                assert!(paths.iter().all(|path| path.is_file()));
            }
        }
    }

    #[test]
    fn a_failed_download_is_an_error_and_not_a_missing_file() {
        for trouble in ["generation_config.json", "tokenizer.json"] {
            let cache = tempfile::tempdir().unwrap();
            let address = hub_without("t5", 100, trouble);
            let error = repository(cache.path(), Some(address)).files().unwrap_err();
            assert!(
                matches!(&error, LoadError::Hub { file, .. } if file == trouble),
                "{error}"
            );
        }
    }

    #[test]
    fn newest_resolves_a_branch_to_its_latest_commit() {
        let cache = tempfile::tempdir().unwrap();
        let mut first = repository(cache.path(), Some(hub("t5", 100)));
        assert_eq!(first.files().unwrap().revision, "abc123");
        first.resolve_newest().unwrap();
        assert_eq!(first.files().unwrap().revision, "abc124");
        // Offline, the branch stays at the cached commit.
        let mut offline = repository(cache.path(), None);
        offline.resolve_newest().unwrap();
        assert_eq!(offline.files().unwrap().revision, "abc123");
        let mut gone = repository(cache.path(), Some("http://127.0.0.1:9".to_owned()));
        assert!(matches!(gone.resolve_newest(), Err(LoadError::Hub { .. })));
    }

    #[test]
    fn missing_files_and_an_unreachable_hub_are_distinct_errors() {
        let cache = tempfile::tempdir().unwrap();
        let error = repository(cache.path(), Some(hub("no-such-model", 10)))
            .files()
            .unwrap_err();
        assert!(
            matches!(&error, LoadError::MissingFile { file, .. } if file == "config.json"),
            "{error}"
        );
        let error = repository(cache.path(), Some("http://127.0.0.1:9".to_owned()))
            .files()
            .unwrap_err();
        assert!(
            matches!(&error, LoadError::Hub { id, .. } if id == "owner/small"),
            "{error}"
        );
        let error = repository(cache.path(), None).files().unwrap_err();
        assert!(error.to_string().contains("HF_HUB_OFFLINE"), "{error}");
    }
}
