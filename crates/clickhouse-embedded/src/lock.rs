//! The lock on the data directory: the engine detects a second process too late.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::ServerError;

/// A lock on a data directory. The operating system releases it when the process ends, even by a crash.
#[derive(Debug)]
pub(crate) struct DataLock {
    _file: File,
}

impl DataLock {
    /// Locks the directory, creating it if it is missing.
    ///
    /// # Errors
    /// If another process holds the lock (the error names it), or the directory can't be written.
    pub(crate) fn acquire(data_dir: &Path) -> Result<Self, ServerError> {
        let failed = |source| ServerError::DataDir {
            path: data_dir.to_owned(),
            source,
        };
        create_private(data_dir).map_err(failed)?;
        let path: PathBuf = data_dir.join("precis.lock");
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(&path).unwrap_or_default();
                let holder = holder.trim();
                return Err(ServerError::Locked {
                    path: data_dir.to_owned(),
                    holder: if holder.is_empty() {
                        "another process".to_owned()
                    } else {
                        format!("process {holder}")
                    },
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(failed)?;
        Ok(Self { _file: file })
    }
}

/// Creates a directory that only its owner can access.
fn create_private(path: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_lock_names_the_holder() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("a/b");
        let first = DataLock::acquire(&data).unwrap();
        let second = DataLock::acquire(&data).unwrap_err().to_string();
        assert!(
            second.contains(&format!("process {}", std::process::id())),
            "{second}"
        );
        drop(first);
        DataLock::acquire(&data).unwrap();
    }

    #[test]
    fn directory_that_can_not_be_created_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(
            DataLock::acquire(&file.join("x")),
            Err(ServerError::DataDir { .. })
        ));
    }
}
