//! A process of a test: its output is kept, and it never outlives the test.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A running `precis` of some kind.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` with `arguments`; both outputs go to `<dir>/<name>.log`. The process stops when
    /// this one is gone (`--stop-with-parent` is among the arguments of whoever calls this).
    pub fn start(program: &Path, arguments: &[String], dir: &Path, name: &str) -> Self {
        let log = dir.join(format!("{name}.log"));
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("the log can be opened");
        let child = Command::new(program)
            .args(arguments)
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(output.try_clone().expect("the log can be opened twice"))
            .stderr(output)
            .spawn()
            .expect("the program can be started");
        Self { child, log }
    }

    /// What the process has written.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .expect("a process has an id");
        // It may have ended by itself.
        let _already_gone = kill_process(pid, signal);
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
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ends `precis up` and, through their standard input, everything that it started.
        let _already_gone = self.child.kill();
        let _already_waited_for = self.child.wait();
    }
}
