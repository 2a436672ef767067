//! Starts and stops the process of a role.

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use async_nats::{Client, jetstream};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigArgs};
use crate::{clock, nats, shutdown, spans, telemetry, topology};

/// What a role needs to run.
#[derive(Debug, Clone)]
pub struct RoleContext {
    /// The configuration.
    pub config: Config,
    /// Cancelled when the process must stop. The role then finishes its work or hands it back.
    pub stop: CancellationToken,
}

/// A connection to NATS.
#[derive(Debug, Clone)]
pub struct NatsConnection {
    /// Core NATS.
    pub client: Client,
    /// JetStream.
    pub jetstream: jetstream::Context,
}

impl RoleContext {
    /// Connects to NATS under `name` and leaves the streams alone. For tools that only read or publish.
    ///
    /// # Errors
    /// If the server can't be reached.
    pub async fn connect(&self, name: &str) -> anyhow::Result<NatsConnection> {
        let client = nats::connect(&self.config.nats, name).await?;
        let jetstream = jetstream::new(client.clone());
        Ok(NatsConnection { client, jetstream })
    }

    /// Connects to NATS under `name` and creates, updates or checks the streams. For roles.
    ///
    /// # Errors
    /// If the server can't be reached or a stream has the wrong configuration.
    pub async fn queue(&self, name: &str) -> anyhow::Result<NatsConnection> {
        let settings = &self.config.nats;
        let NatsConnection { client, jetstream } = self.connect(name).await?;
        let limits = self.config.queue.topology_limits();
        topology::apply(&jetstream, &limits, settings.replicas, settings.manage_topology).await?;
        Ok(NatsConnection { client, jetstream })
    }
}

/// Command-line arguments of every role.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RunArgs {
    /// Sources of the configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Stop when standard input closes (a supervisor holds the other end)
    #[arg(long, hide = true)]
    pub stop_with_parent: bool,
}

/// A failure with an exit code of its own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CommandError {
    /// The exit code.
    pub code: u8,
    /// What to print.
    pub message: String,
}

impl CommandError {
    /// A failure with this exit code.
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// A command that a signal stopped.
    pub fn interrupted() -> Self {
        Self::new(130, "interrupted")
    }
}

/// Exit code for an invalid configuration (`EX_CONFIG` in sysexits.h).
pub const EXIT_CONFIG: u8 = 78;

/// Runs a role until it ends. Exits with 0, with 1 or the code of a [`CommandError`] if the role failed, or with 78 if
/// the configuration is invalid.
pub fn run<Role, Running>(args: &RunArgs, role: Role) -> ExitCode
where
    Role: FnOnce(RoleContext) -> Running,
    Running: Future<Output = anyhow::Result<()>>,
{
    let config = match Config::load(&args.config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    run_with(config, args.stop_with_parent, role)
}

/// Runs a command that a stop signal may abort at any time.
pub fn run_interruptible<Role, Running>(args: &RunArgs, role: Role) -> ExitCode
where
    Role: FnOnce(RoleContext) -> Running,
    Running: Future<Output = anyhow::Result<()>>,
{
    run(args, |context| async {
        let stop = context.stop.clone();
        tokio::select! {
            outcome = role(context) => outcome,
            () = stop.cancelled() => Err(anyhow::anyhow!("interrupted")),
        }
    })
}

/// Runs a role with a loaded configuration.
pub fn run_with<Role, Running>(config: Config, stop_with_parent: bool, role: Role) -> ExitCode
where
    Role: FnOnce(RoleContext) -> Running,
    Running: Future<Output = anyhow::Result<()>>,
{
    if let Err(error) = telemetry::init(&config.telemetry) {
        eprintln!("error: {error}");
        return ExitCode::from(EXIT_CONFIG);
    }
    // All TLS clients of the process share one provider. Only the first call has an effect.
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: can't start the asynchronous runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        let stop = shutdown::on_signal()?;
        if stop_with_parent {
            shutdown::on_end_of_input(stop.clone());
        }
        tokio::spawn(upkeep(stop.clone()));
        if let Some(file) = std::env::var_os(clock::JUMPS_ENV) {
            tokio::spawn(clock::follow(file.into()));
        }
        role(RoleContext { config, stop }).await
    });
    // Exporting the last spans needs the runtime.
    spans::shutdown();
    // Abandoned blocking work must not keep the process alive.
    runtime.shutdown_timeout(Duration::from_millis(500));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", with_causes(&error));
            match error.downcast_ref::<CommandError>() {
                Some(error) => ExitCode::from(error.code),
                None => ExitCode::FAILURE,
            }
        }
    }
}

/// Formats an error with those causes that its text doesn't already contain.
fn with_causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

async fn upkeep(stop: CancellationToken) {
    let mut tick = tokio::time::interval(Duration::from_secs(5));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => telemetry::upkeep(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_appears_once() {
        let cause = anyhow::anyhow!("no route to host");
        let error = cause.context("NATS: no route to host").context("starting");
        assert_eq!(with_causes(&error), "starting: NATS: no route to host");
    }
}
