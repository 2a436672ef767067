//! `precis healthcheck`: whether a role on this machine is ready, for the health checks of containers.

use anyhow::Context as _;
use clap::ValueEnum;
use precis_runtime::boot::{RoleContext, RunArgs};

use crate::client;

/// A role that serves HTTP.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum CheckedRole {
    Api,
    Worker,
    Monitor,
}

/// Arguments of `precis healthcheck`.
#[derive(Debug, clap::Args)]
pub(crate) struct HealthcheckArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Role to ask, at the address that the configuration gives it
    #[arg(value_name = "ROLE")]
    role: CheckedRole,
}

/// Asks the role's `/readyz`.
///
/// # Errors
/// If the role is not ready or does not answer within two seconds, or if the configuration doesn't say which port a
/// worker listens on.
pub(crate) async fn run(context: RoleContext, args: HealthcheckArgs) -> anyhow::Result<()> {
    let config = &context.config;
    let listen = match args.role {
        CheckedRole::Api => config.api.listen,
        // Without it, a worker takes any free port, and another worker may answer on the preferred one.
        CheckedRole::Worker => config
            .worker
            .admin_listen
            .context("set worker.admin_listen for the worker and this check: it says which worker to ask")?,
        CheckedRole::Monitor => config.monitor.listen,
    };
    let url = format!("http://{}/readyz", client::reachable(listen));
    let outcome = client::probe(&client::http()?, &url).await;
    anyhow::ensure!(outcome.is_ready(), "not ready: {url}");
    Ok(())
}
