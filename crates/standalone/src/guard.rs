//! Runs a third-party program so that it never outlives its supervisor.
//!
//! The roles of Precis stop when their standard input closes. A server such as nats-server doesn't. This small process
//! terminates the server when standard input closes or a signal arrives. It kills a server that doesn't stop in time. On
//! Linux the kernel kills the server if the guard itself is killed, so that `precis up` can start both again.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

/// Time for the program to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Delay before the program is stopped when the supervisor was killed, so that roles which use it can finish.
const ORPHAN_GRACE: Duration = Duration::from_secs(3);

/// Arguments of `precis guard`.
#[derive(Debug, clap::Args)]
pub(crate) struct GuardArgs {
    /// Become the program, and die with the guard that has this process id
    #[arg(long, value_name = "PID")]
    for_guard: Option<i32>,
    /// The program
    program: PathBuf,
    /// Its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs the program and returns its exit code.
pub(crate) fn run(args: &GuardArgs) -> ExitCode {
    if let Some(guard) = args.for_guard {
        return become_program(args, guard);
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(guard(args)) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => {
            eprintln!("error: {}: {error}", args.program.display());
            ExitCode::FAILURE
        }
    }
}

/// Replaces this process by the program, which the kernel kills if the guard dies.
///
/// Killed rather than terminated: `precis up` starts the next server at once, and two must never write to one store.
fn become_program(args: &GuardArgs, guard: i32) -> ExitCode {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    // The guard may have died before the line above.
    if rustix::process::getppid() != Pid::from_raw(guard) {
        return ExitCode::FAILURE;
    }
    let error = std::process::Command::new(&args.program)
        .args(&args.arguments)
        .exec();
    eprintln!("error: {}: {error}", args.program.display());
    ExitCode::FAILURE
}

async fn guard(args: &GuardArgs) -> std::io::Result<i32> {
    let stop = precis_runtime::shutdown::on_signal()?;
    let orphaned = CancellationToken::new();
    precis_runtime::shutdown::on_end_of_input(orphaned.clone());
    let mut child = Command::new(std::env::current_exe()?)
        .args(["guard", "--for-guard"])
        .arg(std::process::id().to_string())
        .arg("--")
        .arg(&args.program)
        .args(&args.arguments)
        .stdin(std::process::Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    tokio::select! {
        status = child.wait() => return Ok(status?.code().unwrap_or(1)),
        () = stop.cancelled() => {}
        () = orphaned.cancelled() => {
            tokio::select! {
                () = tokio::time::sleep(ORPHAN_GRACE) => {}
                () = stop.cancelled() => {}
            }
        }
    }
    if let Some(pid) = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw)
    {
        // Fails if the program has just ended by itself.
        let _ = kill_process(pid, Signal::TERM);
    }
    match tokio::time::timeout(STOP_TIMEOUT, child.wait()).await {
        Ok(status) => Ok(status?.code().unwrap_or(0)),
        Err(_) => {
            child.kill().await?;
            Ok(1)
        }
    }
}
