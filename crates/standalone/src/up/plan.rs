//! What is to be started where; refuses what can't work before anything is fetched or started.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use precis_installer::Installer;
use precis_runtime::Config;
use precis_runtime::config::{ConfigArgs, EngineChoice};

use super::{PATIENCE, PATIENCE_FOR_A_WORKER};
use crate::client::reachable;

/// Least free space on the data folder's disk with which it makes sense to start.
const LEAST_FREE_BYTES: u64 = 512 << 20;

/// What is to be started where.
pub(super) struct Plan {
    /// Data, configuration of the servers, logs.
    pub(super) data_dir: PathBuf,
    /// Where NATS listens, if it is to be started.
    pub(super) nats: Option<SocketAddr>,
    /// Where ClickHouse listens, if it is to be started.
    pub(super) clickhouse: Option<SocketAddr>,
    /// Admin address of each worker.
    pub(super) workers: Vec<SocketAddr>,
    /// Whether the monitor is to be started.
    pub(super) monitor: bool,
    /// The configuration arguments of this process, handed on to every role.
    pub(super) config_args: ConfigArgs,
}

/// The address of a server on this machine that `url` names; none when it is elsewhere.
fn on_this_machine(setting: &str, url: &str, default_port: u16) -> anyhow::Result<Option<SocketAddr>> {
    let url = if url.contains("://") {
        url.to_owned()
    } else {
        format!("nats://{url}")
    };
    let parsed: reqwest::Url = url.parse().with_context(|| format!("{setting} is no URL"))?;
    let here = ["localhost", "127.0.0.1", "[::1]"].contains(&parsed.host_str().unwrap_or_default());
    if here && (!parsed.username().is_empty() || parsed.password().is_some()) {
        bail!(
            "{setting}: for a server that is started here, give the user and password as settings of their own, not in the URL"
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
    /// Reads the plan off the configuration.
    pub(super) fn make(config: &Config, config_args: &ConfigArgs) -> anyhow::Result<Self> {
        let settings = &config.standalone;
        if config.api.engine == EngineChoice::Local {
            bail!(
                "api.engine = local is a gateway without a queue, and this starts a queue with its workers; `precis api --engine \
                 local` is that gateway alone"
            );
        }
        let nats = if settings.start_nats && !config.nats.url.expose().contains(',') {
            on_this_machine("nats.url", config.nats.url.expose(), 4222)?
        } else {
            None
        };
        let clickhouse = if settings.start_clickhouse {
            on_this_machine("clickhouse.url", config.clickhouse.url.expose(), 8123)?
        } else {
            None
        };
        let first = config.worker.admin_listen;
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

    /// Where configuration files of the servers are written.
    pub(super) fn run_dir(&self) -> PathBuf {
        self.data_dir.join("run")
    }

    /// Where the logs are.
    pub(super) fn log_dir(&self) -> PathBuf {
        self.data_dir.join("logs")
    }

    /// Refuses a disk that is about to be full.
    pub(super) fn check_disk(&self) -> anyhow::Result<()> {
        let free = free_bytes(&self.data_dir)?;
        if free < LEAST_FREE_BYTES {
            bail!(
                "the disk with {} is full: {} MiB are free and {} MiB are needed to start; free some space, or choose another folder with --data-dir",
                self.data_dir.display(),
                free >> 20,
                LEAST_FREE_BYTES >> 20
            );
        }
        Ok(())
    }

    /// Refuses a port that is taken, by the name of its setting.
    pub(super) async fn check_ports(&self, config: &Config) -> anyhow::Result<()> {
        let mut wanted = vec![(
            "api.listen".to_owned(),
            config.api.listen,
            "choose another with --set api.listen=HOST:PORT",
        )];
        if self.monitor {
            let advice = "choose another with --set monitor.listen=HOST:PORT";
            wanted.push(("monitor.listen".to_owned(), config.monitor.listen, advice));
        }
        if let Some(address) = self.nats {
            let advice = "to use the server that is there, --set standalone.start_nats=false; else choose another port with --set nats.url=nats://127.0.0.1:PORT";
            wanted.push(("nats.url".into(), address, advice));
            if let Some(port) = config.standalone.nats_monitor_port {
                let advice = "choose another with --set standalone.nats_monitor_port=PORT";
                let address = SocketAddr::from(([127, 0, 0, 1], port));
                wanted.push(("standalone.nats_monitor_port".into(), address, advice));
            }
        }
        if let Some(address) = self.clickhouse {
            let advice = "to use the server that is there, --set standalone.start_clickhouse=false; else choose another port with --set clickhouse.url=http://127.0.0.1:PORT";
            wanted.push(("clickhouse.url".into(), address, advice));
        }
        for (index, address) in self.workers.iter().enumerate() {
            let advice = "choose another with --set worker.admin_listen=HOST:PORT";
            wanted.push((
                format!("worker.admin_listen (worker {})", index + 1),
                *address,
                advice,
            ));
        }
        for (setting, address, advice) in wanted {
            if let Err(error) = tokio::net::TcpListener::bind(address).await {
                if error.kind() == std::io::ErrorKind::AddrInUse {
                    bail!(
                        "port {} of {setting} ({address}) is taken by another program; {advice}",
                        address.port()
                    );
                }
                bail!("{setting} ({address}) can't be used: {error}; {advice}");
            }
        }
        Ok(())
    }

    /// Finds or fetches the servers.
    pub(super) fn installer(&self, config: &Config) -> Installer {
        let settings = &config.standalone;
        let mut installer = Installer::new(&settings.local_dir);
        installer.offline = settings.offline;
        installer.nats_server.clone_from(&settings.nats_server);
        installer.clickhouse.clone_from(&settings.clickhouse);
        installer
    }

    /// Name, health URL and patience of every role.
    pub(super) fn health(&self, config: &Config) -> Vec<(String, String, Duration)> {
        let ready = |address: SocketAddr| format!("http://{}/readyz", reachable(address));
        let mut health = Vec::new();
        if self.monitor {
            health.push(("monitor".to_owned(), ready(config.monitor.listen), PATIENCE));
        }
        for (index, address) in self.workers.iter().enumerate() {
            health.push((
                format!("worker-{}", index + 1),
                ready(*address),
                PATIENCE_FOR_A_WORKER,
            ));
        }
        health.push(("api".to_owned(), ready(config.api.listen), PATIENCE));
        health
    }
}

fn free_bytes(folder: &Path) -> anyhow::Result<u64> {
    let disk = rustix::fs::statvfs(folder).with_context(|| folder.display().to_string())?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_on_this_machine_is_started() {
        let at = |url: &str| {
            on_this_machine("nats.url", url, 4222)
                .unwrap()
                .map(|a| a.to_string())
        };
        assert_eq!(at("nats://127.0.0.1"), Some("127.0.0.1:4222".into()));
        assert_eq!(at("nats://localhost:5000"), Some("127.0.0.1:5000".into()));
        assert!(on_this_machine("nats.url", "nats://me:pw@localhost:5000", 4222).is_err());
        assert_eq!(at("http://[::1]:8123"), Some("[::1]:8123".into()));
        assert_eq!(at("nats://queue.example:4222"), None);
        assert_eq!(at("nats://10.0.0.7:4222"), None);
    }

    #[test]
    fn a_gateway_without_a_queue_is_not_started_beside_one() {
        let args = ConfigArgs {
            config: None,
            quiet: false,
            overrides: vec!["api.engine=local".into()],
        };
        let config = Config::load(&args).unwrap();
        let error = Plan::make(&config, &args).err().unwrap().to_string();
        assert!(error.contains("precis api --engine local"), "{error}");
    }

    #[tokio::test]
    async fn a_taken_port_is_named_with_its_setting() {
        let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let args = ConfigArgs {
            config: None,
            quiet: false,
            overrides: vec![
                format!("api.listen={}", taken.local_addr().unwrap()),
                "standalone.start_nats=false".into(),
                "standalone.start_clickhouse=false".into(),
                "standalone.workers=0".into(),
                "monitor.listen=127.0.0.1:0".into(),
            ],
        };
        let config = Config::load(&args).unwrap();
        let plan = Plan::make(&config, &args).unwrap();
        let error = plan.check_ports(&config).await.unwrap_err().to_string();
        assert!(
            error.contains("api.listen") && error.contains("is taken"),
            "{error}"
        );
    }
}
