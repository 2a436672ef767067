//! Exports how long one worker would need for the queued jobs. Autoscalers divide it by the time that jobs may wait.
//!
//! The value exists without workers too: the pace is then the last one that a worker of the model measured, or the
//! configured one.

mod estimate;

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::Message;
use async_nats::jetstream::stream::Stream;
use futures::{StreamExt, TryStreamExt};
use precis_runtime::boot::NatsConnection;
use precis_runtime::config::Config;
use precis_runtime::liveness::LiveWorkers;
use precis_schemas::worker_consumers::{TenantLane, lane_of_marker};
use precis_schemas::{Lane, Token, subject};
use tokio_util::sync::CancellationToken;

use self::estimate::Estimator;
use crate::metrics;

/// How often the queue is counted.
const PERIOD: Duration = Duration::from_secs(2);

/// Jobs by model and lane.
type Lanes = HashMap<(Token, Lane), u64>;

/// Exports the backlog until shutdown.
///
/// # Errors
/// If the server refuses the subscription.
pub(crate) async fn run(
    queue: &NatsConnection,
    jobs: Stream,
    workers: LiveWorkers,
    config: &Config,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut notes = queue
        .client
        .subscribe(subject::QUEUED_OF_JOBS)
        .await
        .context("subscribe to queued jobs")?;
    let mut estimator = Estimator::new(config.monitor.assumed_tokens_per_second);
    let mut lanes = Lanes::new();
    // Has a value before any worker or job exists.
    if let Ok(model) = Token::new("the model", &config.api.default_model) {
        lanes.extend(Lane::ALL.iter().map(|lane| ((model.clone(), *lane), 0)));
    }
    let mut tick = tokio::time::interval(PERIOD);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            note = notes.next() => match note {
                Some(note) => learn(&mut estimator, &note),
                // The connection is closed.
                None => return Ok(()),
            },
            _ = tick.tick() => {
                workers.scan(|heartbeats| estimator.learn_pace(heartbeats));
                match count(&jobs, &mut lanes).await {
                    Ok(mean_bytes) => export(&mut estimator, &lanes, mean_bytes),
                    Err(error) => tracing::debug!(%error, "counting the queue failed; retrying"),
                }
            }
        }
    }
}

/// Learns the size of a job that the queue has stored.
fn learn(estimator: &mut Estimator, note: &Message) {
    let size = note
        .headers
        .as_ref()
        .and_then(|headers| headers.get("Nats-Msg-Size"));
    if let Some(bytes) = size.and_then(|size| size.as_str().parse().ok())
        && let Some(jobs) = TenantLane::of_subject(&note.subject)
    {
        estimator.learn_size(jobs.model, jobs.lane, bytes);
    }
}

/// Counts the jobs of every lane that workers have served. Returns the mean size of all jobs, in bytes.
async fn count(jobs: &Stream, lanes: &mut Lanes) -> Result<f64, async_nats::Error> {
    let mut names = jobs.consumer_names();
    while let Some(name) = names.try_next().await? {
        if let Some(lane) = lane_of_marker(&name) {
            lanes.entry(lane).or_default();
        }
    }
    let mut subjects = jobs.info_with_subjects(subject::JOBS_OF_EVERY_VERSION).await?;
    let state = subjects.info.state.clone();
    lanes.values_mut().for_each(|jobs| *jobs = 0);
    while let Some((subject, messages)) = subjects.try_next().await? {
        // A model that was never served gets no series: anyone can publish to any name.
        if let Some(key) = TenantLane::of_subject(&subject)
            && let Some(jobs) = lanes.get_mut(&(key.model, key.lane))
        {
            *jobs += messages as u64;
        }
    }
    Ok(state.bytes as f64 / state.messages.max(1) as f64)
}

fn export(estimator: &mut Estimator, lanes: &Lanes, mean_bytes: f64) {
    estimator.retain(|lane| lanes.contains_key(lane));
    for (lane, jobs) in lanes {
        metrics::queue_work(&lane.0, lane.1, estimator.seconds(lane, *jobs, mean_bytes));
    }
}
