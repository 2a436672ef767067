//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use precis_bench::Bench;
use precis_clickhouse_embedded::ServerOptions;
use precis_runtime::boot::{self, EXIT_CONFIG, RunArgs};
use precis_runtime::config::{Config, ConfigArgs};

use crate::up::{Running, UpArgs};
use crate::{drain, guard, healthcheck, install, key, manual, status, summarize, up};

/// Precis: text summarization as a service, over REST and NATS.
///
/// Without a command, `precis` starts the whole product (`precis up`).
#[derive(Debug, Parser)]
#[command(name = "precis", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    up: UpArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the whole product and run it until Ctrl-C
    Up(UpArgs),
    /// Summarize a file; starts the product for it unless it is running
    Summarize(summarize::SummarizeArgs),
    /// Download the servers and the console's libraries without starting anything
    Install(install::InstallArgs),
    /// Show which parts are running and how many messages wait
    Status(ConfigArgs),
    /// Check whether a role on this machine is ready
    Healthcheck(healthcheck::HealthcheckArgs),
    /// Check the configuration for errors
    CheckConfig(ConfigArgs),
    /// Print the effective configuration, with secrets redacted
    DumpConfig(ConfigArgs),
    /// Create an API key and print its configuration
    Key(key::KeyArgs),
    /// Run only the REST gateway
    Api(precis_api::ApiArgs),
    /// Run only a worker, or retire one
    Worker(WorkerCommand),
    /// Run only the monitor
    Monitor(RunArgs),
    /// Summarize texts and files through the queue, and look after it
    Producer {
        #[command(flatten)]
        run: RunArgs,
        #[command(subcommand)]
        command: precis_producer::cli::Command,
    },
    /// Run only the embedded ClickHouse engine, with its HTTP interface
    #[command(name = "clickhouse")]
    ClickHouse(ClickHouseArgs),
    /// Measure performance and quality
    #[command(subcommand)]
    Bench(Bench),
    /// Print a completion script for a shell
    Completions(manual::CompletionsArgs),
    /// Write the manual pages
    Manual(manual::ManualArgs),
    /// Run a program that stops when standard input closes
    #[command(hide = true)]
    Guard(guard::GuardArgs),
}

/// `precis worker`: runs a worker, or retires one.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
struct WorkerCommand {
    #[command(flatten)]
    worker: precis_worker::WorkerArgs,
    #[command(subcommand)]
    command: Option<WorkerSubcommand>,
}

#[derive(Debug, Subcommand)]
enum WorkerSubcommand {
    /// Retire a worker: it finishes its jobs and exits, and `precis up` does not start it again
    Drain(drain::DrainArgs),
}

/// Arguments of `precis clickhouse`.
#[derive(Debug, clap::Args)]
struct ClickHouseArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Path of the engine, libchdb.so
    #[arg(long, value_name = "FILE")]
    library: PathBuf,
    /// Data directory
    #[arg(long, value_name = "DIR")]
    path: PathBuf,
    /// Address of the HTTP interface
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8123")]
    listen: SocketAddr,
}

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command.unwrap_or(Command::Up(cli.up)) {
        Command::Up(args) => boot::run(&quiet(args.run_args()), move |context| up::run(context, args)),
        Command::Summarize(args) => {
            let run = quiet(args.up.run_args());
            boot::run(&run, move |context| summarize::run(context, args))
        }
        Command::Install(args) => boot::run_interruptible(
            &quiet(RunArgs {
                config: args.config.clone(),
                stop_with_parent: false,
            }),
            move |context| install::run(context, args),
        ),
        Command::Status(config) => boot::run_interruptible(
            &quiet(RunArgs {
                config,
                stop_with_parent: false,
            }),
            status::run,
        ),
        Command::Healthcheck(args) => boot::run_interruptible(&quiet(args.run.clone()), move |context| {
            healthcheck::run(context, args)
        }),
        Command::CheckConfig(args) => check_config(&args),
        Command::DumpConfig(args) => dump_config(&args),
        Command::Key(args) => key::print(&args),
        Command::Api(args) => boot::run(&args.run_args(), precis_serverless::run),
        Command::Worker(WorkerCommand {
            worker,
            command: None,
        }) => boot::run(&worker.run_args(), precis_worker::run),
        Command::Worker(WorkerCommand {
            command: Some(WorkerSubcommand::Drain(args)),
            ..
        }) => {
            let run = RunArgs {
                config: args.config.clone(),
                stop_with_parent: false,
            };
            boot::run_interruptible(&quiet(run), move |context| drain::run(context, args))
        }
        Command::Monitor(args) => boot::run(&args, precis_monitor::run),
        Command::Producer { run, command } => boot::run(&quiet(run), move |context| {
            precis_producer::cli::run(context, command)
        }),
        Command::ClickHouse(args) => run_clickhouse(args),
        Command::Bench(bench) => bench.run::<Running>(),
        Command::Completions(args) => manual::print_completions(Cli::command(), &args),
        Command::Manual(args) => manual::write(Cli::command(), &args),
        Command::Guard(args) => guard::run(&args),
    }
}

/// Turns logging down for a command that prints its own messages.
fn quiet(mut run: RunArgs) -> RunArgs {
    run.config.quiet = true;
    run
}

fn check_config(args: &ConfigArgs) -> ExitCode {
    match Config::load(args) {
        Ok(_) => {
            println!("the configuration is valid");
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

fn run_clickhouse(args: ClickHouseArgs) -> ExitCode {
    boot::run(&args.run, move |context| async move {
        let mut options = ServerOptions::new(args.library, args.path, args.listen);
        options.max_memory_bytes = Some(context.config.standalone.clickhouse_max_memory_bytes);
        options.password = context
            .config
            .clickhouse
            .password
            .as_ref()
            .map(|secret| secret.expose().to_owned());
        options.http = context.config.http;
        let stop = context.stop.clone();
        precis_clickhouse_embedded::run(options, |_| {}, async move { stop.cancelled().await }).await?;
        Ok(())
    })
}
