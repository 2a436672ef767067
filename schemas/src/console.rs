//! The libraries of the gateway's console: where they come from, and their files' names and checksums.
//!
//! They are not part of this repository. `precis up` and `precis install` download them from npm's registry into one
//! folder, from which the gateway serves them.

/// The folder of the files in the local directory.
pub const FOLDER: &str = "console";

/// A file that the console's page loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Library {
    /// Name in messages.
    pub name: &'static str,
    /// Path of the file in the local directory. It holds the version, so a browser may keep the file for ever.
    pub path: &'static str,
    /// The npm package with its exact version.
    pub package: &'static str,
    /// SHA-256 of the package's archive.
    pub archive_sha256: &'static str,
    /// Name of the file in the archive.
    pub member: &'static str,
    /// SHA-256 of the file.
    pub sha256: &'static str,
}

const PREACT: &str = "preact@10.29.8";
const PREACT_ARCHIVE: &str = "b18cb0a457f3d43c7bb30391a74ade7d13e03bc6e77915e061c70c0fe1123299";
const UPLOT: &str = "uplot@1.6.32";
const UPLOT_ARCHIVE: &str = "4b8a8191e425658e3ea8c8c1314b0fc679c861ee3a1af2b20c7b16ba50b5133d";

impl Library {
    /// Name of the file, as in the page.
    pub fn file(&self) -> &'static str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }

    /// Version of the package.
    pub fn version(&self) -> &'static str {
        self.package.rsplit('@').next().unwrap_or_default()
    }
}

/// All files.
pub const LIBRARIES: [Library; 5] = [
    Library {
        name: "Preact",
        path: "console/preact-10.29.8.js",
        package: PREACT,
        archive_sha256: PREACT_ARCHIVE,
        member: "package/dist/preact.umd.js",
        sha256: "134b77bc803fa38661dc1b1e44e96eb0bb6a1a00edbb96d34dcde421b2e80b06",
    },
    Library {
        name: "Preact's hooks",
        path: "console/preact-hooks-10.29.8.js",
        package: PREACT,
        archive_sha256: PREACT_ARCHIVE,
        member: "package/hooks/dist/hooks.umd.js",
        sha256: "5c29238e5dc99df306d7f7fff038591a397cfcfabb59f81fbdef43d670aa0566",
    },
    Library {
        name: "htm",
        path: "console/htm-3.1.1.js",
        package: "htm@3.1.1",
        archive_sha256: "2425b9bee11409177bcabc7f32e319926fc6690c1701c0b257c88bdff2d5ba90",
        member: "package/dist/htm.umd.js",
        sha256: "7a31776e04bd4afde0d4308177d26f377716fcf7e4bd70be590746d6aa594f08",
    },
    Library {
        name: "uPlot",
        path: "console/uplot-1.6.32.js",
        package: UPLOT,
        archive_sha256: UPLOT_ARCHIVE,
        member: "package/dist/uPlot.iife.min.js",
        sha256: "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    },
    Library {
        name: "uPlot's stylesheet",
        path: "console/uplot-1.6.32.css",
        package: UPLOT,
        archive_sha256: UPLOT_ARCHIVE,
        member: "package/dist/uPlot.min.css",
        sha256: "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    },
];
