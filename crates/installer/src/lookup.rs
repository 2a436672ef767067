//! Finds programs on the search path.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::pins::MIN_NATS_SERVER_VERSION;

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

/// Runs `nats-server --version` and returns the version.
pub(crate) async fn nats_version(program: &Path) -> Option<(u32, u32, u32)> {
    let output = tokio::process::Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(VERSION_TIMEOUT, output).await.ok()?.ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

/// Parses output such as `nats-server: v2.15.1`.
fn parse_version(text: &str) -> Option<(u32, u32, u32)> {
    let (_, version) = text.trim().rsplit_once(['v', ' '])?;
    let mut numbers = version.split(['.', '-', '+']);
    let mut next = || numbers.next()?.parse().ok();
    Some((next()?, next()?, next().unwrap_or(0)))
}

/// Returns whether a nats-server of this version has all features that Precis uses.
pub(crate) fn is_recent_enough(version: (u32, u32, u32)) -> bool {
    (version.0, version.1) >= MIN_NATS_SERVER_VERSION
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_parsed_and_compared() {
        assert_eq!(parse_version("nats-server: v2.15.1\n"), Some((2, 15, 1)));
        assert_eq!(parse_version("nats-server: v2.12.0-RC.1"), Some((2, 12, 0)));
        assert_eq!(parse_version("nats-server 2.9"), Some((2, 9, 0)));
        assert_eq!(parse_version("something else"), None);
        assert_eq!(parse_version(""), None);
        assert!(is_recent_enough((2, 11, 0)) && is_recent_enough((3, 0, 0)));
        assert!(!is_recent_enough((2, 10, 29)) && !is_recent_enough((1, 99, 0)));
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
