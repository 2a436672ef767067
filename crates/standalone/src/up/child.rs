//! A supervised process: restarted when it exits by itself, terminated on request, killed if it doesn't stop.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use precis_runtime::backoff::Backoff;
use precis_runtime::clock::Instant;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Time for a process to stop before it is killed, in addition to a worker's drain time.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// Maximum restarts within [`RESTART_WINDOW`]. One more exit and the process counts as failed.
const MAX_RESTARTS: usize = 5;
const RESTART_WINDOW: Duration = Duration::from_secs(120);
/// Step of the backoff before the first restart in the window.
const MIN_RESTART_DELAY: Duration = Duration::from_millis(400);
const MAX_RESTART_DELAY: Duration = Duration::from_secs(6);
/// Size beyond which a log is rotated to `<name>.log.1`.
const MAX_LOG_BYTES: u64 = 16 << 20;
/// Access to a log: its owner writes it, and its group reads it.
const LOG_MODE: u32 = 0o640;
/// Interval between checks of a log's size.
const LOG_CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// How to start a process.
pub(super) struct ChildSpec {
    /// Name in messages and of the log file.
    pub(super) name: String,
    program: OsString,
    arguments: Vec<OsString>,
    log: PathBuf,
    drain: Duration,
    may_retire: bool,
    environment: Vec<(String, OsString)>,
}

impl ChildSpec {
    /// Describes a process that logs to `<log_dir>/<name>.log`.
    pub(super) fn new(name: &str, program: OsString, arguments: Vec<OsString>, log_dir: &Path) -> Self {
        Self {
            name: name.to_owned(),
            program,
            arguments,
            log: log_dir.join(format!("{name}.log")),
            drain: Duration::ZERO,
            may_retire: false,
            environment: Vec::new(),
        }
    }

    /// Adds time to drain before the process is killed.
    pub(super) fn with_drain(mut self, drain: Duration) -> Self {
        self.drain = drain;
        self
    }

    /// Accepts that the process ends by itself, with exit code 0, once it is healthy. It is not started again then.
    pub(super) fn with_retirement(mut self) -> Self {
        self.may_retire = true;
        self
    }

    /// Sets environment variables.
    pub(super) fn with_environment(mut self, environment: Vec<(String, OsString)>) -> Self {
        self.environment = environment;
        self
    }

    fn spawn(&self) -> io::Result<Process> {
        let mut child = self.command()?.spawn()?;
        // `Child::wait` closes the child's standard input, which would stop it: keep the pipe elsewhere.
        let stdin = child.stdin.take();
        Ok(Process { child, _stdin: stdin })
    }

    fn command(&self) -> io::Result<Command> {
        if let Some(folder) = self.log.parent() {
            fs::create_dir_all(folder)?;
        }
        let log = open_log(&self.log)?;
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            // The child stops when this pipe closes, which happens even if this process is killed.
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            // With its own process group, the child doesn't get the terminal's Ctrl-C: `precis up` stops all in order.
            .process_group(0)
            // A dropped child stops by itself, because its pipe closes.
            .kill_on_drop(false);
        Ok(command)
    }
}

/// Opens a log for appending. Other users can't read it, because it may quote texts.
fn open_log(path: &Path) -> io::Result<fs::File> {
    let mut options = OpenOptions::new();
    let log = options.create(true).append(true).mode(LOG_MODE).open(path)?;
    // The mode above has no effect on an existing file.
    log.set_permissions(fs::Permissions::from_mode(LOG_MODE))?;
    Ok(log)
}

/// A process and the pipe to its standard input. The process stops when the pipe closes.
struct Process {
    child: Child,
    _stdin: Option<ChildStdin>,
}

/// A running process and its supervisor task.
pub(super) struct Supervised {
    name: String,
    stop: CancellationToken,
    healthy: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Supervised {
    /// Starts the process. If it fails for good, the supervisor sends the reason to `failures`.
    ///
    /// # Errors
    /// If the program can't be started.
    pub(super) fn start(spec: ChildSpec, failures: mpsc::Sender<String>) -> io::Result<Self> {
        let process = spec.spawn()?;
        let name = spec.name.clone();
        let stop = CancellationToken::new();
        let healthy = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(supervise(spec, process, stop.clone(), healthy.clone(), failures));
        Ok(Self {
            name,
            stop,
            healthy,
            task,
        })
    }

    /// Returns whether this process is a worker.
    pub(super) fn is_worker(&self) -> bool {
        self.name.starts_with("worker-")
    }

    /// Marks the process as healthy. An exit before this is a failure; an exit after it causes a restart.
    pub(super) fn mark_healthy(&self) {
        self.healthy.store(true, Ordering::Release);
    }

    /// Terminates the process and waits for its exit. Kills it if it doesn't stop in time.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(process = %self.name, %error, "a supervisor task panicked");
        }
    }
}

async fn supervise(
    spec: ChildSpec,
    mut process: Process,
    stop: CancellationToken,
    healthy: Arc<AtomicBool>,
    failures: mpsc::Sender<String>,
) {
    // The channel is full only if earlier failures wait to be reported, and the first one is enough.
    let fail = |reason: String| {
        let _ = failures.try_send(reason);
    };
    let mut exits: Vec<Instant> = Vec::new();
    let mut backoff = Backoff::new(MIN_RESTART_DELAY, MAX_RESTART_DELAY);
    let mut log_check = tokio::time::interval(LOG_CHECK_INTERVAL);
    loop {
        let status = tokio::select! {
            status = process.child.wait() => status,
            () = stop.cancelled() => return terminate(&spec, process).await,
            _ = log_check.tick() => {
                rotate_if_large(&spec.log).await;
                continue;
            }
        };
        let is_healthy = healthy.load(Ordering::Acquire);
        if spec.may_retire && is_healthy && status.as_ref().is_ok_and(ExitStatus::success) {
            eprintln!("{} was retired; not restarting it", spec.name);
            return;
        }
        let exit = describe_exit(status);
        let now = Instant::now();
        exits.retain(|at| now.duration_since(*at) < RESTART_WINDOW);
        if exits.is_empty() {
            backoff.reset();
        }
        exits.push(now);
        if !is_healthy || exits.len() > MAX_RESTARTS {
            return fail(format!("{} {exit}\n{}", spec.name, log_tail(&spec.log)));
        }
        tracing::warn!(process = %spec.name, log = %spec.log.display(), "process {exit}; restarting");
        if !backoff.wait(&stop).await {
            return;
        }
        process = match spec.spawn() {
            Ok(process) => process,
            Err(error) => return fail(format!("{} can't be started: {error}", spec.name)),
        };
    }
}

async fn terminate(spec: &ChildSpec, mut process: Process) {
    let name = &spec.name;
    if let Some(pid) = process
        .child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw)
    {
        // Fails if the process has just exited by itself.
        let _ = kill_process(pid, Signal::TERM);
    }
    match tokio::time::timeout(spec.drain + STOP_TIMEOUT, process.child.wait()).await {
        Ok(Ok(status)) => tracing::debug!(process = %name, %status, "process stopped"),
        Ok(Err(error)) => tracing::warn!(process = %name, %error, "waiting for the process failed"),
        Err(_) => {
            tracing::warn!(process = %name, "process did not stop in time; killing it");
            if let Err(error) = process.child.kill().await {
                tracing::warn!(process = %name, %error, "killing the process failed");
            }
        }
    }
}

/// Rotates a log that exceeds [`MAX_LOG_BYTES`].
async fn rotate_if_large(log: &Path) {
    let path = log.to_owned();
    let rotation = tokio::task::spawn_blocking(move || rotate(&path, MAX_LOG_BYTES)).await;
    if let Ok(Err(error)) = rotation {
        tracing::warn!(log = %log.display(), %error, "log rotation failed");
    }
}

/// Copies a log larger than `max_bytes` to `<name>.log.1` and truncates it.
///
/// The process keeps its handle and appends to the truncated file. Lines written between the two steps are lost.
fn rotate(log: &Path, max_bytes: u64) -> io::Result<()> {
    if fs::metadata(log)?.len() > max_bytes {
        fs::copy(log, log.with_extension("log.1"))?;
        OpenOptions::new().write(true).open(log)?.set_len(0)?;
    }
    Ok(())
}

fn describe_exit(status: io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => format!("exited ({status})"),
        Err(error) => format!("can't be waited for ({error})"),
    }
}

/// Returns the last lines of a log, for an error message.
fn log_tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().rev().take(8).collect();
    let lines: Vec<String> = lines.into_iter().rev().map(|line| format!("  {line}")).collect();
    format!("last lines of {}:\n{}", log.display(), lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn shell(dir: &Path, script: &str) -> ChildSpec {
        ChildSpec::new("child", "/bin/sh".into(), vec!["-c".into(), script.into()], dir)
    }

    #[tokio::test]
    async fn exit_before_healthy_is_a_failure_with_the_log_tail() {
        let dir = tempfile::tempdir().unwrap();
        let (sender, mut failures) = mpsc::channel(1);
        let child =
            Supervised::start(shell(dir.path(), "echo the port is taken >&2; exit 3"), sender).unwrap();
        let reason = failures.recv().await.unwrap();
        assert!(
            reason.contains("exit status: 3") && reason.contains("the port is taken"),
            "{reason}"
        );
        child.stop().await;
    }

    #[tokio::test]
    async fn healthy_process_restarts_after_exit() {
        let dir = tempfile::tempdir().unwrap();
        let starts = dir.path().join("starts");
        let script = format!("echo x >> {}; exec sleep 0.1", starts.display());
        let (sender, _failures) = mpsc::channel(1);
        let child = Supervised::start(shell(dir.path(), &script), sender).unwrap();
        child.mark_healthy();
        while fs::read_to_string(&starts).unwrap_or_default().lines().count() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        child.stop().await;
    }

    #[tokio::test]
    async fn a_worker_that_was_asked_to_stop_is_not_started_again() {
        let dir = tempfile::tempdir().unwrap();
        let starts = dir.path().join("starts");
        let script = format!("echo x >> {}; sleep 0.3", starts.display());
        let (sender, mut failures) = mpsc::channel(1);
        let spec = shell(dir.path(), &script).with_retirement();
        let child = Supervised::start(spec, sender).unwrap();
        child.mark_healthy();
        child.task.await.unwrap();
        assert_eq!(fs::read_to_string(&starts).unwrap().lines().count(), 1);
        assert!(failures.recv().await.is_none(), "it is no failure");
    }

    #[test]
    fn other_users_cannot_read_new_existing_or_rotated_logs() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("child.log");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        open_log(&log).unwrap().write_all(b"a text\n").unwrap();
        assert_eq!(mode(&log), 0o640);
        fs::set_permissions(&log, fs::Permissions::from_mode(0o644)).unwrap();
        open_log(&log).unwrap();
        assert_eq!(mode(&log), 0o640);
        rotate(&log, 1).unwrap();
        assert_eq!(mode(&log.with_extension("log.1")), 0o640);
    }

    #[test]
    fn large_log_is_rotated_while_open() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("child.log");
        let mut writer = OpenOptions::new().create(true).append(true).open(&log).unwrap();
        writer.write_all(b"old\n").unwrap();
        rotate(&log, 100).unwrap();
        assert_eq!(fs::read_to_string(&log).unwrap(), "old\n");
        rotate(&log, 3).unwrap();
        writer.write_all(b"new\n").unwrap();
        assert_eq!(fs::read_to_string(&log).unwrap(), "new\n");
        assert_eq!(
            fs::read_to_string(dir.path().join("child.log.1")).unwrap(),
            "old\n"
        );
    }

    #[tokio::test]
    async fn stop_sends_sigterm_first() {
        let dir = tempfile::tempdir().unwrap();
        let terminated = dir.path().join("terminated");
        let ready = dir.path().join("ready");
        let script = format!(
            "trap 'echo yes > {}; exit 0' TERM; touch {}; while :; do sleep 0.05; done",
            terminated.display(),
            ready.display()
        );
        let (sender, _failures) = mpsc::channel(1);
        let child = Supervised::start(shell(dir.path(), &script), sender).unwrap();
        while !ready.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        child.stop().await;
        assert_eq!(fs::read_to_string(terminated).unwrap(), "yes\n");
    }
}
