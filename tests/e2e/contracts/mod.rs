//! The services that Precis replaces: captured requests are replayed, and the answers compared.

mod lambda;
mod mlflow;
mod sagemaker;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// Returns the folder with the captures.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contracts")
}

fn captured(file: &str) -> Value {
    let text = std::fs::read_to_string(folder().join(file)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Returns a body as it was on the wire: text unchanged, everything else as JSON.
fn bytes_of(body: &Value) -> Vec<u8> {
    match body {
        Value::Null => Vec::new(),
        Value::String(text) => text.clone().into_bytes(),
        other => serde_json::to_vec(other).unwrap(),
    }
}

/// Returns a Python interpreter with the pinned packages, in an environment that is created once.
pub(crate) fn python() -> PathBuf {
    // Two concurrent tests must not create it twice.
    static MAKING: Mutex<()> = Mutex::new(());
    let _alone = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let requirements = folder().join("requirements.txt");
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("contracts-venv");
    let python = venv.join("bin/python");
    let (stamp, wanted) = (venv.join("installed.txt"), std::fs::read(&requirements).unwrap());
    if std::fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return python;
    }
    let run = |program: &Path, arguments: &[&OsStr]| {
        let done = Command::new(program).args(arguments).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    run(
        "python3".as_ref(),
        &[
            "-m".as_ref(),
            "venv".as_ref(),
            "--clear".as_ref(),
            venv.as_os_str(),
        ],
    );
    let install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "-r",
    ];
    let mut arguments: Vec<&OsStr> = install.iter().map(AsRef::as_ref).collect();
    arguments.push(requirements.as_os_str());
    run(&python, &arguments);
    std::fs::write(&stamp, wanted).unwrap();
    python
}
