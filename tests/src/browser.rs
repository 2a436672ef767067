//! A headless Chromium, driven by the Chrome DevTools Protocol over its debugging pipe.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::wait::eventually;

/// Names of the browser on the search path.
const NAMES: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome-stable",
    "google-chrome",
];
/// Connects the debugging pipe, file descriptors 3 and 4, to the standard input and output that the test holds.
const WITH_PIPE: &str = r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null"#;
/// How long a step may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A browser with one page. It ends when it is dropped.
pub struct Browser {
    _child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    _profile: TempDir,
    session: Option<String>,
    calls: u64,
    /// What the page reported: uncaught errors, and violations of its content security policy.
    pub problems: Vec<String>,
}

impl Browser {
    /// Finds Chromium: `$PRECIS_CHROMIUM`, or on the search path. Without one, says so on standard error, also where
    /// the test runner hides the output of tests that pass.
    pub fn find(test: &str) -> Option<PathBuf> {
        let given = std::env::var_os("PRECIS_CHROMIUM").map(PathBuf::from);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = given
            .into_iter()
            .chain(std::env::split_paths(&path).flat_map(|folder| NAMES.map(|name| folder.join(name))));
        let browser = found.into_iter().find(|candidate| candidate.is_file());
        if browser.is_none() {
            // Not `eprintln!`, which the test runner captures.
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED {test}: no Chromium was found, so nothing was tested; install Debian's package `chromium`, \
                 or set PRECIS_CHROMIUM"
            );
        }
        browser
    }

    /// Starts the browser with an empty page.
    pub async fn start(program: PathBuf) -> Self {
        let profile = tempfile::tempdir().expect("a temporary folder");
        let log = File::create(profile.path().join("log")).expect("a file in it");
        let mut child = Command::new("sh")
            .args(["-c", WITH_PIPE])
            .arg(program)
            .args([
                "--headless=new",
                "--remote-debugging-pipe",
                "--no-first-run",
                "--disable-gpu",
            ])
            // Tests may run as root, for whom Chromium has no sandbox.
            .args(["--no-sandbox", "--disable-dev-shm-usage"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("a shell");
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let mut browser = Self {
            _child: child,
            input: input.expect("it is piped"),
            output: BufReader::new(output.expect("it is piped")),
            _profile: profile,
            session: None,
            calls: 0,
            problems: Vec::new(),
        };
        let target = browser
            .call("Target.createTarget", json!({"url": "about:blank"}))
            .await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", attach).await;
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            browser.call(domain, json!({})).await;
        }
        browser
    }

    /// Calls a method of the protocol.
    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        let mut message = json!({"id": id, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.input.write_all(&bytes).await.expect("the browser runs");
        tokio::time::timeout(PATIENCE, self.answer(id))
            .await
            .unwrap_or_else(|_| panic!("the browser does not answer {method}"))
    }

    /// Reads messages until the answer to a call.
    async fn answer(&mut self, id: u64) -> Value {
        loop {
            let mut bytes = Vec::new();
            self.output
                .read_until(0, &mut bytes)
                .await
                .expect("the browser runs");
            assert!(!bytes.is_empty(), "the browser has ended");
            bytes.pop();
            let message: Value = serde_json::from_slice(&bytes).expect("JSON");
            let params = &message["params"];
            match message["method"].as_str() {
                Some("Runtime.exceptionThrown") => self.problems.push(params["exceptionDetails"].to_string()),
                Some("Log.entryAdded") if params["entry"]["level"] == "error" => {
                    self.problems.push(params["entry"].to_string());
                }
                _ => {}
            }
            if message["id"] == id {
                assert!(message.get("error").is_none(), "{message}");
                return message["result"].clone();
            }
        }
    }

    /// Shows an address.
    pub async fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({"url": url})).await;
    }

    /// Runs a script in the page and returns its value.
    pub async fn run(&mut self, script: &str) -> Value {
        let params = json!({"expression": script, "awaitPromise": true, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", params).await;
        assert!(answer.get("exceptionDetails").is_none(), "{script}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until a script's value is true.
    pub async fn until(&mut self, script: &str) {
        let browser = tokio::sync::Mutex::new(self);
        eventually(PATIENCE, script, async || {
            let value = browser.lock().await.run(&format!("!!({script})")).await;
            (value == true).then_some(())
        })
        .await;
    }
}
