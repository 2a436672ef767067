//! The programs of the guide "Publish from your language", with the real clients.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use precis_tests::{Product, samples};

use crate::shared;

const GUIDE: &str = include_str!("../../docs/guide/publish-from-your-language.md");

/// Returns the programs in the guide by the name in their first line.
fn programs(language: &str, comment: &str) -> HashMap<String, String> {
    let start = format!("```{language}\n");
    let blocks = GUIDE
        .split(&start)
        .skip(1)
        .filter_map(|rest| rest.split_once("```"));
    let named = blocks.filter_map(|(block, _)| {
        let name = block.strip_prefix(comment)?.split([' ', ':', '\n']).next()?;
        Some((name.to_owned(), block.to_owned()))
    });
    named.collect()
}

/// Runs a program of a folder and returns what it prints.
fn run(interpreter: &Path, dir: &Path, nats: &str, arguments: &[&str], input: &str) -> String {
    let mut command = Command::new(interpreter);
    command.args(arguments).current_dir(dir).env("NATS_URL", nats);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the URL of NATS for one of its users, with the generated password if there is one.
fn url(product: &Product, user: &str) -> String {
    let generated = product.data().join(format!("credentials/nats-{user}.url"));
    match std::fs::read_to_string(generated) {
        Ok(url) => url.trim().to_owned(),
        Err(_) => product.nats.clone(),
    }
}

/// Runs all programs of a language. `extension` is that of their files.
async fn all(
    product: &Product,
    interpreter: PathBuf,
    dir: PathBuf,
    programs: HashMap<String, String>,
    extension: &str,
) {
    for (name, program) in &programs {
        assert!(program.lines().count() <= 25, "{name} is short");
        std::fs::write(dir.join(name), program).unwrap();
    }
    let (publisher, operator) = (url(product, "publisher"), url(product, "operator"));
    let extension = extension.to_owned();
    // A message that is no job becomes a dead letter.
    product
        .publish("jobs.v1.default.normal.summarize.public", "no job")
        .await;
    let sequence = product.last_dead_letter().await;
    product.dead_letter(sequence.saturating_sub(1), |_| true).await;
    let work = tokio::task::spawn_blocking(move || {
        let program = |name: &str| format!("{name}.{extension}");
        let text = samples::get("tramway-fare-free").article;
        let printed = run(&interpreter, &dir, &publisher, &[&program("publish")], &text);
        let (id, sequence) = printed.trim().split_once(' ').unwrap();
        assert!(sequence.parse::<u64>().is_ok(), "{printed}");
        let summary = run(&interpreter, &dir, &publisher, &[&program("wait"), id], "");
        assert!(
            summary.trim().len() > 10 && !summary.contains("failed"),
            "{summary}"
        );
        // It has ended, so no worker can stop it.
        let cancelled = run(
            &interpreter,
            &dir,
            &publisher,
            &[&program("cancel"), id, sequence],
            "",
        );
        assert!(cancelled.contains("no worker has it"), "{cancelled}");
        let letter = run(&interpreter, &dir, &operator, &[&program("dead")], "");
        assert!(letter.contains("jobs.v1."), "{letter}");
    });
    work.await.unwrap();
}

#[tokio::test]
async fn the_python_programs_of_the_guide_work() {
    let product = shared().await;
    let dir = product.dir().join("python");
    std::fs::create_dir_all(&dir).unwrap();
    let programs = programs("python", "# ");
    assert_eq!(programs.len(), 4);
    all(product, crate::contracts::python(), dir, programs, "py").await;
}

#[tokio::test]
async fn the_javascript_programs_of_the_guide_work() {
    if !Command::new("npm")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
    {
        eprintln!("skipped: there is no npm");
        return;
    }
    let product = shared().await;
    let dir = product.dir().join("javascript");
    std::fs::create_dir_all(&dir).unwrap();
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("languages/package.json");
    std::fs::copy(package, dir.join("package.json")).unwrap();
    let mut install = Command::new("npm");
    install.args([
        "install",
        "--silent",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--no-package-lock",
    ]);
    let installed = install.current_dir(&dir).output().unwrap();
    assert!(
        installed.status.success(),
        "{}",
        String::from_utf8_lossy(&installed.stderr)
    );
    let programs = programs("js", "// ");
    assert_eq!(programs.len(), 5);
    all(product, "node".into(), dir, programs, "mjs").await;
}

#[tokio::test]
async fn the_python_client_works() {
    let product = shared().await;
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients/python");
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("client-venv");
    let (api, nats) = (product.api.clone(), url(product, "publisher"));
    let work = tokio::task::spawn_blocking(move || {
        let python = venv.join("bin/python");
        let done = |program: &Path, arguments: &[&str]| {
            let mut command = Command::new(program);
            command.args(arguments).current_dir(&client);
            command
                .env("PRECIS_URL", &api)
                .env("NATS_URL", &nats)
                .env("PYTHONDONTWRITEBYTECODE", "1");
            let output = command.output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{arguments:?}: {text}");
        };
        if !python.exists() {
            done("python3".as_ref(), &["-m", "venv", venv.to_str().unwrap()]);
        }
        // Builds a wheel of the client as it is now, and installs it.
        done(
            &python,
            &[
                "-m",
                "pip",
                "install",
                "--quiet",
                "--force-reinstall",
                "--no-deps",
                ".",
            ],
        );
        done(
            &python,
            &["-m", "pip", "install", "--quiet", ".[nats,pandas,test]"],
        );
        done(&python, &["generate.py", "--check"]);
        done(&python, &["-m", "mypy", "--cache-dir=/dev/null"]);
        done(&python, &["-m", "pytest", "--quiet", "-p", "no:cacheprovider"]);
    });
    work.await.unwrap();
}
