//! What can go wrong while a server is found or fetched, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why a server could neither be found nor installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// A path that was configured leads nowhere.
    #[error("the configured {what} {} doesn't exist or can't be run: correct the path, or remove it to have one installed", path.display())]
    Configured {
        /// What was configured.
        what: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// There is no pinned artefact for this kind of machine.
    #[error("there is no {what} to install for {platform}: install one yourself and set `{setting}`")]
    UnsupportedPlatform {
        /// What was to be installed.
        what: &'static str,
        /// The kind of machine.
        platform: String,
        /// The setting to use instead.
        setting: &'static str,
    },
    /// A program that fetches packages is missing.
    #[error(
        "{tool} is needed to fetch the {what}, and isn't there: install {package}, or install the {what} yourself and set `{setting}`"
    )]
    ToolMissing {
        /// The program.
        tool: &'static str,
        /// What usually brings it.
        package: &'static str,
        /// What was to be fetched.
        what: &'static str,
        /// The setting to use instead.
        setting: &'static str,
    },
    /// Nothing may be fetched.
    #[error(
        "the {what} isn't installed here and can't be fetched offline: start once with a network, or set `{setting}`"
    )]
    Offline {
        /// What is missing.
        what: &'static str,
        /// The setting to use instead.
        setting: &'static str,
    },
    /// The program that fetches packages failed.
    #[error(
        "fetching the {what} with {tool} failed: check the network (and {tool}'s proxy and index settings) and try again. It said:\n{said}"
    )]
    Fetch {
        /// What was fetched.
        what: &'static str,
        /// The program.
        tool: &'static str,
        /// The end of what it wrote.
        said: String,
    },
    /// What was fetched isn't what was asked for.
    #[error(
        "the {what} that was fetched isn't the one that is pinned (sha256 {found}, not {expected}): nothing was installed. Try again; if it stays so, the package index serves something else"
    )]
    Checksum {
        /// What was fetched.
        what: &'static str,
        /// The pinned checksum.
        expected: String,
        /// The checksum found.
        found: String,
    },
    /// An archive doesn't hold what it should.
    #[error("the archive of the {what} can't be read: {reason}. Try again")]
    Archive {
        /// What was fetched.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The disk is full.
    #[error("there is no room left on the disk of {}: the {what} needs about {} MB. Free some, or set PRECIS_CACHE_DIR to a folder on another disk", path.display(), needs / 1_000_000)]
    DiskFull {
        /// What was installed.
        what: &'static str,
        /// Where it was going.
        path: PathBuf,
        /// About how many bytes it takes while it is installed.
        needs: u64,
    },
    /// Some other trouble with a file.
    #[error("can't {action} {}: {source}", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Work in the background was stopped, as on shutdown.
    #[error("the installation was interrupted")]
    Interrupted,
}

/// Wraps an I/O error with what was being done to which file.
pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    let path = path.to_owned();
    move |source| InstallError::File { action, path, source }
}

impl InstallError {
    /// Turns "no space" into its own error.
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
            Self::Fetch { said, .. }
                if ["No space left", "ENOSPC", "Disk quota exceeded"]
                    .iter()
                    .any(|sign| said.contains(sign)) =>
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
