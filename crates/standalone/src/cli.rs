//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use precis_bench::Bench;
use precis_clickhouse_embedded::ServerOptions;
use precis_runtime::boot::{self, EXIT_CONFIG, RunArgs};
use precis_runtime::config::{Config, ConfigArgs};

use crate::up::{Running, UpArgs};
use crate::{guard, key, status, summarize, up};

/// Summaries as a service: REST and NATS in, summaries and measurements out.
///
/// Without a command, `precis` starts the whole product (`precis up`).
#[derive(Debug, Parser)]
#[command(name = "precis", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    up: UpArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the whole product and serve it until Ctrl-C
    Up(UpArgs),
    /// Print a summary of a file, through the running product or one started for it
    Summarize(summarize::SummarizeArgs),
    /// Show what is running, and how much is waiting
    Status(ConfigArgs),
    /// Read the configuration and say whether it is good
    CheckConfig(ConfigArgs),
    /// Print the configuration as it is used, secrets redacted
    DumpConfig(ConfigArgs),
    /// Make an API key, and print what goes into the configuration
    Key(key::KeyArgs),
    /// Run the REST gateway alone
    Api(precis_api::ApiArgs),
    /// Run a worker alone
    Worker(precis_worker::WorkerArgs),
    /// Run the monitor alone
    Monitor(RunArgs),
    /// Publish texts to the queue, or look at it
    Producer {
        /// How the process is run.
        #[command(flatten)]
        run: RunArgs,
        /// What to do.
        #[command(subcommand)]
        command: precis_producer::cli::Command,
    },
    /// Run the embedded ClickHouse engine behind its HTTP interface
    #[command(name = "clickhouse")]
    ClickHouse(EngineArgs),
    /// Measure parts of the product beside their rivals
    #[command(subcommand)]
    Bench(Bench),
    /// Run a program that ends when standard input does
    #[command(hide = true)]
    Guard(guard::GuardArgs),
}

/// How to run the embedded ClickHouse engine.
#[derive(Debug, clap::Args)]
struct EngineArgs {
    #[command(flatten)]
    run: RunArgs,
    /// The engine: libchdb.so
    #[arg(long, value_name = "FILE")]
    library: PathBuf,
    /// Where it keeps its data
    #[arg(long, value_name = "DIR")]
    path: PathBuf,
    /// Address of the HTTP interface
    #[arg(long, default_value = "127.0.0.1:8123")]
    listen: SocketAddr,
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command.unwrap_or(Command::Up(cli.up)) {
        Command::Up(args) => boot::run(&quiet(args.run_args()), move |context| up::run(context, args)),
        Command::Summarize(args) => {
            let run = quiet(args.up.run_args());
            boot::run(&run, move |context| summarize::run(context, args))
        }
        Command::Status(config) => boot::run_interruptible(
            &quiet(RunArgs {
                config,
                stop_with_parent: false,
            }),
            status::run,
        ),
        Command::CheckConfig(args) => check_config(&args),
        Command::DumpConfig(args) => dump_config(&args),
        Command::Key(args) => key::print(&args),
        Command::Api(args) => boot::run(&args.run_args(), precis_serverless::run),
        Command::Worker(args) => boot::run(&args.run_args(), precis_worker::run),
        Command::Monitor(args) => boot::run(&args, precis_monitor::run),
        Command::Producer { run, command } => boot::run_interruptible(&quiet(run), move |context| {
            precis_producer::cli::run(context, command)
        }),
        Command::ClickHouse(args) => run_engine(args),
        Command::Bench(bench) => bench.run::<Running>(),
        Command::Guard(args) => guard::run(&args),
    }
}

/// For a command that speaks to people itself.
fn quiet(mut run: RunArgs) -> RunArgs {
    run.config.quiet = true;
    run
}

fn check_config(args: &ConfigArgs) -> ExitCode {
    match Config::load(args) {
        Ok(_) => {
            println!("the configuration is good");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

fn dump_config(args: &ConfigArgs) -> ExitCode {
    match Config::load(args).and_then(|config| config.to_toml()) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

fn run_engine(args: EngineArgs) -> ExitCode {
    boot::run(&args.run, move |context| async move {
        let mut options = ServerOptions::new(args.library, args.path, args.listen);
        options.max_memory_bytes = Some(context.config.standalone.clickhouse_max_memory_bytes);
        options.password = context
            .config
            .clickhouse
            .password
            .as_ref()
            .map(|secret| secret.expose().to_owned());
        let stop = context.stop.clone();
        precis_clickhouse_embedded::run(options, |_| {}, async move { stop.cancelled().await }).await?;
        Ok(())
    })
}
