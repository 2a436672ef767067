//! `precis-worker`: pulls jobs from the queue and runs T5 on them.

use std::process::ExitCode;

use clap::Parser;
use precis_runtime::boot;
use precis_worker::WorkerArgs;

/// A Precis worker: summarizes texts from the queue
#[derive(Debug, Parser)]
#[command(name = "precis-worker", version)]
struct Cli {
    /// Options of the worker.
    #[command(flatten)]
    worker: WorkerArgs,
}

fn main() -> ExitCode {
    boot::run(&Cli::parse().worker.run_args(), precis_worker::run)
}
