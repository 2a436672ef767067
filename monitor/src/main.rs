//! `precis-monitor`: turns results into rows, and answers jobs that no worker can finish.

use std::process::ExitCode;

use clap::Parser;
use precis_runtime::boot::{self, RunArgs};

/// Turns results into rows, and answers jobs that no worker can finish
#[derive(Debug, Parser)]
#[command(name = "precis-monitor", version)]
struct Cli {
    #[command(flatten)]
    run: RunArgs,
}

fn main() -> ExitCode {
    boot::run(&Cli::parse().run, precis_monitor::run)
}
