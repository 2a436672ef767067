//! `precis-api`: the REST gateway of Precis.

use std::process::ExitCode;

use clap::Parser;
use precis_api::ApiArgs;
use precis_runtime::Config;
use precis_runtime::boot::{self, EXIT_CONFIG};

/// Serves the REST interface of Precis.
#[derive(Debug, Parser)]
#[command(name = "precis-api", version)]
struct Cli {
    #[command(flatten)]
    api: ApiArgs,
}

fn main() -> ExitCode {
    let args = Cli::parse().api.run_args();
    let config = Config::load(&args.config).map_err(anyhow::Error::from);
    let checked = config.and_then(|config| precis_api::check_config(&config).map(|()| config));
    match checked {
        Ok(config) => boot::run_with(config, args.stop_with_parent, precis_api::run),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(EXIT_CONFIG)
        }
    }
}
