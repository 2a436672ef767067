//! Decides what to start at which address, and checks ports and disk space before anything is downloaded or started.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use precis_runtime::Config;
use precis_runtime::clock::Instant;
use precis_runtime::config::{ConfigArgs, EngineChoice, WorkerConfig};

use crate::client::reachable;

/// Minimum free space on the data directory's disk.
const MIN_FREE_BYTES: u64 = 512 << 20;
/// Time for the processes of a killed instance to end and free their ports.
const LEFT_OVER_TIMEOUT: Duration = Duration::from_secs(20);
/// Time for a process to become healthy.
pub(super) const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// The same for a worker, which may download and load a large model first.
const WORKER_READY_TIMEOUT: Duration = Duration::from_secs(1_800);

/// The processes to start and their addresses.
pub(super) struct Plan {
    /// Directory for data, logs and the servers' configuration files.
    pub(super) data_dir: PathBuf,
    /// Address that NATS listens on, if it is started here.
    pub(super) nats: Option<SocketAddr>,
    /// Address of ClickHouse, if it is started here.
    pub(super) clickhouse: Option<SocketAddr>,
    /// Admin address of each worker.
    pub(super) workers: Vec<SocketAddr>,
    /// Whether to start the monitor.
    pub(super) monitor: bool,
    /// The configuration arguments of this process, passed on to every role.
    pub(super) config_args: ConfigArgs,
}

/// Returns the address that `url` names if it is on this machine, `None` if the server runs elsewhere.
fn local_address(setting: &str, url: &str, default_port: u16) -> anyhow::Result<Option<SocketAddr>> {
    let url = if url.contains("://") {
        url.to_owned()
    } else {
        format!("nats://{url}")
    };
    let parsed: reqwest::Url = url.parse().with_context(|| format!("{setting} is not a URL"))?;
    let local = ["localhost", "127.0.0.1", "[::1]"].contains(&parsed.host_str().unwrap_or_default());
    if local && (!parsed.username().is_empty() || parsed.password().is_some()) {
        bail!(
            "{setting}: Precis starts this server itself, so set its user and password as separate settings, not in the URL"
        );
    }
    let port = parsed.port().unwrap_or(default_port);
    let host = parsed.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let ip = match host {
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        other => match other.parse::<IpAddr>() {
            Ok(ip) => ip,
            Err(_) => return Ok(None),
        },
    };
    Ok(ip.is_loopback().then_some(SocketAddr::new(ip, port)))
}

impl Plan {
    /// Derives the plan from the configuration.
    pub(super) fn new(config: &Config, config_args: &ConfigArgs) -> anyhow::Result<Self> {
        let settings = &config.standalone;
        if config.api.engine == EngineChoice::Local {
            bail!(
                "`precis up` starts a queue and workers, but api.engine = \"local\" runs a gateway without them; use \
                 `precis api --engine local`, or set api.engine = \"queue\""
            );
        }
        let nats = if settings.start_nats && !config.nats.url.expose().contains(',') {
            local_address("nats.url", config.nats.url.expose(), 4222)?
        } else {
            None
        };
        let nats = match (settings.nats_listen, nats) {
            (None, nats) => nats,
            (Some(listen), Some(url)) if reaches(listen, url) => Some(listen),
            (Some(listen), Some(url)) => bail!(
                "standalone.nats_listen = {listen} does not include nats.url ({url}), which the processes on this machine \
                 connect to; use 0.0.0.0:{} to listen on both",
                url.port()
            ),
            (Some(_), None) => bail!(
                "standalone.nats_listen has no effect, because nats.url names a server that is not started here; use \
                 nats.url = \"nats://127.0.0.1:4222\""
            ),
        };
        let clickhouse = if settings.start_clickhouse {
            local_address("clickhouse.url", config.clickhouse.url.expose(), 8123)?
        } else {
            None
        };
        let first = config.worker.admin_listen;
        let first = first.unwrap_or_else(WorkerConfig::preferred_admin_listen);
        let workers = (0..settings.workers)
            .map(|index| {
                let port = u16::try_from(index)
                    .ok()
                    .and_then(|index| first.port().checked_add(index));
                port.map(|port| SocketAddr::new(first.ip(), port))
            })
            .collect::<Option<Vec<_>>>()
            .with_context(|| format!("standalone.workers: no ports for {} workers", settings.workers))?;
        let data_dir = std::path::absolute(&settings.data_dir)
            .with_context(|| format!("standalone.data_dir {}", settings.data_dir.display()))?;
        Ok(Self {
            data_dir,
            nats,
            clickhouse,
            workers,
            monitor: settings.start_monitor,
            config_args: config_args.clone(),
        })
    }

    /// Returns the directory of the servers' configuration files.
    pub(super) fn run_dir(&self) -> PathBuf {
        self.data_dir.join("run")
    }

    /// Returns the directory of the logs.
    pub(super) fn log_dir(&self) -> PathBuf {
        self.data_dir.join("logs")
    }

    /// Fails if the disk is almost full.
    pub(super) fn check_disk(&self) -> anyhow::Result<()> {
        let free = free_bytes(&self.data_dir)?;
        if free < MIN_FREE_BYTES {
            bail!(
                "the disk of {} has {} MiB free, but starting needs {} MiB; free some space, or choose another directory with --data-dir",
                self.data_dir.display(),
                free >> 20,
                MIN_FREE_BYTES >> 20
            );
        }
        Ok(())
    }

    /// Fails if a port is taken, and names its setting. Moves workers whose port nobody chose to free ports.
    ///
    /// With `patient`, waits for the ports first: the processes of a killed instance are about to end.
    pub(super) async fn check_ports(&mut self, config: &Config, patient: bool) -> anyhow::Result<()> {
        let deadline = Instant::now()
            + if patient {
                LEFT_OVER_TIMEOUT
            } else {
                Duration::ZERO
            };
        let wanted = self.addresses(config);
        for (setting, address, advice) in &wanted {
            while let Err(error) = tokio::net::TcpListener::bind(address).await {
                if error.kind() != ErrorKind::AddrInUse {
                    bail!("{setting} ({address}) can't be used: {error}; {advice}");
                }
                if Instant::now() >= deadline {
                    bail!(
                        "port {} of {setting} ({address}) is taken by another process; {advice}",
                        address.port()
                    );
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        if config.worker.admin_listen.is_none() {
            let mut taken: Vec<SocketAddr> = wanted.into_iter().map(|(_, address, _)| address).collect();
            for worker in &mut self.workers {
                *worker = free_from(*worker, &taken).await?;
                taken.push(*worker);
            }
        }
        Ok(())
    }

    /// Returns the addresses to listen on, each with its setting and what to do if it is taken.
    fn addresses(&self, config: &Config) -> Vec<(String, SocketAddr, &'static str)> {
        let mut wanted = vec![(
            "api.listen".to_owned(),
            config.api.listen,
            "choose another port with --set api.listen=HOST:PORT",
        )];
        if self.monitor {
            let advice = "choose another port with --set monitor.listen=HOST:PORT";
            wanted.push(("monitor.listen".to_owned(), config.monitor.listen, advice));
        }
        if let Some(address) = self.nats {
            let advice = "use the running server with --set standalone.start_nats=false, or choose another port with --set nats.url=nats://127.0.0.1:PORT";
            wanted.push(("nats.url".into(), address, advice));
            if let Some(port) = config.standalone.nats_monitor_port {
                let advice = "choose another port with --set standalone.nats_monitor_port=PORT";
                let address = SocketAddr::from(([127, 0, 0, 1], port));
                wanted.push(("standalone.nats_monitor_port".into(), address, advice));
            }
        }
        if let Some(address) = self.clickhouse {
            let advice = "use the running server with --set standalone.start_clickhouse=false, or choose another port with --set clickhouse.url=http://127.0.0.1:PORT";
            wanted.push(("clickhouse.url".into(), address, advice));
        }
        let workers = match config.worker.admin_listen {
            Some(_) => self.workers.as_slice(),
            None => &[],
        };
        for (index, address) in workers.iter().enumerate() {
            let advice = "choose another port with --set worker.admin_listen=HOST:PORT";
            wanted.push((
                format!("worker.admin_listen (worker {})", index + 1),
                *address,
                advice,
            ));
        }
        wanted
    }

    /// Returns the name, readiness URL and startup timeout of every role.
    pub(super) fn health_checks(&self, config: &Config) -> Vec<(String, String, Duration)> {
        let ready = |address: SocketAddr| format!("http://{}/readyz", reachable(address));
        let mut checks = Vec::new();
        if self.monitor {
            checks.push(("monitor".to_owned(), ready(config.monitor.listen), READY_TIMEOUT));
        }
        for (index, address) in self.workers.iter().enumerate() {
            checks.push((
                format!("worker-{}", index + 1),
                ready(*address),
                WORKER_READY_TIMEOUT,
            ));
        }
        checks.push(("api".to_owned(), ready(config.api.listen), READY_TIMEOUT));
        checks
    }
}

/// Returns whether a server that listens on `listen` is reachable at `address`.
fn reaches(listen: SocketAddr, address: SocketAddr) -> bool {
    let every_address = listen.ip().is_unspecified() && (listen.is_ipv6() || address.is_ipv4());
    listen.port() == address.port() && (every_address || listen.ip() == address.ip())
}

/// Returns the first address from `first` upwards that is free and not in `taken`.
async fn free_from(first: SocketAddr, taken: &[SocketAddr]) -> anyhow::Result<SocketAddr> {
    for port in first.port()..=u16::MAX {
        let address = SocketAddr::new(first.ip(), port);
        if !taken.contains(&address) && tokio::net::TcpListener::bind(address).await.is_ok() {
            return Ok(address);
        }
    }
    bail!(
        "no port from {first} upwards is free for a worker; choose one with --set worker.admin_listen=HOST:PORT"
    )
}

/// Returns the bytes that are free for unprivileged users.
fn free_bytes(folder: &Path) -> anyhow::Result<u64> {
    let disk = rustix::fs::statvfs(folder).with_context(|| folder.display().to_string())?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_urls_are_local() {
        let at = |url: &str| {
            local_address("nats.url", url, 4222)
                .unwrap()
                .map(|a| a.to_string())
        };
        assert_eq!(at("nats://127.0.0.1"), Some("127.0.0.1:4222".into()));
        assert_eq!(at("nats://localhost:5000"), Some("127.0.0.1:5000".into()));
        assert!(local_address("nats.url", "nats://me:pw@localhost:5000", 4222).is_err());
        assert_eq!(at("http://[::1]:8123"), Some("[::1]:8123".into()));
        assert_eq!(at("nats://queue.example:4222"), None);
        assert_eq!(at("nats://10.0.0.7:4222"), None);
    }

    #[test]
    fn the_local_engine_is_rejected_with_a_hint() {
        let args = ConfigArgs {
            overrides: vec!["api.engine=local".into()],
            ..ConfigArgs::default()
        };
        let config = Config::load(&args).unwrap();
        let error = Plan::new(&config, &args).err().unwrap().to_string();
        assert!(error.contains("precis api --engine local"), "{error}");
    }

    #[test]
    fn nats_listens_on_the_configured_address_if_it_includes_the_url() {
        let nats = |settings: &[&str]| {
            let args = ConfigArgs {
                overrides: settings.iter().map(|setting| (*setting).to_owned()).collect(),
                ..ConfigArgs::default()
            };
            let config = Config::load(&args).unwrap();
            Plan::new(&config, &args).map(|plan| plan.nats.map(|address| address.to_string()))
        };
        assert_eq!(nats(&[]).unwrap().as_deref(), Some("127.0.0.1:4222"));
        let token = "nats.token=secret";
        let open = nats(&[token, "standalone.nats_listen=0.0.0.0:4222"]);
        assert_eq!(open.unwrap().as_deref(), Some("0.0.0.0:4222"));
        for (settings, part) in [
            (
                ["standalone.nats_listen=0.0.0.0:4223", token],
                "does not include nats.url",
            ),
            (["standalone.nats_listen=10.0.0.5:4222", token], "0.0.0.0:4222"),
            (
                [
                    "standalone.nats_listen=127.0.0.1:4222",
                    "nats.url=nats://queue.example",
                ],
                "not started here",
            ),
        ] {
            let error = nats(&settings).unwrap_err().to_string();
            assert!(error.contains(part), "{settings:?}: {error}");
        }
    }

    #[tokio::test]
    async fn error_for_a_taken_port_names_its_setting() {
        let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let args = ConfigArgs {
            overrides: vec![
                format!("api.listen={}", taken.local_addr().unwrap()),
                "standalone.start_nats=false".into(),
                "standalone.start_clickhouse=false".into(),
                "standalone.workers=0".into(),
                "monitor.listen=127.0.0.1:0".into(),
            ],
            ..ConfigArgs::default()
        };
        let config = Config::load(&args).unwrap();
        let mut plan = Plan::new(&config, &args).unwrap();
        let error = plan.check_ports(&config, false).await.unwrap_err().to_string();
        assert!(
            error.contains("api.listen") && error.contains("is taken"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn workers_without_a_chosen_port_get_free_ones() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let taken = listener.local_addr().unwrap();
        let free = free_from(taken, &[]).await.unwrap();
        let next = free_from(taken, &[free]).await.unwrap();
        assert!(taken.port() < free.port() && free.port() < next.port());
    }
}
