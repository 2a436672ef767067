//! Where artefacts are kept: the user's cache by checksum, and the local folder they are used from.
//!
//! A file appears under its final name only by a rename, after its checksum was right, so a process
//! that is killed at any point leaves nothing but scratch files, and the next one removes those.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use tempfile::TempDir;

use crate::archive;
use crate::error::{InstallError, file};
use crate::pins::Artefact;
use crate::progress::Progress;

/// How often a process that waits for another looks again.
const LOCK_INTERVAL: Duration = Duration::from_millis(200);

/// The places of one artefact.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    name: &'static str,
    sha256: &'static str,
    /// Where it is used from.
    pub(crate) local: PathBuf,
    stamp: PathBuf,
    /// Where it is kept for every project of the user.
    pub(crate) cached: PathBuf,
    lock: PathBuf,
    scratch: PathBuf,
}

impl Places {
    /// The places of an artefact below the local folder and the cache.
    pub(crate) fn of(artefact: &Artefact, local_dir: &Path, cache_dir: &Path) -> Self {
        let file_name = Path::new(artefact.path).file_name().unwrap_or_default();
        Self {
            name: artefact.name,
            sha256: artefact.sha256,
            local: local_dir.join(artefact.path),
            stamp: local_dir.join("stamp").join(file_name),
            cached: cache_dir.join("sha256").join(artefact.sha256),
            lock: cache_dir.join("lock").join(artefact.sha256),
            scratch: cache_dir.join("tmp").join(artefact.sha256),
        }
    }

    /// Whether the local file is the pinned one. Its checksum is computed only when the file has
    /// changed since it was last found right.
    pub(crate) fn is_installed(&self) -> bool {
        let Some(now) = self.stamp_now() else { return false };
        if fs::read_to_string(&self.stamp).is_ok_and(|stamp| stamp == now) {
            return true;
        }
        let right = archive::sha256_of(&self.local).is_ok_and(|sum| sum == self.sha256);
        if right {
            // Without a stamp the checksum is computed again next time: slower, not wrong.
            let _ = self.write_stamp();
        }
        right
    }

    /// What the stamp of the local file must say: the pin, and the file's size and time.
    fn stamp_now(&self) -> Option<String> {
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
        let Some(stamp) = self.stamp_now() else {
            return Ok(());
        };
        let folder = make_parent(&self.stamp)?;
        let mut temporary = tempfile::NamedTempFile::new_in(folder).map_err(file("write in", folder))?;
        temporary
            .write_all(stamp.as_bytes())
            .map_err(file("write", temporary.path()))?;
        temporary
            .persist(&self.stamp)
            .map_err(|error| file("write", &self.stamp)(error.error))?;
        Ok(())
    }

    /// Whether the cache has the file. One that is damaged is removed.
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

    /// A folder for downloads, empty, next to the cache. What earlier processes have left goes, as far
    /// as it can: a killed process may have left a child that still writes. Only for the holder of the
    /// lock.
    pub(crate) fn fresh_scratch(&self) -> Result<TempDir, InstallError> {
        let _ = fs::remove_dir_all(&self.scratch);
        fs::create_dir_all(&self.scratch).map_err(file("create", &self.scratch))?;
        tempfile::tempdir_in(&self.scratch).map_err(file("create a folder in", &self.scratch))
    }

    /// Puts a file whose checksum was right into the cache.
    pub(crate) fn keep(&self, fetched: &Path) -> Result<(), InstallError> {
        use std::os::unix::fs::PermissionsExt;
        // Never written again: the local file is often the same file, by a hard link.
        fs::set_permissions(fetched, fs::Permissions::from_mode(0o555)).map_err(file("protect", fetched))?;
        make_parent(&self.cached)?;
        fs::rename(fetched, &self.cached).map_err(file("write", &self.cached))
    }

    /// Puts the cached file in its local place: by a hard link, or a copy where none can be made.
    pub(crate) fn place(&self) -> Result<(), InstallError> {
        let folder = make_parent(&self.local)?;
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

    /// Removes what a killed process may have left beside the local file.
    fn remove_leftovers(&self, folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(".installing-") {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Waits until no other process installs this artefact.
    pub(crate) async fn lock(&self, progress: &Progress) -> Result<File, InstallError> {
        make_parent(&self.lock)?;
        let lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.lock)
            .map_err(file("open", &self.lock))?;
        let mut told = false;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::Error(source)) => return Err(file("lock", &self.lock)(source)),
                Err(TryLockError::WouldBlock) => {
                    if !told {
                        progress.say(&format!(
                            "Waiting for another process that installs the {}",
                            self.name
                        ));
                        told = true;
                    }
                    tokio::time::sleep(LOCK_INTERVAL).await;
                }
            }
        }
    }
}

/// Makes the folder of a file.
fn make_parent(path: &Path) -> Result<&Path, InstallError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(file("create", folder))?;
    Ok(folder)
}
