//! Folders for the data of a product.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::processes;

const SHARED: &str = "e2e-shared-";

/// A folder for a product that ends with its owner, which removes it.
pub(crate) fn temporary() -> TempDir {
    tempfile::Builder::new()
        .prefix("precis-e2e-")
        .tempdir()
        .expect("a temporary folder")
}

/// A folder in `parent` for a product that lives as long as this process: nobody removes it then, so
/// the next one to ask does.
pub(crate) fn shared(parent: &Path) -> TempDir {
    fs::create_dir_all(parent).expect("the build folder can be written");
    for left in left_behind(parent) {
        // Another process of tests may be doing the same.
        let _already_gone = fs::remove_dir_all(left);
    }
    tempfile::Builder::new()
        .prefix(&format!("{SHARED}{}-", std::process::id()))
        .tempdir_in(parent)
        .expect("a folder in the build folder")
}

/// Folders of processes that are gone, and that nothing uses any more.
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
