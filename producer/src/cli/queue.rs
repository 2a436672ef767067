//! `precis producer queue`: how much waits, and for how long.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use jiff::Timestamp;
use precis_runtime::boot::RoleContext;
use precis_runtime::clock;
use precis_schemas::event::Heartbeat;
use precis_schemas::rest_operations::{LaneView, QueueView};

use super::age::{age, duration};
use super::grouped;
use crate::gateway::{self, Gateway};

/// How long the gateway may take.
const PATIENCE: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
Examples:
  precis producer queue
  precis producer queue --watch
  precis producer queue --json | jq '.lanes[] | select(.jobs > 1000)'

Asks the gateway at api.listen, with the API key in PRECIS_API_KEY if it needs one. A tenant's key shows the jobs of the
tenant.";

/// Arguments of `queue`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct QueueArgs {
    /// Show it again every two seconds, or every given number of seconds
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "2",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    watch: Option<u64>,
    /// Print it as JSON, as GET /v1/queue returns it
    #[arg(long)]
    json: bool,
}

/// Shows the queue.
///
/// # Errors
/// If the gateway can't be reached or refuses.
pub(super) async fn run(context: &RoleContext, args: &QueueArgs) -> anyhow::Result<()> {
    let http = gateway::http()?;
    let address = gateway::reachable(context.config.api.listen);
    loop {
        let gateway = Gateway::new(&http, address, PATIENCE);
        let view: QueueView = gateway.get("/v1/queue", &[]).await?;
        let mut out = std::io::stdout();
        if args.json {
            writeln!(out, "{}", serde_json::to_string(&view)?)?;
        } else {
            if args.watch.is_some() && out.is_terminal() {
                // Clears the screen and goes to its first line.
                write!(out, "\x1b[2J\x1b[H")?;
            }
            write!(out, "{}", table(&view, clock::now()))?;
        }
        out.flush()?;
        let Some(seconds) = args.watch else { return Ok(()) };
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
}

/// Jobs per second of the workers that serve a lane.
fn rate(view: &QueueView, lane: &LaneView) -> f64 {
    let serves =
        |worker: &&Heartbeat| worker.model.served_as == lane.model && worker.lanes.contains(&lane.lane);
    let paces = view
        .workers
        .iter()
        .filter(serves)
        .filter_map(|worker| worker.pace);
    paces.map(|pace| pace.jobs_per_second).sum()
}

fn table(view: &QueueView, now: Timestamp) -> String {
    let mut text = format!(
        "{:<24} {:<7} {:>10} {:>8} {:>10} {:>10}\n",
        "model", "lane", "jobs", "oldest", "jobs/s", "drained in"
    );
    // Writing to a string can't fail.
    for lane in &view.lanes {
        let oldest = lane
            .oldest_at
            .map_or_else(|| "-".to_owned(), |oldest| age(oldest, now));
        let drain = match lane.drain_seconds {
            _ if lane.jobs == 0 => "-".to_owned(),
            Some(seconds) => duration(seconds),
            None => "unknown".to_owned(),
        };
        let _written = writeln!(
            text,
            "{:<24} {:<7} {:>10} {oldest:>8} {:>10.1} {drain:>10}",
            lane.model.as_str(),
            lane.lane.as_str(),
            grouped(lane.jobs),
            rate(view, lane),
        );
    }
    if view.lanes.is_empty() {
        text.push_str("no worker has served a model yet\n");
    }
    let models: BTreeSet<&str> = view
        .workers
        .iter()
        .map(|worker| worker.model.served_as.as_str())
        .collect();
    for model in models {
        let workers = view
            .workers
            .iter()
            .filter(|worker| worker.model.served_as.as_str() == model);
        let in_flight: u64 = workers.clone().map(|worker| worker.in_flight).sum();
        let count = workers.count();
        let _written = writeln!(
            text,
            "{model}: {count} {}, {in_flight} jobs in flight",
            if count == 1 { "worker" } else { "workers" }
        );
    }
    if view.workers.is_empty() {
        text.push_str("no workers are running\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_shows_lanes_and_workers() {
        let view: QueueView = serde_json::from_value(serde_json::json!({
            "lanes": [
                {"model": "default", "lane": "bulk", "jobs": 12_000, "oldest_at": "2026-01-01T00:00:00Z", "drain_seconds": 600.0},
                {"model": "default", "lane": "high", "jobs": 0}
            ],
            "workers": [{
                "worker": "w1", "model": {"served_as": "default", "name": "mini", "revision": "1"},
                "lanes": ["bulk", "high"], "device": "cpu", "max_batch": 8, "max_input_tokens": 512, "in_flight": 3,
                "pace": {"jobs_per_second": 20.0, "seconds_per_job": 0.1}, "sent_at": "2026-01-01T00:00:00Z"
            }]
        }))
        .unwrap();
        let text = table(&view, "2026-01-01T00:10:00Z".parse().unwrap());
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            lines[1],
            ["default", "bulk", "12,000", "10", "min", "20.0", "10", "min"]
        );
        assert_eq!(lines[2], ["default", "high", "0", "-", "20.0", "-"]);
        assert!(text.contains("default: 1 worker, 3 jobs in flight"), "{text}");
    }
}
