//! The product under test: two gateways, workers, monitors, NATS servers and ClickHouse, each a process of its own on
//! free ports. Proxies stand between the roles and a single NATS server.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use futures::future::join_all;
use precis_installer::{ClickHouseBinary, Installer};
use precis_runtime::clock::Instant;
use precis_runtime::config::Config;
use rustix::process::Signal;
use tempfile::TempDir;

use super::nats_node::{self, NatsNode};
use super::plan::{At, Fault, Target};
use super::process::{Process, ProcessSpec, set_clock};
use super::proxy::Proxy;
use super::receiver::Receiver;
use crate::product::free_port;

/// The longest wait for the product to become ready.
const READY_TIMEOUT: Duration = Duration::from_secs(120);

/// Settings of every process. Webhooks go to a receiver on this machine.
const CONFIG: &str = r#"
[webhooks]
secret = "whsec_QWxsIG9mIHRoZW0gc2hhcmUgdGhpcyBzZWNyZXQ="
allow_http = true
ports = []
allow_networks = ["127.0.0.2/32"]
first_retry_seconds = 1
longest_retry_seconds = 4

[worker]
model = "benchmark:faulty"
drain_seconds = 4
"#;

/// Settings that make recoveries short.
const SHORT_WAITS: &str = "ack_wait_seconds = 2

[monitor]
ack_wait_seconds = 4
max_block_wait_ms = 100
";

/// Keeps every row that was ever stored, so that a job that was stored twice is seen. Restarts keep the setting.
const KEEP_ROWS: &str = "ALTER TABLE prediction_versions MODIFY SETTING \
                         max_bytes_to_merge_at_max_space_in_pool = 1, max_bytes_to_merge_at_min_space_in_pool = 1, \
                         parts_to_delay_insert = 100000, parts_to_throw_insert = 100000";

/// Which processes a product has besides two gateways and ClickHouse.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    nats_servers: usize,
    workers: usize,
    monitors: usize,
    /// Whether to keep the shipped ack waits.
    shipped_defaults: bool,
}

impl Layout {
    /// A cluster of three NATS servers, each with all streams.
    pub(super) const CLUSTER: Self = Self {
        nats_servers: 3,
        workers: 3,
        monitors: 2,
        shipped_defaults: false,
    };

    /// One NATS server, behind proxies.
    pub(super) fn single(shipped_defaults: bool) -> Self {
        Self {
            nats_servers: 1,
            workers: 2,
            monitors: 1,
            shipped_defaults,
        }
    }
}

/// The product.
pub(super) struct Testbed {
    processes: BTreeMap<Target, Process>,
    proxies: BTreeMap<Target, Proxy>,
    /// Receives webhooks.
    pub(super) receiver: Receiver,
    gateways: [SocketAddr; 2],
    workers: usize,
    monitors: Vec<SocketAddr>,
    nats: Vec<NatsNode>,
    clickhouse: SocketAddr,
    /// Sends requests.
    pub(super) http: reqwest::Client,
    // The last field: processes use the folder until they have ended.
    folder: TempDir,
}

impl Testbed {
    /// Starts the product and waits until it is ready.
    pub(super) async fn start(config: &Config, layout: Layout) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("creating a folder")?;
        let settings = if layout.shipped_defaults {
            CONFIG.to_owned()
        } else {
            format!("{CONFIG}{SHORT_WAITS}")
        };
        std::fs::write(folder.path().join("precis.toml"), settings)?;
        let address = || anyhow::Ok(SocketAddr::from(([127, 0, 0, 1], free_port()?)));
        let node = |_| {
            anyhow::Ok(NatsNode {
                clients: address()?,
                servers: address()?,
            })
        };
        let mut testbed = Self {
            processes: BTreeMap::new(),
            proxies: BTreeMap::new(),
            receiver: Receiver::start().await?,
            gateways: [address()?, address()?],
            workers: layout.workers,
            monitors: (0..layout.monitors)
                .map(|_| address())
                .collect::<Result<_, _>>()?,
            nats: (0..layout.nats_servers).map(node).collect::<Result<_, _>>()?,
            clickhouse: address()?,
            http: reqwest::Client::builder()
                .no_proxy()
                .timeout(Duration::from_secs(10))
                // A connection that is kept for later would count as an open file of a gateway.
                .pool_max_idle_per_host(0)
                .build()
                .context("creating an HTTP client")?,
            folder,
        };
        if let [only] = &testbed.nats[..] {
            for target in testbed.roles() {
                testbed.proxies.insert(target, Proxy::start(only.clients).await?);
            }
        }
        testbed.start_servers(config).await?;
        for target in testbed.roles() {
            let arguments = testbed.role_arguments(target)?;
            testbed.spawn(target, arguments, false)?;
        }
        testbed.wait_until_ready().await?;
        let keep_rows = testbed.clickhouse().query(KEEP_ROWS).execute().await;
        keep_rows.context("turning off merges")?;
        Ok(testbed)
    }

    async fn start_servers(&mut self, config: &Config) -> anyhow::Result<()> {
        let settings = &config.standalone;
        // The processes run in another folder.
        let mut installer = Installer::new(std::path::absolute(&settings.local_dir)?);
        installer.offline = settings.offline;
        installer.nats_server = settings.nats_server.clone();
        installer.clickhouse = settings.clickhouse.clone();
        installer.clickhouse_on_path = false;
        let server = installer.ensure_nats_server().await?;
        let ClickHouseBinary::Library(library) = installer.ensure_clickhouse().await? else {
            anyhow::bail!("the fault suite needs the embedded ClickHouse engine, not a server");
        };
        for index in 0..self.nats.len() {
            let target = Target::Nats(index);
            let file = self.folder.path().join(format!("{target}.conf"));
            let text = nats_node::config(&self.nats, index, &self.nats_store(index));
            std::fs::write(&file, text)?;
            let arguments = [
                "guard".into(),
                "--".into(),
                server.clone().into(),
                "--config".into(),
                file.into(),
            ];
            self.spawn(target, arguments.into(), true)?;
        }
        let arguments: [OsString; 8] = [
            "clickhouse".into(),
            "--stop-with-parent".into(),
            "--library".into(),
            library.into(),
            "--path".into(),
            self.folder.path().join("clickhouse").into(),
            "--listen".into(),
            self.clickhouse.to_string().into(),
        ];
        self.spawn(Target::ClickHouse, arguments.into(), false)
    }

    /// Returns the folder in which a NATS server keeps its streams.
    fn nats_store(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("{}-store", Target::Nats(index)))
    }

    /// Returns the processes of Precis.
    pub(super) fn roles(&self) -> Vec<Target> {
        let gateways = (0..self.gateways.len()).map(Target::Gateway);
        let workers = (0..self.workers).map(Target::Worker);
        let monitors = (0..self.monitors.len()).map(Target::Monitor);
        gateways.chain(workers).chain(monitors).collect()
    }

    fn role_arguments(&self, target: Target) -> anyhow::Result<Vec<OsString>> {
        let (command, own) = match target {
            Target::Gateway(index) => ("api", vec![format!("api.listen={}", self.gateways[index])]),
            Target::Worker(index) => (
                "worker",
                vec![
                    format!("worker.id=worker-{index}"),
                    format!("worker.admin_listen=127.0.0.1:{}", free_port()?),
                ],
            ),
            Target::Monitor(index) => (
                "monitor",
                vec![format!("monitor.listen={}", self.monitors[index])],
            ),
            Target::Nats(_) | Target::ClickHouse => anyhow::bail!("{target} is no role"),
        };
        let nats = match self.proxies.get(&target) {
            Some(proxy) => format!("nats://{}", proxy.address()),
            None => self.nats().join(","),
        };
        let shared = [
            format!("nats.url={nats}"),
            format!("nats.replicas={}", self.nats.len()),
            format!("clickhouse.url=http://{}", self.clickhouse),
        ];
        let mut arguments = vec![command.into(), "--stop-with-parent".into()];
        for setting in own.into_iter().chain(shared) {
            arguments.extend([OsString::from("--set"), setting.into()]);
        }
        Ok(arguments)
    }

    fn spawn(&mut self, target: Target, arguments: Vec<OsString>, is_guard: bool) -> anyhow::Result<()> {
        let clock = self.clock(target);
        set_clock(&clock, 0)?;
        let spec = ProcessSpec {
            name: target.to_string(),
            arguments,
            folder: self.folder.path().to_owned(),
            clock,
            is_guard,
        };
        self.processes.insert(target, Process::start(spec)?);
        Ok(())
    }

    fn clock(&self, target: Target) -> PathBuf {
        self.folder.path().join(format!("{target}.clock"))
    }

    /// Returns the URL of a gateway.
    pub(super) fn gateway(&self, index: usize) -> String {
        format!("http://{}", self.gateways[index])
    }

    /// Returns the addresses of the NATS servers, without proxies.
    pub(super) fn nats(&self) -> Vec<String> {
        let url = |node: &NatsNode| format!("nats://{}", node.clients);
        self.nats.iter().map(url).collect()
    }

    /// Returns a client of ClickHouse.
    pub(super) fn clickhouse(&self) -> clickhouse::Client {
        clickhouse::Client::default()
            .with_url(format!("http://{}", self.clickhouse))
            .with_database("precis")
    }

    /// Returns how often each process was started again.
    pub(super) fn restarts(&self) -> u64 {
        self.processes.values().map(Process::restarts).sum()
    }

    /// Returns the number of open files of each role that runs.
    pub(super) fn open_files(&self) -> BTreeMap<Target, usize> {
        let files = |target: Target| Some((target, self.processes[&target].open_files()?));
        self.roles().into_iter().filter_map(files).collect()
    }

    /// Applies a fault for its duration, and heals it.
    pub(super) async fn apply(&self, fault: &At<Fault>) -> anyhow::Result<()> {
        let last = || tokio::time::sleep(fault.lasts);
        match fault.what {
            Fault::Kill(target) => self.end(target, Signal::KILL, fault.lasts).await,
            Fault::Stop(target) => self.end(target, Signal::TERM, fault.lasts).await,
            Fault::Freeze(target) => {
                self.processes[&target].signal(Signal::STOP);
                last().await;
                self.processes[&target].signal(Signal::CONT);
            }
            Fault::Link(target, link) => {
                self.proxies[&target].set(Some(link));
                last().await;
                self.proxies[&target].set(None);
            }
            Fault::Clock(target, seconds) => {
                set_clock(&self.clock(target), seconds)?;
                last().await;
                set_clock(&self.clock(target), 0)?;
            }
        }
        Ok(())
    }

    /// Ends a process, and starts it again after a time.
    pub(super) async fn end(&self, target: Target, signal: Signal, down: Duration) {
        let process = &self.processes[&target];
        process.hold();
        process.signal(signal);
        tokio::time::sleep(down).await;
        process.release();
    }

    /// Stops a NATS server, deletes everything that it has stored, and starts it again.
    pub(super) async fn empty(&self, index: usize) -> anyhow::Result<()> {
        let process = &self.processes[&Target::Nats(index)];
        process.hold();
        process.signal(Signal::TERM);
        while process.is_running() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        std::fs::remove_dir_all(self.nats_store(index)).context("emptying a NATS server")?;
        process.release();
        Ok(())
    }

    /// Waits until every process answers and a worker serves the model.
    pub(super) async fn wait_until_ready(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        while !self.is_ready().await {
            anyhow::ensure!(
                Instant::now() < deadline,
                "the product is not ready after {} s; logs of the processes:\n{}",
                READY_TIMEOUT.as_secs(),
                self.log_tails()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    async fn is_ready(&self) -> bool {
        let ready = async |address: SocketAddr| {
            let answer = self.http.get(format!("http://{address}/readyz")).send().await;
            answer.is_ok_and(|answer| answer.status().is_success())
        };
        let models = async || {
            let answer = self
                .http
                .get(format!("{}/v1/models", self.gateway(0)))
                .send()
                .await
                .ok()?;
            answer.text().await.ok()
        };
        let listening = self.gateways.iter().chain(&self.monitors);
        join_all(listening.map(|address| ready(*address)))
            .await
            .into_iter()
            .all(|ready| ready)
            && models().await.is_some_and(|models| models.contains("default"))
    }

    /// Returns the last lines of every log.
    pub(super) fn log_tails(&self) -> String {
        let tail = |(target, process): (&Target, &Process)| {
            let log = process.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(8)..].join("\n");
            format!("--- {target}\n{last}\n")
        };
        self.processes.iter().map(tail).collect()
    }

    /// Keeps the folder with the logs and returns its path.
    pub(super) fn keep_folder(&mut self) -> &Path {
        self.folder.disable_cleanup(true);
        self.folder.path()
    }
}
