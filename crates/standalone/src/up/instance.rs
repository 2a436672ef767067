//! One instance on one data folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use anyhow::{Context as _, bail};

/// Held as long as an instance uses the folder; the operating system lets go when the process ends,
/// however it ends.
pub(super) struct InstanceLock {
    _file: File,
}

impl InstanceLock {
    /// Takes the folder, which is created if it is missing.
    pub(super) fn take(data_dir: &Path) -> anyhow::Result<Self> {
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
                // Only to name the owner; without it the message is less helpful and as true.
                let _unreadable = file.read_to_string(&mut owner);
                bail!(
                    "the data in {shown} is used by another instance (process {}); stop it, or choose another folder with --data-dir",
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
    fn a_second_instance_on_the_same_data_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let first = InstanceLock::take(dir.path()).unwrap();
        let error = InstanceLock::take(dir.path()).err().unwrap().to_string();
        assert!(
            error.contains(&std::process::id().to_string()) && error.contains("--data-dir"),
            "{error}"
        );
        drop(first);
        assert!(InstanceLock::take(dir.path()).is_ok());
    }
}
