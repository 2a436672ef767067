//! The lock on a data directory: one instance per directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use anyhow::{Context as _, bail};

/// A lock on a data directory. The operating system releases it when the process ends, even by a crash.
pub(super) struct InstanceLock {
    _file: File,
}

impl InstanceLock {
    /// Locks the directory, creating it if it is missing.
    ///
    /// # Errors
    /// If another instance holds the lock, or the directory can't be written.
    pub(super) fn acquire(data_dir: &Path) -> anyhow::Result<Self> {
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
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                // The process id only helps the reader: an unreadable one is no error.
                let _ = file.read_to_string(&mut owner);
                bail!(
                    "the data directory {shown} is used by another instance (process {}); stop it, or choose another directory with --data-dir",
                    owner.trim()
                );
            }
            Err(TryLockError::Error(error)) => return Err(error).context(path.display().to_string()),
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_instance_gets_an_error_with_the_first_ones_process_id() {
        let dir = tempfile::tempdir().unwrap();
        let first = InstanceLock::acquire(dir.path()).unwrap();
        let error = InstanceLock::acquire(dir.path()).err().unwrap().to_string();
        assert!(
            error.contains(&std::process::id().to_string()) && error.contains("--data-dir"),
            "{error}"
        );
        drop(first);
        assert!(InstanceLock::acquire(dir.path()).is_ok());
    }
}
