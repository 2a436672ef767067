//! The command `precis-producer`.

use std::process::ExitCode;

use clap::Parser;
use precis_producer::cli;
use precis_runtime::boot;

fn main() -> ExitCode {
    let args = cli::Cli::parse();
    boot::run(&args.run, move |context| cli::run(context, args.command))
}
