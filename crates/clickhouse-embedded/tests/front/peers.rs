//! ClickHouse's own clients for Python and Node.js, installed from their registries.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::harness::{PASSWORD, USER, address};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers")
}

/// Runs a command. Panics with its output if it fails.
fn run(command: &mut Command) -> String {
    let done = command
        .stdin(Stdio::null())
        .output()
        .expect("the program is installed");
    let text = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {text}");
    text.into_owned()
}

/// Creates a folder for installed packages once for each version of `manifest`.
fn installed(name: &str, manifest: &str, install: impl FnOnce(&Path)) -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let (stamp, wanted) = (
        home.join("installed"),
        std::fs::read(folder().join(manifest)).unwrap(),
    );
    if !std::fs::read(&stamp).is_ok_and(|found| found == wanted) {
        let _ = std::fs::remove_dir_all(&home);
        std::fs::create_dir_all(&home).unwrap();
        install(&home);
        std::fs::write(&stamp, wanted).unwrap();
    }
    home
}

#[tokio::test]
async fn clickhouse_connect_works_with_its_defaults() {
    let Some(address) = address().await else { return };
    let work = move || {
        let home = installed("peer-python", "requirements.txt", |home| {
            run(Command::new("python3").args(["-m", "venv"]).arg(home));
            let pip = ["-m", "pip", "install", "--quiet", "--no-deps", "-r"];
            run(Command::new(home.join("bin/python"))
                .args(pip)
                .arg(folder().join("requirements.txt")));
        });
        let mut client = Command::new(home.join("bin/python"));
        client
            .arg(folder().join("client.py"))
            .arg(address.ip().to_string());
        run(client.arg(address.port().to_string()).args([USER, PASSWORD]))
    };
    let printed = tokio::task::spawn_blocking(work).await.unwrap();
    assert!(printed.contains("clickhouse-connect works"), "{printed}");
}

#[tokio::test]
async fn the_client_for_node_works() {
    let Some(address) = address().await else { return };
    let work = move || {
        let home = installed("peer-node", "package.json", |home| {
            std::fs::copy(folder().join("package.json"), home.join("package.json")).unwrap();
            let install = [
                "install",
                "--silent",
                "--no-audit",
                "--no-fund",
                "--ignore-scripts",
            ];
            run(Command::new("npm").args(install).current_dir(home));
        });
        // Modules are looked up beside the script.
        let script = home.join("client.mjs");
        std::fs::copy(folder().join("client.mjs"), &script).unwrap();
        run(Command::new("node")
            .arg(script)
            .arg(format!("http://{address}"))
            .args([USER, PASSWORD]))
    };
    let printed = tokio::task::spawn_blocking(work).await.unwrap();
    assert!(printed.contains("@clickhouse/client works"), "{printed}");
}
