//! Files of artifacts: the user's cache, keyed by checksum, and the local directory.
//!
//! A file gets its final name by a rename after its checksum was verified. A process that is killed at any point leaves
//! only scratch files, which the next one removes.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use tempfile::TempDir;

use crate::archive;
use crate::error::{InstallError, file};
use crate::pins::Artifact;
use crate::progress::Progress;

/// Interval between attempts to lock.
const LOCK_INTERVAL: Duration = Duration::from_millis(200);

/// The paths of an artifact.
#[derive(Debug, Clone)]
pub(crate) struct ArtifactPaths {
    name: &'static str,
    sha256: &'static str,
    /// File in the local directory.
    pub(crate) local: PathBuf,
    /// File that records that the local file was verified.
    stamp: PathBuf,
    /// File in the cache.
    pub(crate) cached: PathBuf,
    lock: PathBuf,
    scratch: PathBuf,
}

impl ArtifactPaths {
    /// Returns the paths of an artifact in the local directory and the cache.
    pub(crate) fn new(artifact: &Artifact, local_dir: &Path, cache_dir: &Path) -> Self {
        let file_name = Path::new(artifact.path).file_name().unwrap_or_default();
        Self {
            name: artifact.name,
            sha256: artifact.sha256,
            local: local_dir.join(artifact.path),
            stamp: local_dir.join("stamp").join(file_name),
            cached: cache_dir.join("sha256").join(artifact.sha256),
            lock: cache_dir.join("lock").join(artifact.sha256),
            scratch: cache_dir.join("tmp").join(artifact.sha256),
        }
    }

    /// Checks that no other user can change the local file or its stamp, which stands for its checksum.
    pub(crate) fn check_owners(&self) -> Result<(), InstallError> {
        let user = rustix::process::geteuid().as_raw();
        let files = [&self.local, &self.stamp];
        let folders = files.iter().flat_map(|file| file.ancestors().skip(1).take(2));
        for path in files.into_iter().map(PathBuf::as_path).chain(folders) {
            // What is missing will be created.
            let Ok(metadata) = fs::metadata(path) else {
                continue;
            };
            let is_own = metadata.uid() == user || metadata.uid() == 0;
            if !is_own || metadata.mode() & 0o002 != 0 {
                return Err(InstallError::Untrusted {
                    path: path.to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Returns whether the local file has the pinned checksum. Computes it only if the file has changed since it was last
    /// verified.
    pub(crate) fn is_installed(&self) -> bool {
        let Some(current) = self.current_stamp() else {
            return false;
        };
        if fs::read_to_string(&self.stamp).is_ok_and(|stamp| stamp == current) {
            return true;
        }
        let matches = archive::sha256_of(&self.local).is_ok_and(|sum| sum == self.sha256);
        if matches {
            // Without a stamp, the next start only computes the checksum again.
            let _ = self.write_stamp();
        }
        matches
    }

    /// Returns the stamp of the local file: the pinned checksum, size and modification time.
    fn current_stamp(&self) -> Option<String> {
        let metadata = fs::metadata(&self.local).ok()?;
        let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(format!(
            "{} {} {}\n",
            self.sha256,
            metadata.len(),
            modified.as_nanos()
        ))
    }

    fn write_stamp(&self) -> Result<(), InstallError> {
        let Some(stamp) = self.current_stamp() else {
            return Ok(());
        };
        let folder = create_parent(&self.stamp)?;
        let mut temporary = tempfile::NamedTempFile::new_in(folder).map_err(file("write in", folder))?;
        temporary
            .write_all(stamp.as_bytes())
            .map_err(file("write", temporary.path()))?;
        temporary
            .persist(&self.stamp)
            .map_err(|error| file("write", &self.stamp)(error.error))?;
        Ok(())
    }

    /// Returns whether the cache has the file. Removes a damaged one.
    pub(crate) fn is_cached(&self) -> Result<bool, InstallError> {
        if !self.cached.exists() {
            return Ok(false);
        }
        if archive::sha256_of(&self.cached)? == self.sha256 {
            return Ok(true);
        }
        fs::remove_file(&self.cached).map_err(file("remove the damaged", &self.cached))?;
        Ok(false)
    }

    /// Creates an empty directory for downloads in the cache. The caller must hold the lock.
    ///
    /// Removes leftovers of earlier processes if possible: a child of a killed process may still be writing.
    pub(crate) fn create_scratch(&self) -> Result<TempDir, InstallError> {
        let _ = fs::remove_dir_all(&self.scratch);
        fs::create_dir_all(&self.scratch).map_err(file("create", &self.scratch))?;
        tempfile::tempdir_in(&self.scratch).map_err(file("create a directory in", &self.scratch))
    }

    /// Moves a verified file into the cache.
    pub(crate) fn store_in_cache(&self, fetched: &Path) -> Result<(), InstallError> {
        use std::os::unix::fs::PermissionsExt;
        // Read-only, because the local file is often a hard link to it.
        fs::set_permissions(fetched, fs::Permissions::from_mode(0o555)).map_err(file("protect", fetched))?;
        create_parent(&self.cached)?;
        fs::rename(fetched, &self.cached).map_err(file("write", &self.cached))
    }

    /// Installs the cached file in the local directory, as a hard link if possible, else as a copy.
    pub(crate) fn install_from_cache(&self) -> Result<(), InstallError> {
        let folder = create_parent(&self.local)?;
        let temporary = tempfile::Builder::new()
            .prefix(".installing-")
            .make_in(folder, |path| {
                fs::hard_link(&self.cached, path).or_else(|_| fs::copy(&self.cached, path).map(|_| ()))
            })
            .map_err(file("write in", folder))?;
        temporary
            .persist(&self.local)
            .map_err(|error| file("write", &self.local)(error.error))?;
        self.remove_leftovers(folder);
        self.write_stamp()
    }

    /// Removes temporary files of killed processes next to the local file.
    fn remove_leftovers(&self, folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(".installing-") {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Locks the artifact. Waits while another process installs it.
    pub(crate) async fn lock(&self, progress: &Progress) -> Result<File, InstallError> {
        create_parent(&self.lock)?;
        let lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.lock)
            .map_err(file("open", &self.lock))?;
        let mut reported = false;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::Error(source)) => return Err(file("lock", &self.lock)(source)),
                Err(TryLockError::WouldBlock) => {
                    if !reported {
                        progress.print(&format!("Waiting for another process to install {}", self.name));
                        reported = true;
                    }
                    tokio::time::sleep(LOCK_INTERVAL).await;
                }
            }
        }
    }
}

/// Creates the parent directory of a file.
fn create_parent(path: &Path) -> Result<&Path, InstallError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(file("create", folder))?;
    Ok(folder)
}
