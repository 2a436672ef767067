//! `precis bench cluster`: a cluster of three NATS servers under load. Its stream leaders are killed, all servers and roles
//! restart one after another, and a server loses its disk. Nothing may be lost or done twice.

use std::fmt;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream;
use clap::Args;
use precis_runtime::boot::{self, RoleContext, RunArgs};
use precis_runtime::clock::Instant;
use precis_runtime::config::ConfigArgs;
use precis_schemas::topology::{JOBS, RESULTS, TEXTS, TopologyLimits, streams};
use rustix::process::Signal;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::clients::Clients;
use super::plan::{Load, Target};
use super::testbed::{Layout, Testbed};
use super::verify;

/// Time for which a killed or stopped process stays down.
const DOWN: Duration = Duration::from_secs(2);
/// Load between two faults.
const CALM: Duration = Duration::from_secs(2);
/// The longest wait until every stream has a leader and every server all messages.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(180);
/// How often that is checked.
const CHECK: Duration = Duration::from_millis(250);
/// Streams whose leaders are killed in turn.
const STREAMS: [&str; 3] = [JOBS, RESULTS, TEXTS];
/// Seed of the load.
const SEED: u64 = 1;

/// Arguments of `precis bench cluster`.
#[derive(Debug, Args)]
pub struct ClusterBench {
    /// How often the leader of a stream is killed
    #[arg(long, default_value_t = 10)]
    kills: usize,
    /// Submissions per second
    #[arg(long, default_value_t = 10.0)]
    rate: f64,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// What was done, and what was found afterwards.
#[derive(Debug, Default, Serialize)]
struct ClusterReport {
    /// Stream leaders that were killed.
    leaders_killed: usize,
    /// Processes that were stopped and started again, one after another.
    restarted: usize,
    /// Servers that lost everything that they had stored.
    emptied: usize,
    /// Accepted jobs.
    jobs: usize,
    /// Accepted jobs without a result or a row.
    lost: u64,
    /// Jobs with several rows, and submissions with several jobs.
    doubled: u64,
    /// Messages that were never finished.
    stranded: u64,
    /// Webhooks that were neither delivered nor dead-lettered.
    webhooks_lost: u64,
    /// Submissions that no gateway accepted.
    refused: usize,
    /// The longest time in seconds in which nothing was accepted.
    longest_pause_s: f64,
    /// The longest time in seconds until a server that was killed or emptied had all messages again.
    longest_recovery_s: f64,
    #[serde(skip)]
    problems: Vec<String>,
}

impl ClusterReport {
    fn is_clean(&self) -> bool {
        self.lost + self.doubled + self.stranded + self.webhooks_lost == 0 && self.refused == 0
    }

    fn recovered(&mut self, after: Duration) {
        self.longest_recovery_s = self.longest_recovery_s.max(rounded(after));
    }
}

impl fmt::Display for ClusterReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "  {problem}")?;
        }
        writeln!(
            f,
            "{} leaders killed, {} processes restarted, {} servers emptied; {} jobs: {} lost, {} doubled, {} stranded, \
             {} webhooks lost, {} refused; longest pause {} s, longest recovery {} s",
            self.leaders_killed,
            self.restarted,
            self.emptied,
            self.jobs,
            self.lost,
            self.doubled,
            self.stranded,
            self.webhooks_lost,
            self.refused,
            self.longest_pause_s,
            self.longest_recovery_s
        )
    }
}

impl ClusterBench {
    pub(crate) fn run(self) -> ExitCode {
        let mut config = self.config.clone();
        config.quiet = true;
        let run = RunArgs {
            config,
            stop_with_parent: false,
        };
        boot::run_interruptible(&run, |context| async move {
            Box::pin(self.run_cluster(&context)).await
        })
    }

    async fn run_cluster(&self, context: &RoleContext) -> anyhow::Result<()> {
        anyhow::ensure!(self.rate > 0.0, "--rate must be above 0");
        let testbed = Arc::new(Testbed::start(&context.config, Layout::CLUSTER).await?);
        let client = async_nats::ConnectOptions::new()
            .max_reconnects(None)
            .connect(testbed.nats())
            .await
            .context("connecting to NATS")?;
        let cluster = Cluster {
            testbed,
            jetstream: jetstream::new(client),
        };
        let report = Box::pin(self.run_on(&cluster)).await;
        if !report.as_ref().is_ok_and(ClusterReport::is_clean) {
            eprintln!("{}", cluster.testbed.log_tails());
        }
        let report = report?;
        crate::print_report(&report, self.json)?;
        anyhow::ensure!(report.is_clean(), "a promise was broken");
        Ok(())
    }

    async fn run_on(&self, cluster: &Cluster) -> anyhow::Result<ClusterReport> {
        cluster.wait_until_whole().await?;
        let tag = format!("cluster-{}", std::process::id());
        let clients = Clients::new(cluster.testbed.clone(), cluster.jetstream.clone(), tag.clone());
        let (period, stop) = (Duration::from_secs_f64(1.0 / self.rate), CancellationToken::new());
        let submitting = tokio::spawn({
            let stop = stop.clone();
            async move { clients.submit_until(Load::new(SEED), period, &stop).await }
        });
        let mut report = ClusterReport::default();
        let outcome = self.break_servers(cluster, &mut report).await;
        stop.cancel();
        let learned = submitting.await.context("the clients")?;
        outcome?;
        cluster.testbed.wait_until_ready().await?;
        let found = verify::verify(&cluster.testbed, &cluster.jetstream, &tag, &learned, false).await?;
        let report = ClusterReport {
            jobs: learned.jobs.len(),
            lost: found.lost,
            doubled: found.doubled,
            stranded: found.stranded,
            webhooks_lost: found.webhooks_lost,
            refused: learned.refused.len(),
            longest_pause_s: rounded(learned.longest_pause),
            problems: found.problems.into_iter().chain(learned.refused).collect(),
            ..report
        };
        Ok(report)
    }

    async fn break_servers(&self, cluster: &Cluster, report: &mut ClusterReport) -> anyhow::Result<()> {
        let testbed = &cluster.testbed;
        for kill in 0..self.kills {
            tokio::time::sleep(CALM).await;
            let stream = STREAMS[kill % STREAMS.len()];
            let leader = cluster.leader(stream).await?;
            println!("killing {leader}, the leader of {stream}");
            testbed.end(leader, Signal::KILL, DOWN).await;
            report.recovered(cluster.wait_until_whole().await?);
            report.leaders_killed += 1;
        }
        for server in (0..testbed.nats().len()).map(Target::Nats) {
            println!("restarting {server}");
            testbed.end(server, Signal::TERM, DOWN).await;
            report.recovered(cluster.wait_until_whole().await?);
            report.restarted += 1;
        }
        for role in testbed.roles() {
            println!("restarting {role}");
            testbed.end(role, Signal::TERM, DOWN).await;
            testbed.wait_until_ready().await?;
            report.restarted += 1;
        }
        let index = testbed.nats().len() - 1;
        println!("emptying {}", Target::Nats(index));
        testbed.empty(index).await?;
        report.recovered(cluster.wait_until_whole().await?);
        report.emptied += 1;
        tokio::time::sleep(CALM).await;
        Ok(())
    }
}

/// The servers, and a client of them.
struct Cluster {
    testbed: Arc<Testbed>,
    jetstream: jetstream::Context,
}

impl Cluster {
    /// Returns the server that leads a stream.
    async fn leader(&self, stream: &str) -> anyhow::Result<Target> {
        let deadline = Instant::now() + WHOLE_TIMEOUT;
        loop {
            let found = self.jetstream.get_stream(stream).await.ok();
            let name = found.and_then(|stream| stream.cached_info().cluster.as_ref()?.leader.clone());
            let servers = (0..self.testbed.nats().len()).map(Target::Nats);
            let leads = |server: &Target| name.as_deref() == Some(server.to_string().as_str());
            if let Some(leader) = servers.into_iter().find(leads) {
                return Ok(leader);
            }
            anyhow::ensure!(Instant::now() < deadline, "{stream} has no leader");
            tokio::time::sleep(CHECK).await;
        }
    }

    /// Waits until every stream has a leader, and every server all of its messages. Returns how long that took.
    async fn wait_until_whole(&self) -> anyhow::Result<Duration> {
        let begin = Instant::now();
        for spec in streams(&TopologyLimits::default()) {
            while !self.is_whole(spec.name).await {
                anyhow::ensure!(
                    begin.elapsed() < WHOLE_TIMEOUT,
                    "{} is not on all servers after {} s",
                    spec.name,
                    WHOLE_TIMEOUT.as_secs()
                );
                tokio::time::sleep(CHECK).await;
            }
        }
        Ok(begin.elapsed())
    }

    async fn is_whole(&self, stream: &str) -> bool {
        let Ok(stream) = self.jetstream.get_stream(stream).await else {
            return false;
        };
        let Some(cluster) = &stream.cached_info().cluster else {
            return false;
        };
        let followers = self.testbed.nats().len() - 1;
        let follows = |peer: &jetstream::stream::PeerInfo| peer.current && !peer.offline;
        cluster.leader.is_some()
            && cluster.replicas.len() == followers
            && cluster.replicas.iter().all(follows)
    }
}

/// Returns seconds with one decimal.
fn rounded(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}
