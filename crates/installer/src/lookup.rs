//! Finds programs on the search path.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// Maximum run time of `nats-server --version`.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns the first executable named `name` on the search path.
pub(crate) fn find(name: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    std::env::split_paths(path?)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|candidate| is_executable(candidate))
}

/// Returns whether a path is an executable file.
pub(crate) fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Runs `nats-server --version` and returns the version as the program writes it.
pub(crate) async fn nats_version(program: &Path) -> Option<String> {
    let output = tokio::process::Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(VERSION_TIMEOUT, output).await.ok()?.ok()?;
    version_in(&String::from_utf8_lossy(&output.stdout)).map(str::to_owned)
}

/// Returns the version in output such as `nats-server: v2.15.1`.
fn version_in(text: &str) -> Option<&str> {
    text.trim().rsplit_once(['v', ' ']).map(|(_, version)| version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_last_word() {
        assert_eq!(version_in("nats-server: v2.15.1\n"), Some("2.15.1"));
        assert_eq!(version_in("nats-server: v2.12.0-RC.1"), Some("2.12.0-RC.1"));
        assert_eq!(version_in("nats-server 2.9"), Some("2.9"));
        assert_eq!(version_in(""), None);
    }

    #[test]
    fn only_executables_in_absolute_directories_are_found() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("tool");
        std::fs::write(&program, "").unwrap();
        let path = std::env::join_paths([Path::new("relative"), folder.path()]).unwrap();
        assert_eq!(find("tool", Some(&path)), None);
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find("tool", Some(&path)), Some(program));
        assert_eq!(find("tool", None), None);
    }
}
