//! Runs a program that is not ours so that it never outlives the supervisor.
//!
//! Our own roles stop when their standard input ends. A server such as nats-server doesn't, so it is
//! run by this small process, which does it for the server: when standard input ends, or a signal
//! comes, the server is asked to stop, and killed if it doesn't.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

/// How long the program may take to stop.
const PATIENCE: Duration = Duration::from_secs(10);
/// When the supervisor is gone without a word, others that need the program get this long to finish.
const GRACE_FOR_ORPHANS: Duration = Duration::from_secs(3);

/// What to run.
#[derive(Debug, clap::Args)]
pub(crate) struct GuardArgs {
    /// The program.
    program: PathBuf,
    /// Its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs the program to its end and passes on its exit code.
pub(crate) fn run(args: &GuardArgs) -> ExitCode {
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

async fn guard(args: &GuardArgs) -> std::io::Result<i32> {
    let told = precis_runtime::shutdown::on_signal()?;
    let orphaned = CancellationToken::new();
    precis_runtime::shutdown::on_end_of_input(orphaned.clone());
    let mut child = Command::new(&args.program)
        .args(&args.arguments)
        .stdin(std::process::Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    tokio::select! {
        status = child.wait() => return Ok(status?.code().unwrap_or(1)),
        () = told.cancelled() => {}
        () = orphaned.cancelled() => {
            tokio::select! {
                () = tokio::time::sleep(GRACE_FOR_ORPHANS) => {}
                () = told.cancelled() => {}
            }
        }
    }
    if let Some(pid) = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw)
    {
        // It may have ended by itself in this moment.
        let _already_gone = kill_process(pid, Signal::TERM);
    }
    match tokio::time::timeout(PATIENCE, child.wait()).await {
        Ok(status) => Ok(status?.code().unwrap_or(0)),
        Err(_) => {
            child.kill().await?;
            Ok(1)
        }
    }
}
