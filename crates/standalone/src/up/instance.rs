//! The lock on a data directory: one instance per directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, bail};

/// A lock on a data directory. The operating system releases it when the process ends, even by a crash.
///
/// The file holds the owner's process id and API address. An orderly stop empties it.
pub(super) struct InstanceLock {
    file: File,
    previous_was_killed: bool,
}

impl InstanceLock {
    /// Locks the directory, creating it if it is missing. `api` tells others where this instance serves its API.
    ///
    /// # Errors
    /// If another instance holds the lock, or the directory can't be written.
    pub(super) fn acquire(data_dir: &Path, api: SocketAddr) -> anyhow::Result<Self> {
        let shown = data_dir.display();
        std::fs::create_dir_all(data_dir).with_context(|| format!("standalone.data_dir {shown}"))?;
        let path = data_dir.join("precis.lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| path.display().to_string())?;
        let locked = file.try_lock();
        let mut owner = String::new();
        // The owner only helps the reader: an unreadable one is no error.
        let _ = file.read_to_string(&mut owner);
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!(
                    "the data directory {shown} is used by another instance ({}); use that one, stop it, or choose another \
                     directory with --data-dir",
                    owner.trim()
                );
            }
            Err(TryLockError::Error(error)) => return Err(error).context(path.display().to_string()),
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "process {}, API at http://{api}", std::process::id())?;
        Ok(Self {
            file,
            previous_was_killed: !owner.is_empty(),
        })
    }

    /// Returns whether the previous instance was killed. Its processes may still be about to end.
    pub(super) fn previous_was_killed(&self) -> bool {
        self.previous_was_killed
    }
}

impl Drop for InstanceLock {
    fn drop(&mut self) {
        // If this fails, the next instance only waits for ports that are free anyway.
        let _ = self.file.set_len(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_instance_gets_an_error_with_the_first_ones_process_id_and_address() {
        let dir = tempfile::tempdir().unwrap();
        let api: SocketAddr = "127.0.0.1:8000".parse().unwrap();
        let first = InstanceLock::acquire(dir.path(), api).unwrap();
        let error = InstanceLock::acquire(dir.path(), api).err().unwrap().to_string();
        for part in [
            &std::process::id().to_string(),
            "http://127.0.0.1:8000",
            "--data-dir",
        ] {
            assert!(error.contains(part), "{error}");
        }
        drop(first);
        assert!(InstanceLock::acquire(dir.path(), api).is_ok());
    }

    #[test]
    fn a_killed_instance_is_told_from_a_stopped_one() {
        let dir = tempfile::tempdir().unwrap();
        let api: SocketAddr = "127.0.0.1:8000".parse().unwrap();
        let previous_was_killed =
            || InstanceLock::acquire(dir.path(), api).is_ok_and(|lock| lock.previous_was_killed());
        assert!(!previous_was_killed());
        assert!(!previous_was_killed());
        std::fs::write(dir.path().join("precis.lock"), "process 1\n").unwrap();
        assert!(previous_was_killed());
    }
}
