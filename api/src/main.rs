//! `precis-api`: the REST gateway of Precis.

use std::process::ExitCode;

use clap::Parser;
use precis_runtime::boot::{self, RunArgs};

/// Serves the REST interface of Precis.
#[derive(Debug, Parser)]
#[command(name = "precis-api", version)]
struct Cli {
    #[command(flatten)]
    run: RunArgs,
}

fn main() -> ExitCode {
    boot::run(&Cli::parse().run, precis_api::run)
}
