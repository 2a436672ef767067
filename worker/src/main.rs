//! `precis-worker`: takes jobs from the queue in batches and runs T5 on them.

use std::process::ExitCode;

use clap::Parser;
use precis_runtime::boot;
use precis_worker::WorkerArgs;

/// A worker of Precis.
#[derive(Debug, Parser)]
#[command(name = "precis-worker", version)]
struct Cli {
    /// How the worker is run.
    #[command(flatten)]
    worker: WorkerArgs,
}

fn main() -> ExitCode {
    boot::run(&Cli::parse().worker.run_args(), precis_worker::run)
}
