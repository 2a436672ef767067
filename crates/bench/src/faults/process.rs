//! A process of the testbed, which is restarted whenever it has ended, unless a fault keeps it down.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::processes;

/// How often an ended process is noticed.
const CHECK: Duration = Duration::from_millis(100);

/// How to start a process.
#[derive(Debug, Clone)]
pub(super) struct ProcessSpec {
    /// Its name, and that of its log.
    pub(super) name: String,
    /// Its arguments.
    pub(super) arguments: Vec<OsString>,
    /// The folder it runs in.
    pub(super) folder: PathBuf,
    /// The file that its time of day follows.
    pub(super) clock: PathBuf,
    /// Whether it is `precis guard`, whose child is the process that faults hit.
    pub(super) is_guard: bool,
}

impl ProcessSpec {
    fn spawn(&self) -> anyhow::Result<Child> {
        let log = self.folder.join(format!("{}.log", self.name));
        let log = File::options().create(true).append(true).open(log)?;
        let program = std::env::current_exe().context("finding the path of this program")?;
        Command::new(program)
            .args(&self.arguments)
            .current_dir(&self.folder)
            .env(precis_runtime::clock::JUMPS_ENV, &self.clock)
            // It stops when this pipe closes, even if this process is killed.
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", self.name))
    }
}

#[derive(Debug)]
struct State {
    child: Child,
    stdin: Option<tokio::process::ChildStdin>,
    /// The number of faults that keep it down.
    held: usize,
    restarts: u64,
}

/// A running process. It ends when this value is dropped.
#[derive(Debug)]
pub(super) struct Process {
    spec: ProcessSpec,
    state: Arc<Mutex<State>>,
    supervisor: JoinHandle<()>,
}

impl Process {
    /// Starts a process.
    pub(super) fn start(spec: ProcessSpec) -> anyhow::Result<Self> {
        let mut child = spec.spawn()?;
        let state = Arc::new(Mutex::new(State {
            // Waiting for the child would close the pipe.
            stdin: child.stdin.take(),
            child,
            held: 0,
            restarts: 0,
        }));
        let supervisor = tokio::spawn(supervise(spec.clone(), state.clone()));
        Ok(Self {
            spec,
            state,
            supervisor,
        })
    }

    /// Sends a signal to the process, if it runs.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
            // It may have ended by itself.
            let _gone = kill_process(pid, signal);
        }
    }

    /// Keeps the process down once it has ended, until [`release`](Self::release).
    pub(super) fn hold(&self) {
        self.state.lock().held += 1;
    }

    /// Ends a [`hold`](Self::hold).
    pub(super) fn release(&self) {
        let mut state = self.state.lock();
        state.held = state.held.saturating_sub(1);
    }

    /// Returns whether the process runs.
    pub(super) fn is_running(&self) -> bool {
        self.pid().is_some()
    }

    /// Returns how often the process was started again.
    pub(super) fn restarts(&self) -> u64 {
        self.state.lock().restarts
    }

    /// Returns the number of open files of the process.
    pub(super) fn open_files(&self) -> Option<usize> {
        let folder = format!("/proc/{}/fd", self.pid()?);
        Some(std::fs::read_dir(folder).ok()?.count())
    }

    /// Returns the log so far.
    pub(super) fn log(&self) -> String {
        let path = self.spec.folder.join(format!("{}.log", self.spec.name));
        std::fs::read_to_string(path).unwrap_or_default()
    }

    fn pid(&self) -> Option<u32> {
        let id = self.state.lock().child.id()?;
        match self.spec.is_guard {
            true => processes::child_of(id),
            false => Some(id),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.supervisor.abort();
        // A stopped process can't end.
        self.signal(Signal::CONT);
        if self.spec.is_guard {
            // It is killed with this value and can't end its child then.
            self.signal(Signal::KILL);
        }
        self.state.lock().stdin = None;
    }
}

async fn supervise(spec: ProcessSpec, state: Arc<Mutex<State>>) {
    loop {
        tokio::time::sleep(CHECK).await;
        let mut state = state.lock();
        if state.held > 0 || !matches!(state.child.try_wait(), Ok(Some(_))) {
            continue;
        }
        match spec.spawn() {
            Ok(mut child) => {
                state.stdin = child.stdin.take();
                state.child = child;
                state.restarts += 1;
            }
            Err(error) => tracing::error!(%error, "process not restarted; retrying"),
        }
    }
}

/// Writes how far a process' time of day is ahead, in seconds.
pub(super) fn set_clock(file: &Path, seconds: i64) -> anyhow::Result<()> {
    // Replaced in one step, so that no process reads half of it.
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, (seconds * 1_000).to_string())?;
    std::fs::rename(fresh, file).context("setting a clock")
}
