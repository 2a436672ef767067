//! The life of a process, written once for every role.

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use async_nats::{Client, jetstream};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigArgs};
use crate::{nats, shutdown, spans, telemetry, topology};

/// What a role gets: its configuration, and the word to stop.
#[derive(Debug, Clone)]
pub struct RoleContext {
    /// The configuration.
    pub config: Config,
    /// Cancelled when the process is to stop. What has begun is then finished or handed back.
    pub stop: CancellationToken,
}

/// A connection to NATS with the topology in place.
#[derive(Debug, Clone)]
pub struct NatsConnection {
    /// Core NATS.
    pub client: Client,
    /// JetStream.
    pub jetstream: jetstream::Context,
}

impl RoleContext {
    /// Connects to NATS under `name`, without touching the streams: for tools that only look or publish.
    ///
    /// # Errors
    /// When the server can't be reached.
    pub async fn connect(&self, name: &str) -> anyhow::Result<NatsConnection> {
        let client = nats::connect(&self.config.nats, name).await?;
        let jetstream = jetstream::new(client.clone());
        Ok(NatsConnection { client, jetstream })
    }

    /// Connects to NATS under `name` and sets up or checks the streams: for the roles of a deployment.
    ///
    /// # Errors
    /// When the server can't be reached or the streams are not as they should be.
    pub async fn queue(&self, name: &str) -> anyhow::Result<NatsConnection> {
        let settings = &self.config.nats;
        let NatsConnection { client, jetstream } = self.connect(name).await?;
        let limits = self.config.queue.topology_limits();
        topology::apply(&jetstream, &limits, settings.replicas, settings.manage_topology).await?;
        Ok(NatsConnection { client, jetstream })
    }
}

/// How a process is run.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RunArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Stop when standard input ends (a supervisor holds the other end)
    #[arg(long, hide = true)]
    pub stop_with_parent: bool,
}

/// Exit code of a process whose configuration is wrong (`EX_CONFIG` of sysexits.h).
pub const EXIT_CONFIG: u8 = 78;

/// Runs a role to its end and tells how it went: 0, 1 when the role failed, 78 for a bad configuration.
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

/// As [`run`], for a command that may be given up at any time: it ends when it is asked to stop.
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

/// As [`run`], with a configuration that has been read already.
pub fn run_with<Role, Running>(config: Config, stop_with_parent: bool, role: Role) -> ExitCode
where
    Role: FnOnce(RoleContext) -> Running,
    Running: Future<Output = anyhow::Result<()>>,
{
    if let Err(error) = telemetry::init(&config.telemetry) {
        eprintln!("error: {error}");
        return ExitCode::from(EXIT_CONFIG);
    }
    // One TLS provider for every client in the process. An earlier call has the same effect.
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the asynchronous runtime can't start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        let stop = shutdown::on_signal()?;
        if stop_with_parent {
            shutdown::on_end_of_input(stop.clone());
        }
        tokio::spawn(upkeep(stop.clone()));
        role(RoleContext { config, stop }).await
    });
    // While the runtime is there, which carries the requests.
    spans::shutdown();
    // Blocking work that was given up must not hold the process.
    runtime.shutdown_timeout(Duration::from_millis(500));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error with those of its causes that its own text does not tell already.
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
    fn a_cause_is_told_once() {
        let cause = anyhow::anyhow!("no route to host");
        let told = cause.context("NATS: no route to host").context("starting");
        assert_eq!(with_causes(&told), "starting: NATS: no route to host");
    }
}
