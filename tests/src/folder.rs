//! Data folders of products.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::processes;

const SHARED: &str = "e2e-shared-";

/// A folder that is removed when its owner drops it.
pub(crate) fn temporary() -> TempDir {
    tempfile::Builder::new()
        .prefix("precis-e2e-")
        .tempdir()
        .expect("a temporary folder")
}

/// A folder in `parent` for a product that lives as long as this process. Nothing removes it at the end, so the next
/// call removes folders of dead processes.
pub(crate) fn shared(parent: &Path) -> TempDir {
    fs::create_dir_all(parent).expect("the build folder can be written");
    for left in left_behind(parent) {
        // Another test process may remove it at the same time.
        let _already_gone = fs::remove_dir_all(left);
    }
    tempfile::Builder::new()
        .prefix(&format!("{SHARED}{}-", std::process::id()))
        .tempdir_in(parent)
        .expect("a folder in the build folder")
}

/// Returns folders of dead processes that nothing uses.
fn left_behind(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).expect("the folder can be read").flatten();
    entries
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let owner = name
                .strip_prefix(SHARED)
                .and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
            owner.is_some_and(|id| !Path::new("/proc").join(id.to_string()).exists())
        })
        .map(|entry| entry.path())
        .filter(|path| processes::mentioning(path).is_empty())
        .collect()
}
