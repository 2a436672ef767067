//! Runs a benchmark against a product of its own, on free ports and with a temporary data directory.

use std::net::TcpListener;
use std::process::ExitCode;

use anyhow::Context as _;
use precis_runtime::boot::{self, RoleContext, RunArgs};
use precis_runtime::config::ConfigArgs;
use tempfile::TempDir;

/// A product that a benchmark can start and stop.
pub trait Product: Sized {
    /// Starts the product that `config` describes and returns once it is ready.
    fn start(context: &RoleContext, config: &ConfigArgs) -> impl Future<Output = anyhow::Result<Self>>;

    /// Stops every process of the product.
    fn stop(self) -> impl Future<Output = ()>;
}

/// Starts a product, runs `measure`, stops the product, then calls `print` with the result.
///
/// `defaults` are settings (`key=value`) of the benchmark. Settings in `config` override them.
pub(crate) fn run_with_product<P: Product, T>(
    config: &ConfigArgs,
    defaults: Vec<String>,
    measure: impl AsyncFnOnce(&RoleContext) -> anyhow::Result<T>,
    print: impl FnOnce(&T) -> anyhow::Result<()>,
) -> ExitCode {
    let (folder, config) = match isolated(config, defaults) {
        Ok(prepared) => prepared,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let run = RunArgs {
        config,
        stop_with_parent: false,
    };
    let config = &run.config;
    let code = boot::run_interruptible(&run, |context| async move {
        let product = Box::pin(P::start(&context, config)).await?;
        let outcome = Box::pin(measure(&context)).await;
        product.stop().await;
        print(&outcome?)
    });
    // The processes of the product use the folder until they have ended.
    drop(folder);
    code
}

/// Returns a temporary folder and a configuration with free ports and its data in that folder.
fn isolated(config: &ConfigArgs, defaults: Vec<String>) -> anyhow::Result<(TempDir, ConfigArgs)> {
    let folder = tempfile::tempdir().context("creating a temporary data directory")?;
    let mut isolated = config.clone();
    isolated.quiet = true;
    isolated.overrides = vec![
        format!("api.listen=127.0.0.1:{}", free_port()?),
        format!("monitor.listen=127.0.0.1:{}", free_port()?),
        format!("worker.admin_listen=127.0.0.1:{}", free_port()?),
        format!("nats.url=nats://127.0.0.1:{}", free_port()?),
        format!("clickhouse.url=http://127.0.0.1:{}", free_port()?),
        format!("standalone.data_dir={}", folder.path().join("data").display()),
    ];
    isolated.overrides.extend(defaults);
    isolated.overrides.extend(config.overrides.iter().cloned());
    Ok((folder, isolated))
}

/// Returns a port that no process listens on right now.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("finding a free port")?;
    Ok(listener.local_addr()?.port())
}
