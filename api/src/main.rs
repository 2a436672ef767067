//! `precis-api`: the REST gateway of Precis.

use std::process::ExitCode;

use clap::Parser;
use precis_api::ApiArgs;
use precis_runtime::boot;

/// Serves the REST interface of Precis.
#[derive(Debug, Parser)]
#[command(name = "precis-api", version)]
struct Cli {
    #[command(flatten)]
    api: ApiArgs,
}

fn main() -> ExitCode {
    boot::run(&Cli::parse().api.run_args(), precis_api::run)
}
