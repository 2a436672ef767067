//! `precis bench faults`: random mixes of faults under load, and a check of every promise after each.
//!
//! A run submits about 40 jobs, uploads and broken messages in six seconds, while processes are killed, stopped and
//! frozen, connections to NATS are cut, half-open or slow, and clocks jump. Then everything is healed, and the product
//! must finish all that it accepted: once, and with nothing left behind. A seed and the number of a run determine what
//! happens when, so a run can be repeated; its operations are printed.
//!
//! | file | what |
//! | --- | --- |
//! | `plan.rs` | what happens in a run |
//! | `cluster.rs` | `precis bench cluster`: a NATS cluster that loses servers |
//! | `random.rs` | random numbers that a seed determines |
//! | `testbed.rs`, `nats_node.rs` | the product: its processes, proxies and addresses |
//! | `process.rs`, `proxy.rs`, `receiver.rs` | one process, one proxy, the receiver of webhooks |
//! | `clients.rs` | the clients that submit work |
//! | `verify.rs` | what must hold after a run |
//! | `report.rs` | the results of runs, and the file that keeps them |

mod clients;
mod cluster;
mod nats_node;
mod plan;
mod process;
mod proxy;
mod random;
mod receiver;
mod report;
mod testbed;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use async_nats::jetstream;
use clap::Args;
use futures::future::join_all;
use precis_runtime::boot::{self, RoleContext, RunArgs};
use precis_runtime::clock::Instant;
use precis_runtime::config::ConfigArgs;

use self::clients::Clients;
use self::plan::Plan;
use self::report::{Records, RunRecord, Summary};
use self::testbed::{Layout, Testbed};

pub(crate) use self::cluster::ClusterBench;

/// Arguments of `precis bench faults`.
#[derive(Debug, Args)]
pub struct FaultBench {
    /// Number of runs
    #[arg(long, default_value_t = 20)]
    runs: u64,
    /// Number of the first run
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Seed of all runs
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// File with one line of JSON per finished run. Runs that it contains are not repeated
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Stop after this many new runs
    #[arg(long, value_name = "RUNS")]
    chunk: Option<u64>,
    /// Keep the shipped ack waits instead of short ones
    #[arg(long)]
    shipped_defaults: bool,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

impl FaultBench {
    pub(crate) fn run(self) -> ExitCode {
        let mut config = self.config.clone();
        config.quiet = true;
        let run = RunArgs {
            config,
            stop_with_parent: false,
        };
        boot::run_interruptible(
            &run,
            |context| async move { Box::pin(self.run_all(&context)).await },
        )
    }

    async fn run_all(&self, context: &RoleContext) -> anyhow::Result<()> {
        let mut records = Records::open(self.state.as_deref(), self.seed, self.shipped_defaults)?;
        let missing: Vec<u64> = (self.first..self.first + self.runs)
            .filter(|run| !records.contains(*run))
            .take(usize::try_from(self.chunk.unwrap_or(u64::MAX)).unwrap_or(usize::MAX))
            .collect();
        if !missing.is_empty() {
            let testbed = Testbed::start(&context.config, Layout::single(self.shipped_defaults)).await?;
            self.run_on(testbed, &missing, &mut records).await?;
        }
        let summary = Summary::of(records.runs(self.first..self.first + self.runs));
        print!("{summary}");
        if self.json {
            println!("{}", serde_json::to_string(&summary)?);
        }
        anyhow::ensure!(summary.is_clean(), "a promise was broken");
        Ok(())
    }

    async fn run_on(&self, testbed: Testbed, runs: &[u64], records: &mut Records) -> anyhow::Result<()> {
        let testbed = Arc::new(testbed);
        let client = async_nats::ConnectOptions::new()
            .max_reconnects(None)
            .connect(testbed.nats())
            .await
            .context("connecting to NATS")?;
        let jetstream = jetstream::new(client);
        let mut failed = false;
        for run in runs {
            let record = Box::pin(self.run_one(&testbed, &jetstream, *run)).await;
            let record = record.with_context(|| format!("run {run}"))?;
            failed |= !record.is_clean();
            records.add(record)?;
        }
        drop(jetstream);
        if failed && let Some(mut testbed) = Arc::into_inner(testbed) {
            eprintln!("the logs are kept in {}", testbed.keep_folder().display());
        }
        Ok(())
    }

    async fn run_one(
        &self,
        testbed: &Arc<Testbed>,
        jetstream: &jetstream::Context,
        run: u64,
    ) -> anyhow::Result<RunRecord> {
        let plan = Plan::new(self.seed, run);
        println!("run {run} of seed {}:\n{plan}", self.seed);
        let tag = format!("faults-{}-{run}-{}", self.seed, std::process::id());
        let restarts = testbed.restarts();
        let clients = Clients::new(testbed.clone(), jetstream.clone(), tag.clone());
        let start = Instant::now();
        let faults = async {
            let faults = plan.faults.iter().map(async |fault| {
                tokio::time::sleep_until(start + fault.begins).await;
                testbed.apply(fault).await
            });
            let outcome: anyhow::Result<()> = join_all(faults).await.into_iter().collect();
            outcome.map(|()| Instant::now())
        };
        let (learned, healed) = tokio::join!(clients.submit_all(&plan.submissions), faults);
        let healed = healed?;
        testbed.wait_until_ready().await?;
        let ready_after = healed.elapsed();
        let findings = verify::verify(testbed, jetstream, &tag, &learned, self.shipped_defaults).await?;
        let record = RunRecord {
            seed: self.seed,
            run,
            shipped_defaults: self.shipped_defaults,
            faults: plan.faults.iter().map(|fault| fault.what.to_string()).collect(),
            jobs: (learned.jobs.len() + learned.unreadable.len()) as u64,
            lost: findings.lost,
            doubled: findings.doubled,
            stranded: findings.stranded,
            webhooks_lost: findings.webhooks_lost,
            refused: learned.refused.len() as u64,
            leaking: findings.leaking,
            recovery_s: ((ready_after + findings.took).as_secs_f64() * 10.0).round() / 10.0,
            restarts: testbed.restarts() - restarts,
            open_files: testbed.open_files().values().copied().max().unwrap_or_default() as u64,
            problems: findings.problems.into_iter().chain(learned.refused).collect(),
        };
        println!("{record}");
        if !record.is_clean() {
            eprintln!("{}", testbed.log_tails());
        }
        Ok(record)
    }
}
