//! `precis up`: finds or fetches the servers, starts every role as a supervised process, waits until
//! all are healthy, and ends everything in order.
//!
//! | file | what |
//! | --- | --- |
//! | `plan.rs` | what is to be started where, from the configuration; refuses what can't work |
//! | `servers.rs` | command lines and configuration files of NATS and ClickHouse |
//! | `child.rs` | one supervised process |
//! | `mod.rs` | the order of starting and stopping |

mod child;
mod instance;
mod plan;
mod servers;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use precis_installer::ClickHouseBinary;
use precis_runtime::boot::{Context, RunArgs};
use precis_runtime::config::ConfigArgs;
use precis_runtime::{Config, nats};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::child::{ChildSpec, Supervised};
use self::instance::InstanceLock;
use self::plan::Plan;
use crate::client;

/// How to start the product.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct UpArgs {
    /// How the process is run.
    #[command(flatten)]
    pub run: RunArgs,
    /// Where NATS and ClickHouse keep their data, and the logs of all processes [standalone.data_dir]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Workers to start [standalone.workers]
    #[arg(long, value_name = "COUNT")]
    pub workers: Option<usize>,
    /// Never fetch anything [standalone.offline]
    #[arg(long)]
    pub offline: bool,
}

impl UpArgs {
    /// The arguments with this command's own options as overrides of the configuration.
    pub fn run_args(&self) -> RunArgs {
        let mut run = self.run.clone();
        let overrides = &mut run.config.overrides;
        if let Some(dir) = &self.data_dir {
            overrides.push(format!("standalone.data_dir={}", dir.display()));
        }
        if let Some(workers) = self.workers {
            overrides.push(format!("standalone.workers={workers}"));
        }
        if self.offline {
            overrides.push("standalone.offline=true".into());
        }
        run
    }
}

/// Starts the product and serves it until it is asked to stop.
///
/// # Errors
/// When it can't be started, or a part of it can't be kept running.
pub async fn run(context: Context, args: UpArgs) -> anyhow::Result<()> {
    let stop = context.stop.clone();
    let running = Box::pin(Running::start(&context, &args.run_args().config)).await?;
    running.print_welcome(&context.config);
    let failed = tokio::select! {
        () = stop.cancelled() => None,
        reason = running.failure() => Some(reason),
    };
    eprintln!("stopping: requests and jobs in hand are finished first");
    running.stop().await;
    match failed {
        None => {
            eprintln!("everything has stopped");
            Ok(())
        }
        Some(reason) => Err(anyhow::anyhow!(reason)),
    }
}

/// The product while it runs. [`Running::stop`] ends every process in order; without it they end by
/// themselves when this process does.
pub struct Running {
    /// In order of starting; stopped in the opposite order.
    children: Vec<Supervised>,
    failures: tokio::sync::Mutex<tokio::sync::mpsc::Receiver<String>>,
    plan: Plan,
    stop: CancellationToken,
    _instance: InstanceLock,
}

/// How long a part may take to become healthy.
const PATIENCE: Duration = Duration::from_secs(60);
/// A worker may have to fetch or read a large model first.
const PATIENCE_FOR_A_WORKER: Duration = Duration::from_secs(1_800);

impl Running {
    /// Starts everything that the configuration asks for and waits until it is healthy.
    ///
    /// # Errors
    /// When a port is taken, the disk is full, another instance uses the data, a server can't be had,
    /// or a part does not become healthy, or it is to stop before that. What was started is ended then.
    pub async fn start(context: &Context, args: &ConfigArgs) -> anyhow::Result<Self> {
        let config = &context.config;
        let begun = Instant::now();
        let plan = Plan::make(config, args)?;
        let instance = InstanceLock::take(&plan.data_dir)?;
        plan.check_disk()?;
        plan.check_ports(config).await?;
        let installer = plan.installer(config);
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
        let (nats_server, clickhouse) = tokio::select! {
            found = async { tokio::try_join!(nats_server, clickhouse) } => found?,
            () = context.stop.cancelled() => anyhow::bail!("interrupted while fetching the servers"),
        };
        let (report, failures) = tokio::sync::mpsc::channel(16);
        let mut running = Self {
            children: Vec::new(),
            failures: failures.into(),
            plan,
            stop: context.stop.clone(),
            _instance: instance,
        };
        match running.start_all(config, nats_server, clickhouse, &report).await {
            Ok(()) => {
                eprintln!("up after {:.1} s", begun.elapsed().as_secs_f64());
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
        report: &tokio::sync::mpsc::Sender<String>,
    ) -> anyhow::Result<()> {
        if let (Some(address), Some(server)) = (self.plan.nats, nats_server) {
            let spec = servers::nats(&self.plan, config, address, &server)?;
            self.launch(spec, report)?;
        }
        if let (Some(address), Some(binary)) = (self.plan.clickhouse, clickhouse) {
            let spec = servers::clickhouse(&self.plan, config, address, &binary)?;
            self.launch(spec, report)?;
        }
        // A lost connection is tried again by the client itself, so this one is only to see the server.
        self.unless_failed("nats", async {
            nats::connect(&config.nats, "precis-up")
                .await
                .map(drop)
                .map_err(anyhow::Error::from)
        })
        .await?;
        let http = client::http()?;
        if self.plan.monitor || self.plan.clickhouse.is_some() {
            let ping = format!("{}/ping", config.clickhouse.url.shown().trim_end_matches('/'));
            self.wait_for("clickhouse", &http, &ping, PATIENCE).await?;
        }
        // The monitor first, so that nothing is answered unmeasured for long; the API last, so that
        // whoever sees it can use it.
        for role in servers::roles(&self.plan, config)? {
            self.launch(role, report)?;
        }
        for (name, url, patience) in self.plan.health(config) {
            self.wait_for(&name, &http, &url, patience).await?;
        }
        for child in &self.children {
            child.is_healthy();
        }
        Ok(())
    }

    fn launch(&mut self, spec: ChildSpec, report: &tokio::sync::mpsc::Sender<String>) -> anyhow::Result<()> {
        let name = spec.name.clone();
        let child = Supervised::start(spec, report.clone()).with_context(|| format!("starting {name}"))?;
        self.children.push(child);
        Ok(())
    }

    async fn wait_for(
        &self,
        name: &str,
        http: &reqwest::Client,
        url: &str,
        patience: Duration,
    ) -> anyhow::Result<()> {
        self.unless_failed(name, async {
            let give_up = Instant::now() + patience;
            while !client::answers(http, url).await {
                anyhow::ensure!(
                    Instant::now() < give_up,
                    "{name} is not ready after {} s ({url}); see its log in {}",
                    patience.as_secs(),
                    self.plan.log_dir().display()
                );
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok(())
        })
        .await
    }

    /// `work`, given up as soon as a part has failed for good or everything is to stop.
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

    /// Ends when a part can't be kept running, with the reason.
    pub async fn failure(&self) -> String {
        let reason = self.failures.lock().await.recv().await;
        match reason {
            Some(reason) => reason,
            // Nobody is left who could fail; only happens when nothing was started.
            None => std::future::pending().await,
        }
    }

    /// Asks every part to stop, the last started first, and waits for each.
    pub async fn stop(self) {
        let mut children = self.children;
        while let Some(last) = children.pop() {
            let mut together = vec![last];
            // Workers drain side by side.
            while together[0].is_worker() && children.last().is_some_and(Supervised::is_worker) {
                together.extend(children.pop());
            }
            futures::future::join_all(together.into_iter().map(Supervised::stop)).await;
        }
    }

    fn print_welcome(&self, config: &Config) {
        let api = client::reachable(config.api.listen);
        let monitor = client::reachable(config.monitor.listen);
        eprintln!(
            "
Precis is up.
  API         http://{api}
  Monitor     http://{monitor}
  ClickHouse  {}  (database {})
  NATS        {}
  Data, logs  {}

Try it:
  curl -s http://{api}/v1/summaries -H 'Content-Type: application/json' -H 'Prefer: wait=30' \\
    -d '{{\"text\": \"The harbour bridge will close for repairs on Monday, the city said. Ferries will run every ten minutes until it opens again in March.\"}}'

Ctrl-C stops it.",
            config.clickhouse.url,
            config.clickhouse.database,
            config.nats.url,
            self.plan.data_dir.display(),
        );
    }
}

impl precis_bench::Product for Running {
    async fn start(context: &Context, config: &ConfigArgs) -> anyhow::Result<Self> {
        Self::start(context, config).await
    }

    async fn stop(self) {
        self.stop().await;
    }
}
