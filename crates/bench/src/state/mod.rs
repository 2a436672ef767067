//! `precis bench state`: the cost of a job when millions of others are stored.
//!
//! It starts NATS and a gateway of its own, but no workers. Bare NATS clients fill the streams `JOBS` and `RESULTS`. Before the fill and at each fifth of it, it measures publishes, look-ups, the processor time of the server
//! for each, and the server's memory. At the end it kills the server and measures how long the restart takes.
//!
//! | file | what |
//! | --- | --- |
//! | `messages.rs` | the messages, and operations on one |
//! | `load.rs` | many operations at once, with their latencies |
//! | `report.rs` | the tables and the ratios |

mod load;
mod messages;
mod report;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use clap::Args;
use precis_runtime::boot::RoleContext;
use precis_runtime::clock::Instant;
use precis_runtime::config::ConfigArgs;
use precis_schemas::topology::{JOBS, RESULTS};
use rustix::process::{Pid, Signal, kill_process};

use self::load::{run, run_unmeasured};
use self::messages::Messages;
use self::report::{Report, Step, ratios};
use crate::print_report;
use crate::processes::{nats_server, resident_megabytes};
use crate::product::{Product, run_with_product};

/// Measurements while a stream is filled, besides the one of the empty stream.
const STEPS: u64 = 5;
/// The newest messages, which clients read most: they poll for a result soon after it is stored.
const RECENT: u64 = 50_000;
/// Maximum wait for the server after it was killed.
const RESTART_TIMEOUT: Duration = Duration::from_secs(300);

/// Arguments of `precis bench state`.
#[derive(Debug, Args)]
pub struct StateBench {
    /// Jobs to queue
    #[arg(long, default_value_t = 1_000_000)]
    jobs: u64,
    /// Results to store
    #[arg(long, default_value_t = 5_000_000)]
    results: u64,
    /// Size of each job and each result, in bytes
    #[arg(long, default_value_t = 1_000)]
    bytes: usize,
    /// Tenants to which the jobs belong
    #[arg(long, default_value_t = 1_000)]
    tenants: u64,
    /// Operations of each kind per measurement
    #[arg(long, default_value_t = 10_000)]
    samples: u64,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

impl StateBench {
    pub(crate) fn run<P: Product>(self) -> ExitCode {
        let room = |count: u64| count + 20 * self.samples;
        // A stored message takes its body, its subject and headers.
        let room_bytes = |count: u64| room(count) * (self.bytes as u64 + 500);
        let defaults = vec![
            "standalone.start_monitor=false".to_owned(),
            "standalone.start_clickhouse=false".to_owned(),
            "standalone.workers=0".to_owned(),
            format!("queue.max_jobs={}", room(self.jobs)),
            format!("queue.max_bytes={}", room_bytes(self.jobs)),
            // All jobs have one subject.
            "queue.tenant_share=1".to_owned(),
            format!("queue.max_result_bytes={}", room_bytes(self.results)),
        ];
        run_with_product::<P, _>(
            &self.config,
            defaults,
            async |context| self.measure(context).await,
            |report| print_report(report, self.json),
        )
    }

    async fn measure(&self, context: &RoleContext) -> anyhow::Result<Report> {
        let queue = context.queue("precis-bench").await?;
        let messages = Messages::new(queue.jetstream.clone(), self.bytes, self.tenants)?;
        let jobs = self.fill(
            &messages,
            "jobs",
            self.jobs,
            Messages::publish_job,
            Messages::read_job,
        );
        let jobs = jobs.await?;
        let consumer_ms = create_consumer(&queue.jetstream, &messages).await?;
        let (publish, read) = (Messages::publish_result, Messages::read_result);
        let results = self
            .fill(&messages, "results", self.results, publish, read)
            .await?;
        let mut disk_megabytes = 0.0;
        for stream in [JOBS, RESULTS] {
            let stream = queue.jetstream.get_stream(stream).await?;
            disk_megabytes += stream.cached_info().state.bytes as f64 / 1e6;
        }
        let restart_seconds_after_sigterm = restart(&queue.jetstream, Signal::TERM).await?;
        let restart_seconds_after_sigkill = restart(&queue.jetstream, Signal::KILL).await?;
        Ok(Report {
            ratios: ratios(&jobs, &results),
            jobs,
            results,
            consumer_ms,
            disk_megabytes,
            restart_seconds_after_sigterm,
            restart_seconds_after_sigkill,
            server_megabytes_after_restart: server_megabytes(),
        })
    }

    /// Fills an empty stream with `count` messages, numbered from 0, and measures at each step.
    async fn fill(
        &self,
        messages: &Messages,
        name: &str,
        count: u64,
        publish: impl AsyncFn(&Messages, u64) -> anyhow::Result<()>,
        read: impl AsyncFn(&Messages, u64) -> anyhow::Result<()>,
    ) -> anyhow::Result<Vec<Step>> {
        // The first operations of a connection and of a stream are slower.
        let mut stored = self.samples / 10;
        run_unmeasured(messages, &publish, 0..stored).await?;
        let mut steps = Vec::new();
        for step in 0..=STEPS {
            let target = count * step / STEPS;
            let before = stored.max(target.saturating_sub(self.samples));
            run_unmeasured(messages, &publish, stored..before).await?;
            stored = before + self.samples;
            let cost = run(messages, &publish, before..stored).await?;
            let lookup = run(messages, &read, spread(0..stored, self.samples)).await?;
            let recent = stored.saturating_sub(RECENT)..stored;
            let recent_lookup = run(messages, &read, spread(recent, self.samples)).await?;
            eprintln!("{name}: {stored} stored");
            steps.push(Step {
                stored,
                publish: cost,
                lookup,
                recent_lookup,
                server_megabytes: server_megabytes(),
            });
        }
        Ok(steps)
    }
}

/// Returns `count` numbers spread evenly over a range, in an order that visits far places one after another.
fn spread(range: std::ops::Range<u64>, count: u64) -> impl Iterator<Item = u64> {
    // A prime larger than any sensible count, so that every number is visited.
    const STRIDE: u64 = 2_147_483_647;
    let length = (range.end - range.start).max(1);
    (0..count).map(move |index| range.start + index.wrapping_mul(STRIDE) % length)
}

fn server_megabytes() -> Option<f64> {
    resident_megabytes(nats_server()?)
}

/// Creates a consumer for one tenant's jobs, as a worker does, and removes it. Returns the milliseconds that the creation
/// took.
async fn create_consumer(jetstream: &jetstream::Context, messages: &Messages) -> anyhow::Result<f64> {
    let config = pull::Config {
        durable_name: Some("bench-state".to_owned()),
        filter_subject: messages.job_subject(1),
        ack_policy: AckPolicy::Explicit,
        ..pull::Config::default()
    };
    let begin = Instant::now();
    jetstream.create_consumer_on_stream(config, JOBS).await?;
    let milliseconds = begin.elapsed().as_secs_f64() * 1e3;
    jetstream.delete_consumer_from_stream("bench-state", JOBS).await?;
    Ok(milliseconds)
}

/// Ends the server with a signal and returns the seconds until both streams answer again. The supervisor starts it.
async fn restart(jetstream: &jetstream::Context, signal: Signal) -> anyhow::Result<f64> {
    eprintln!("restart: signal {} to the server", signal.as_raw());
    let id = nats_server().context("the benchmark's nats-server isn't running")?;
    let pid = i32::try_from(id)
        .ok()
        .and_then(Pid::from_raw)
        .context("a process id is positive")?;
    kill_process(pid, signal)?;
    let begin = Instant::now();
    while begin.elapsed() < RESTART_TIMEOUT {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let restarted = nats_server().is_some_and(|new| new != id);
        if restarted
            && jetstream.get_stream(JOBS).await.is_ok()
            && jetstream.get_stream(RESULTS).await.is_ok()
        {
            return Ok(begin.elapsed().as_secs_f64());
        }
    }
    anyhow::bail!(
        "nats-server didn't come back within {} s",
        RESTART_TIMEOUT.as_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_stays_in_the_range_and_repeats_no_number() {
        let mut numbers: Vec<u64> = spread(100..1_100, 1_000).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (100..1_100).collect::<Vec<_>>());
    }
}
