//! `precis up`: finds or fetches the servers, starts every role as a supervised process, waits until all are healthy, and
//! stops them in order.
//!
//! | file | what |
//! | --- | --- |
//! | `plan.rs` | decides what to start at which address; checks ports and disk space |
//! | `servers.rs` | command lines and configuration files of the processes |
//! | `child.rs` | one supervised process |
//! | `instance.rs` | the lock on the data directory |
//! | `mod.rs` | the order of starting and stopping |

mod child;
mod instance;
mod plan;
mod servers;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use precis_installer::ClickHouseBinary;
use precis_runtime::boot::{RoleContext, RunArgs};
use precis_runtime::clock::Instant;
use precis_runtime::config::ConfigArgs;
use precis_runtime::{Config, nats};
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use self::child::{ChildSpec, Supervised};
use self::instance::InstanceLock;
use self::plan::{Plan, READY_TIMEOUT};
use crate::{client, install};

/// Arguments of `precis up`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct UpArgs {
    /// Arguments that every command takes.
    #[command(flatten)]
    pub run: RunArgs,
    /// Directory for the data of NATS and ClickHouse, and for all logs [standalone.data_dir]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Number of workers to start [standalone.workers]
    #[arg(long, value_name = "COUNT")]
    pub workers: Option<usize>,
    /// Model: embedded, a folder, or a hub id with an optional @revision; `summarize` also takes a name that a running
    /// product serves [worker.model]
    #[arg(long)]
    pub model: Option<String>,
    /// Don't download anything [standalone.offline]
    #[arg(long)]
    pub offline: bool,
}

impl UpArgs {
    /// Returns the common arguments with the options of this command as configuration overrides.
    pub fn run_args(&self) -> RunArgs {
        let mut run = self.run.clone();
        let overrides = &mut run.config.overrides;
        if let Some(dir) = &self.data_dir {
            overrides.push(format!("standalone.data_dir={}", dir.display()));
        }
        if let Some(workers) = self.workers {
            overrides.push(format!("standalone.workers={workers}"));
        }
        if let Some(model) = &self.model {
            overrides.push(format!("worker.model={model}"));
        }
        if self.offline {
            overrides.push("standalone.offline=true".into());
        }
        run
    }
}

/// Starts the product and runs it until the process is asked to stop.
///
/// # Errors
/// If the product doesn't start, or a process keeps failing.
pub async fn run(context: RoleContext, args: UpArgs) -> anyhow::Result<()> {
    let stop = context.stop.clone();
    let config_args = args.run_args().config;
    let running = Box::pin(Running::start(&context, &config_args)).await?;
    running.print_welcome(&context.config);
    let failed = tokio::select! {
        () = stop.cancelled() => None,
        reason = running.failure() => Some(reason),
    };
    eprintln!("Stopping: finishing running requests and jobs first");
    running.stop().await;
    match failed {
        None => {
            eprintln!("Stopped");
            Ok(())
        }
        Some(reason) => Err(anyhow::anyhow!(reason)),
    }
}

/// The running product.
///
/// [`Running::stop`] stops its processes in order. If the value is dropped instead, they stop when this process ends.
pub struct Running {
    /// In starting order; stopped in reverse.
    children: Vec<Supervised>,
    failures: Mutex<mpsc::Receiver<String>>,
    plan: Plan,
    stop: CancellationToken,
    _instance: InstanceLock,
}

impl Running {
    /// Starts every part that the configuration enables and waits until all are healthy.
    ///
    /// `config_args` are the arguments from which `context` was loaded; the roles load the same configuration.
    ///
    /// # Errors
    /// If a port is taken, the disk is full, another instance uses the data directory, a server can't be installed, a
    /// part doesn't become healthy, or the process is asked to stop. Parts that were started are stopped again.
    pub async fn start(context: &RoleContext, config_args: &ConfigArgs) -> anyhow::Result<Self> {
        let config = &context.config;
        let started = Instant::now();
        let mut plan = Plan::new(config, config_args)?;
        let instance = InstanceLock::acquire(&plan.data_dir, client::reachable(config.api.listen))?;
        plan.check_disk()?;
        plan.check_ports(config, instance.previous_was_killed()).await?;
        let installer = install::installer(config);
        let nats_server = async {
            match plan.nats {
                Some(_) => installer.ensure_nats_server().await.map(Some),
                None => Ok(None),
            }
        };
        let clickhouse = async {
            match plan.clickhouse {
                Some(_) => installer.ensure_clickhouse().await.map(Some),
                None => Ok(None),
            }
        };
        let console = async {
            // The API works without the console, whose page then says how to get the libraries.
            if config.api.console_libraries.is_none()
                && let Err(error) = installer.ensure_console().await
            {
                eprintln!("Warning: the console is not available: {error}");
            }
            Ok(())
        };
        let (nats_server, clickhouse, ()) = tokio::select! {
            found = async { tokio::try_join!(nats_server, clickhouse, console) } => found?,
            () = context.stop.cancelled() => anyhow::bail!("interrupted while installing the servers"),
        };
        let (sender, failures) = mpsc::channel(16);
        let mut running = Self {
            children: Vec::new(),
            failures: failures.into(),
            plan,
            stop: context.stop.clone(),
            _instance: instance,
        };
        match Box::pin(running.start_all(config, nats_server, clickhouse, &sender)).await {
            Ok(()) => {
                eprintln!("Started in {:.1} s", started.elapsed().as_secs_f64());
                Ok(running)
            }
            Err(error) => {
                running.stop().await;
                Err(error)
            }
        }
    }

    async fn start_all(
        &mut self,
        config: &Config,
        nats_server: Option<PathBuf>,
        clickhouse: Option<ClickHouseBinary>,
        failures: &mpsc::Sender<String>,
    ) -> anyhow::Result<()> {
        if let (Some(address), Some(server)) = (self.plan.nats, nats_server) {
            let spec = servers::nats(&self.plan, config, address, &server)?;
            self.launch(spec, failures)?;
        }
        if let (Some(address), Some(binary)) = (self.plan.clickhouse, clickhouse) {
            let spec = servers::clickhouse(&self.plan, config, address, &binary)?;
            self.launch(spec, failures)?;
        }
        if self.plan.nats.is_none() {
            eprintln!("Using the NATS server at {}", config.nats.url);
        }
        // This connection only proves that the server is up. The client retries by itself.
        let connect = async {
            nats::connect(&config.nats, "precis-up")
                .await
                .map(drop)
                .map_err(anyhow::Error::from)
        };
        Box::pin(self.unless_failed("nats", connect)).await?;
        let http = client::http()?;
        if self.plan.monitor || self.plan.clickhouse.is_some() {
            let ping = format!("{}/ping", config.clickhouse.url.shown().trim_end_matches('/'));
            self.wait_until_ready("clickhouse", &http, &ping, READY_TIMEOUT)
                .await?;
        }
        for role in servers::roles(&self.plan, config)? {
            self.launch(role, failures)?;
        }
        for (name, url, timeout) in self.plan.health_checks(config) {
            self.wait_until_ready(&name, &http, &url, timeout).await?;
        }
        for child in &self.children {
            child.mark_healthy();
        }
        Ok(())
    }

    fn launch(&mut self, spec: ChildSpec, failures: &mpsc::Sender<String>) -> anyhow::Result<()> {
        let name = spec.name.clone();
        let child = Supervised::start(spec, failures.clone()).with_context(|| format!("starting {name}"))?;
        self.children.push(child);
        Ok(())
    }

    async fn wait_until_ready(
        &self,
        name: &str,
        http: &reqwest::Client,
        url: &str,
        timeout: Duration,
    ) -> anyhow::Result<()> {
        self.unless_failed(name, async {
            let deadline = Instant::now() + timeout;
            while !client::probe(http, url).await.is_ready() {
                anyhow::ensure!(
                    Instant::now() < deadline,
                    "{name} is not ready after {} s ({url}); see its log in {}",
                    timeout.as_secs(),
                    self.plan.log_dir().display()
                );
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok(())
        })
        .await
    }

    /// Runs `work` until it ends, a process fails for good, or this process is asked to stop.
    async fn unless_failed<T>(
        &self,
        name: &str,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        tokio::select! {
            outcome = work => outcome.with_context(|| format!("waiting for {name}")),
            reason = self.failure() => Err(anyhow::anyhow!(reason)),
            () = self.stop.cancelled() => Err(anyhow::anyhow!("interrupted while waiting for {name}")),
        }
    }

    /// Waits until a process has failed for good and returns the reason.
    pub async fn failure(&self) -> String {
        let reason = self.failures.lock().await.recv().await;
        match reason {
            Some(reason) => reason,
            // The channel closes only if no process was started.
            None => std::future::pending().await,
        }
    }

    /// Stops every process in reverse starting order and waits for each. Workers stop in parallel.
    pub async fn stop(self) {
        let mut children = self.children;
        while let Some(last) = children.pop() {
            let mut group = vec![last];
            while group[0].is_worker() && children.last().is_some_and(Supervised::is_worker) {
                group.extend(children.pop());
            }
            futures::future::join_all(group.into_iter().map(Supervised::stop)).await;
        }
    }

    fn print_welcome(&self, config: &Config) {
        let api = client::reachable(config.api.listen);
        let monitor = client::reachable(config.monitor.listen);
        eprintln!(
            "
Precis is up.
  Console     http://{api}/
  API         http://{api}
  Monitor     http://{monitor}
  ClickHouse  {}  (database {})
  NATS        {}
  Data, logs  {}

Try it:
  curl -s http://{api}/v1/summaries -H 'Content-Type: application/json' -H 'Prefer: wait=30' \\
    -d '{{\"text\": \"The harbour bridge will close for repairs on Monday, the city said. Ferries will run every ten minutes until it opens again in March.\"}}'

Press Ctrl-C to stop.",
            config.clickhouse.url,
            config.clickhouse.database,
            config.nats.url,
            self.plan.data_dir.display(),
        );
    }
}

impl precis_bench::Product for Running {
    async fn start(context: &RoleContext, config: &ConfigArgs) -> anyhow::Result<Self> {
        Box::pin(Self::start(context, config)).await
    }

    async fn stop(self) {
        self.stop().await;
    }
}
