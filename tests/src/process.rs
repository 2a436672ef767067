//! A process that a test starts. Its output is captured, and it never outlives the test.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tokio::time::Instant;

use rustix::process::Signal;

use crate::processes;

/// A running `precis` command.
pub struct Process {
    child: Child,
    log: PathBuf,
    printed: PathBuf,
}

fn append(file: &Path) -> File {
    File::options()
        .create(true)
        .append(true)
        .open(file)
        .expect("the log can be opened")
}

impl Process {
    /// Starts `program` with `arguments`. Writes its standard error to `<dir>/<name>.log` and its standard output to
    /// `<dir>/<name>.out`. Callers pass `--stop-with-parent`, so the process stops when this value is dropped.
    pub fn start(program: &Path, arguments: &[String], dir: &Path, name: &str) -> Self {
        Self::start_with(program, arguments, &[], dir, name)
    }

    /// Like [`Process::start`], with environment variables.
    pub fn start_with(
        program: &Path,
        arguments: &[String],
        environment: &[(&str, &str)],
        dir: &Path,
        name: &str,
    ) -> Self {
        let log = dir.join(format!("{name}.log"));
        let printed = dir.join(format!("{name}.out"));
        let child = Command::new(program)
            .args(arguments)
            .envs(environment.iter().copied())
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(append(&printed))
            .stderr(append(&log))
            .spawn()
            .expect("the program can be started");
        Self { child, log, printed }
    }

    /// Returns the standard output so far.
    pub fn printed(&self) -> String {
        fs::read_to_string(&self.printed).unwrap_or_default()
    }

    /// Returns standard error, then standard output.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default() + &self.printed()
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.expect("its memory is known") * 1_024
    }

    /// Returns whether the process has ended.
    pub fn has_exited(&mut self) -> bool {
        self.child.try_wait().expect("it can be waited for").is_some()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        processes::send(self.child.id(), signal);
    }

    /// Kills it with SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it can be waited for");
    }

    /// Waits for the exit. Panics with the output after `patience`.
    pub async fn ended(&mut self, patience: Duration) -> ExitStatus {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "still running after {patience:?}:\n{}",
                self.output()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Sends SIGINT, like Ctrl-C, and waits for the exit.
    pub async fn interrupt(mut self) -> ExitStatus {
        self.signal(Signal::INT);
        self.ended(Duration::from_secs(60)).await
    }

    /// Like [`Process::interrupt`] outside async code. Kills the process after `patience`.
    pub(crate) fn stop_within(mut self, patience: Duration) {
        self.signal(Signal::INT);
        let deadline = Instant::now() + patience;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            #[allow(clippy::disallowed_methods)] // called from `drop`, when a test has nothing else to do
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ends `precis up` and, through their standard input, all of its children.
        let _already_gone = self.child.kill();
        let _already_waited_for = self.child.wait();
    }
}
