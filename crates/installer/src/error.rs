//! Errors of the installer. Each says how to fix it.

use std::io;
use std::path::{Path, PathBuf};

/// A server could neither be found nor installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// A configured path can't be used.
    #[error("the configured {what} {} doesn't exist or isn't executable; correct the path, or remove the setting to install one", path.display())]
    Configured {
        /// The server.
        what: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// Another user could replace an installed file after its checksum was verified.
    #[error(
        "{} belongs to another user, or others can write it, so it is not run; delete it, or choose another directory with \
         `standalone.local_dir`",
        path.display()
    )]
    Untrusted {
        /// The file or directory.
        path: PathBuf,
    },
    /// No artifact is pinned for this platform.
    #[error("no {what} is available for {platform}; install one and set `{setting}`")]
    UnsupportedPlatform {
        /// The artifact.
        what: &'static str,
        /// The platform.
        platform: String,
        /// The setting for an installed server.
        setting: &'static str,
    },
    /// The package manager is missing.
    #[error(
        "{tool} is needed to download the {what} and was not found; install {package}, or install the {what} and set `{setting}`"
    )]
    ToolMissing {
        /// The package manager.
        tool: &'static str,
        /// The software that provides it.
        package: &'static str,
        /// The artifact.
        what: &'static str,
        /// The setting for an installed server.
        setting: &'static str,
    },
    /// The artifact is missing and downloads are disabled.
    #[error(
        "the {what} is not installed, and offline mode forbids the download; start once without offline mode, or set `{setting}`"
    )]
    Offline {
        /// The artifact.
        what: &'static str,
        /// The setting for an installed server.
        setting: &'static str,
    },
    /// The package manager failed.
    #[error(
        "downloading the {what} with {tool} failed; check the network and {tool}'s proxy and index settings, then try again. Output of {tool}:\n{output}"
    )]
    Fetch {
        /// The artifact.
        what: &'static str,
        /// The package manager.
        tool: &'static str,
        /// The last lines of its output.
        output: String,
    },
    /// The download has the wrong checksum.
    #[error(
        "the downloaded {what} has the wrong checksum (sha256 {found} instead of {expected}) and was not installed; try again, and if the error persists, check which package index is configured"
    )]
    Checksum {
        /// The artifact.
        what: &'static str,
        /// The pinned checksum.
        expected: String,
        /// The checksum of the download.
        found: String,
    },
    /// An archive is damaged or lacks the file.
    #[error("the archive of the {what} can't be read: {reason}; try again")]
    Archive {
        /// The artifact.
        what: &'static str,
        /// The problem.
        reason: String,
    },
    /// The disk is full.
    #[error("the disk of {} is full: installing the {what} needs about {} MB; free some space, or set PRECIS_CACHE_DIR to a directory on another disk", path.display(), needs / 1_000_000)]
    DiskFull {
        /// The artifact.
        what: &'static str,
        /// The cache directory.
        path: PathBuf,
        /// Approximate bytes that the installation needs.
        needs: u64,
    },
    /// Another file operation failed.
    #[error("can't {action} {}: {source}", path.display())]
    File {
        /// The operation.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A background task was aborted, for example on shutdown.
    #[error("the installation was interrupted")]
    Interrupted,
}

/// Wraps an I/O error with the operation and the file.
pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    let path = path.to_owned();
    move |source| InstallError::File { action, path, source }
}

impl InstallError {
    /// Converts an error caused by a full disk to [`InstallError::DiskFull`].
    pub(crate) fn or_disk_full(self, what: &'static str, at: &Path, needs: u64) -> Self {
        match &self {
            Self::File { source, .. }
                if matches!(
                    source.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                ) =>
            {
                Self::DiskFull {
                    what,
                    path: at.to_owned(),
                    needs,
                }
            }
            Self::Fetch { output, .. }
                if ["No space left", "ENOSPC", "Disk quota exceeded"]
                    .iter()
                    .any(|text| output.contains(text)) =>
            {
                Self::DiskFull {
                    what,
                    path: at.to_owned(),
                    needs,
                }
            }
            _ => self,
        }
    }
}
