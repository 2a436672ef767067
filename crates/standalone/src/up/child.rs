//! One supervised process: started, restarted when it ends by itself, asked to stop, killed if it won't.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a process may take to stop before it is killed, besides the time that a worker drains.
const PATIENCE: Duration = Duration::from_secs(15);
/// A process that ends this often within [`WINDOW`] can't be kept running.
const MOST_RESTARTS: usize = 5;
const WINDOW: Duration = Duration::from_secs(120);
/// A log that has grown beyond this becomes `<name>.log.1`, and begins anew.
const MOST_LOG_BYTES: u64 = 16 << 20;
/// Time between two looks at its size.
const LOG_CHECK: Duration = Duration::from_secs(30);

/// How a process is started.
pub(super) struct ChildSpec {
    /// Name in messages, and of the log file.
    pub(super) name: String,
    program: OsString,
    arguments: Vec<OsString>,
    log: PathBuf,
    /// What the process needs besides its own time to stop.
    drain: Duration,
    /// Variables of its environment.
    environment: Vec<(String, OsString)>,
}

impl ChildSpec {
    /// A process that writes to `<log_dir>/<name>.log`.
    pub(super) fn new(name: &str, program: OsString, arguments: Vec<OsString>, log_dir: &Path) -> Self {
        Self {
            name: name.to_owned(),
            program,
            arguments,
            log: log_dir.join(format!("{name}.log")),
            drain: Duration::ZERO,
            environment: Vec::new(),
        }
    }

    /// The same, with time to drain.
    pub(super) fn draining_for(mut self, drain: Duration) -> Self {
        self.drain = drain;
        self
    }

    /// The same, with variables of its environment.
    pub(super) fn with_environment(mut self, environment: Vec<(String, OsString)>) -> Self {
        self.environment = environment;
        self
    }

    fn spawn(&self) -> io::Result<Process> {
        let mut child = self.command()?.spawn()?;
        // Waiting for a child closes its standard input, which would tell it to stop: it is kept apart.
        let lifeline = child.stdin.take();
        Ok(Process {
            child,
            _lifeline: lifeline,
        })
    }

    fn command(&self) -> io::Result<Command> {
        if let Some(folder) = self.log.parent() {
            fs::create_dir_all(folder)?;
        }
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            // The child stops when this end of the pipe is closed, be it because we were killed.
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A group of its own: Ctrl-C in the terminal reaches us alone, and we stop the rest in order.
            .process_group(0)
            // It is never killed with us: it stops by itself when this end of the pipe is gone.
            .kill_on_drop(false);
        Ok(command)
    }
}

/// A process, and the end of the pipe whose closing tells it that nobody supervises it any more.
struct Process {
    child: Child,
    _lifeline: Option<ChildStdin>,
}

/// A supervised process.
pub(super) struct Supervised {
    name: String,
    stop: CancellationToken,
    healthy: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Supervised {
    /// Starts the process. When it can't be kept running, the reason is sent to `failed`.
    ///
    /// # Errors
    /// When the program can't be started at all.
    pub(super) fn start(spec: ChildSpec, failed: mpsc::Sender<String>) -> io::Result<Self> {
        let process = spec.spawn()?;
        let name = spec.name.clone();
        let stop = CancellationToken::new();
        let healthy = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(supervise(spec, process, stop.clone(), healthy.clone(), failed));
        Ok(Self {
            name,
            stop,
            healthy,
            task,
        })
    }

    /// Whether this is one of the workers.
    pub(super) fn is_worker(&self) -> bool {
        self.name.starts_with("worker-")
    }

    /// From now on the process is restarted when it ends; before, its end is a failure to start.
    pub(super) fn is_healthy(&self) {
        self.healthy.store(true, Ordering::Release);
    }

    /// Asks the process to stop and waits until it has, or kills it.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "a supervisor failed");
        }
    }
}

async fn supervise(
    spec: ChildSpec,
    mut process: Process,
    stop: CancellationToken,
    healthy: Arc<AtomicBool>,
    failed: mpsc::Sender<String>,
) {
    let mut ends: Vec<Instant> = Vec::new();
    let mut look_at_log = tokio::time::interval(LOG_CHECK);
    loop {
        let status = tokio::select! {
            status = process.child.wait() => status,
            () = stop.cancelled() => return end(&spec, process).await,
            _ = look_at_log.tick() => {
                keep_small(&spec.log).await;
                continue;
            }
        };
        let how = describe(status);
        let now = Instant::now();
        ends.retain(|at| now.duration_since(*at) < WINDOW);
        ends.push(now);
        if !healthy.load(Ordering::Acquire) || ends.len() > MOST_RESTARTS {
            let _one_reason_is_enough = failed.try_send(format!("{} {how}\n{}", spec.name, tail(&spec.log)));
            return;
        }
        tracing::warn!(process = %spec.name, log = %spec.log.display(), "{how}; starting it again");
        let pause = Duration::from_millis(200) * (1 << ends.len().min(5));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        process = match spec.spawn() {
            Ok(process) => process,
            Err(error) => {
                let _one_reason_is_enough =
                    failed.try_send(format!("{} can't be started: {error}", spec.name));
                return;
            }
        };
    }
}

async fn end(spec: &ChildSpec, mut process: Process) {
    let name = &spec.name;
    if let Some(pid) = process
        .child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw)
    {
        // It may have ended by itself in this moment.
        let _already_gone = kill_process(pid, Signal::TERM);
    }
    match tokio::time::timeout(spec.drain + PATIENCE, process.child.wait()).await {
        Ok(Ok(status)) => tracing::debug!(process = %name, %status, "stopped"),
        Ok(Err(error)) => tracing::warn!(process = %name, %error, "waiting for its end failed"),
        Err(_) => {
            tracing::warn!(process = %name, "does not stop; killing it");
            if let Err(error) = process.child.kill().await {
                tracing::warn!(process = %name, %error, "could not be killed");
            }
        }
    }
}

/// Copies a log that has become large and empties it. The process appends, so it writes on in the empty file;
/// what it writes between the two steps is lost.
async fn keep_small(log: &Path) {
    let log = log.to_owned();
    let rotation = tokio::task::spawn_blocking(move || rotate(&log, MOST_LOG_BYTES)).await;
    if let Ok(Err(error)) = rotation {
        tracing::warn!(%error, "a log can't be rotated");
    }
}

fn rotate(log: &Path, most_bytes: u64) -> io::Result<()> {
    if fs::metadata(log)?.len() > most_bytes {
        fs::copy(log, log.with_extension("log.1"))?;
        OpenOptions::new().write(true).open(log)?.set_len(0)?;
    }
    Ok(())
}

fn describe(status: io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => format!("ended ({status})"),
        Err(error) => format!("is lost ({error})"),
    }
}

/// The last lines of a log, for a message.
fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().rev().take(8).collect();
    let lines: Vec<String> = lines.into_iter().rev().map(|line| format!("  {line}")).collect();
    format!("the end of {}:\n{}", log.display(), lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn shell(dir: &Path, script: &str) -> ChildSpec {
        ChildSpec::new("child", "/bin/sh".into(), vec!["-c".into(), script.into()], dir)
    }

    #[tokio::test]
    async fn a_process_that_fails_to_start_is_reported_with_the_end_of_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let (report, mut failures) = mpsc::channel(1);
        let child =
            Supervised::start(shell(dir.path(), "echo the port is taken >&2; exit 3"), report).unwrap();
        let reason = failures.recv().await.unwrap();
        assert!(
            reason.contains("exit status: 3") && reason.contains("the port is taken"),
            "{reason}"
        );
        child.stop().await;
    }

    #[tokio::test]
    async fn a_healthy_process_that_ends_is_started_again() {
        let dir = tempfile::tempdir().unwrap();
        let marks = dir.path().join("marks");
        let script = format!("echo x >> {}; exec sleep 0.1", marks.display());
        let (report, _failures) = mpsc::channel(1);
        let child = Supervised::start(shell(dir.path(), &script), report).unwrap();
        child.is_healthy();
        while fs::read_to_string(&marks).unwrap_or_default().lines().count() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        child.stop().await;
    }

    #[test]
    fn a_large_log_begins_anew_and_its_past_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("child.log");
        let mut writer = OpenOptions::new().create(true).append(true).open(&log).unwrap();
        writer.write_all(b"the past\n").unwrap();
        rotate(&log, 100).unwrap();
        assert_eq!(fs::read_to_string(&log).unwrap(), "the past\n");
        rotate(&log, 3).unwrap();
        writer.write_all(b"now\n").unwrap();
        assert_eq!(fs::read_to_string(&log).unwrap(), "now\n");
        assert_eq!(
            fs::read_to_string(dir.path().join("child.log.1")).unwrap(),
            "the past\n"
        );
    }

    #[tokio::test]
    async fn stopping_asks_first() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("mark");
        let ready = dir.path().join("ready");
        let script = format!(
            "trap 'echo asked > {}; exit 0' TERM; touch {}; while :; do sleep 0.05; done",
            mark.display(),
            ready.display()
        );
        let (report, _failures) = mpsc::channel(1);
        let child = Supervised::start(shell(dir.path(), &script), report).unwrap();
        while !ready.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        child.stop().await;
        assert_eq!(fs::read_to_string(mark).unwrap(), "asked\n");
    }
}
