//! `precis-monitor`: runs the monitor as its own process.

use std::process::ExitCode;

use clap::Parser;
use precis_runtime::boot::{self, RunArgs};

/// Stores results in ClickHouse, and ends jobs that no worker can finish
#[derive(Debug, Parser)]
#[command(name = "precis-monitor", version)]
struct Cli {
    #[command(flatten)]
    run: RunArgs,
}

fn main() -> ExitCode {
    boot::run(&Cli::parse().run, precis_monitor::run)
}
