//! A process of a test: its output is kept, and it never outlives the test.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tokio::time::Instant;

use rustix::process::Signal;

use crate::processes;

/// A running `precis` of some kind.
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
    /// Starts `program` with `arguments`; its errors go to `<dir>/<name>.log`, what it prints to
    /// `<dir>/<name>.out`. The process stops when this one is gone (`--stop-with-parent` is among the
    /// arguments of whoever calls this).
    pub fn start(program: &Path, arguments: &[String], dir: &Path, name: &str) -> Self {
        Self::start_with(program, arguments, &[], dir, name)
    }

    /// As [`Process::start`], with these environment variables.
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

    /// What the process has printed on its standard output.
    pub fn printed(&self) -> String {
        fs::read_to_string(&self.printed).unwrap_or_default()
    }

    /// Everything that the process has written, errors first.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default() + &self.printed()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Memory that it has resident now, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.expect("its memory is known") * 1_024
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        processes::send(self.child.id(), signal);
    }

    /// Kills it without a word.
    pub fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it can be waited for");
    }

    /// Waits for its end; panics with its output when that takes longer than `patience`.
    pub async fn ended(&mut self, patience: Duration) -> ExitStatus {
        let give_up = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                return status;
            }
            assert!(
                Instant::now() < give_up,
                "still running after {patience:?}:\n{}",
                self.output()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Asks it to stop, as Ctrl-C does, and waits for its end.
    pub async fn interrupt(mut self) -> ExitStatus {
        self.signal(Signal::INT);
        self.ended(Duration::from_secs(60)).await
    }

    /// As [`Process::interrupt`] where nothing can be awaited; it is killed after `patience`.
    pub(crate) fn stop_within(mut self, patience: Duration) {
        self.signal(Signal::INT);
        let give_up = Instant::now() + patience;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < give_up {
            #[allow(clippy::disallowed_methods)] // called from `drop`, when a test has nothing else to do
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ends `precis up` and, through their standard input, everything that it started.
        let _already_gone = self.child.kill();
        let _already_waited_for = self.child.wait();
    }
}
