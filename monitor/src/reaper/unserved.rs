//! Jobs that no worker will ever take: for a model that none serves and none has served, or on a subject
//! that is no job's.
//!
//! A model is served on a lane when a live worker says so. When none does, a job past its deadline is answered
//! `expired`, and any other after a grace time: `monitor.absent_grace_seconds` where there is a worker's durable
//! consumer (it outlives the worker, which may come back), else `monitor.unserved_grace_seconds`. It also waits
//! so long after this process first saw nobody serve it: workers that start together with the monitor have
//! that time to load their model.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use async_nats::jetstream::message::StreamMessage;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use precis_runtime::clock;
use precis_runtime::liveness::Workers;
use precis_schemas::error_code::Refusal;
use precis_schemas::event::Heartbeat;
use precis_schemas::termination::Termination;
use precis_schemas::topology::worker_consumer_name;
use precis_schemas::{ErrorCode, Job, JobSubject, Lane, Outcome, Token, subject};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::termination::{ReapError, Reaper, failed, is_gone};
use crate::consumer::timestamp;

/// Most messages of one subject that one sweep looks at.
const SWEEP: usize = 1_000;

/// Sweeps the queue until `stop`.
pub(crate) async fn run(
    reaper: Reaper,
    workers: Workers,
    grace: Duration,
    absent_grace: Duration,
    stop: CancellationToken,
) {
    let every = (grace / 4).clamp(Duration::from_millis(500), Duration::from_secs(5));
    let mut watch = Watch::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
        // A sweep ends with the job it is at: the next one, in whatever process, goes on.
        if let Err(error) = sweep(&reaper, &workers, grace, absent_grace, &mut watch, &stop).await {
            tracing::warn!(%error, "the queue can't be swept; trying again");
        }
    }
}

/// Since when nobody has been seen to serve a model on a lane.
#[derive(Debug, Default)]
struct Watch(HashMap<(Token, Lane), Instant>);

impl Watch {
    /// How long nobody has served these; they begin to count when they are first seen.
    fn unserved_for(&mut self, model: &Token, lane: Lane, now: Instant) -> Duration {
        let since = *self.0.entry((model.clone(), lane)).or_insert(now);
        now.duration_since(since)
    }

    /// Forgets what is no longer unserved.
    fn keep_only(&mut self, seen: &HashSet<(Token, Lane)>) {
        self.0.retain(|key, _| seen.contains(key));
    }
}

/// Who may still take a job.
struct Serving {
    consumers: HashSet<String>,
    live: Vec<Heartbeat>,
}

impl Serving {
    /// Whether a worker is there now.
    fn is_live(&self, model: &Token, lane: Lane) -> bool {
        let serves = |worker: &Heartbeat| worker.model.served_as == *model && worker.lanes.contains(&lane);
        self.live.iter().any(serves)
    }

    /// Whether a worker is there, or was there and may come back.
    fn serves(&self, model: &Token, lane: Lane) -> bool {
        self.consumers.contains(&worker_consumer_name(model, lane)) || self.is_live(model, lane)
    }

    /// Whether a worker gets what is published on a subject that is no job's: a consumer takes all of its model
    /// and lane, and the worker answers what it doesn't understand.
    fn delivers(&self, subject: &str) -> bool {
        let mut tokens = subject.split('.').skip(2);
        let (Some(model), Some(lane), Some(_)) = (tokens.next(), tokens.next(), tokens.next()) else {
            return false;
        };
        match (Token::new("the model", model), lane.parse::<Lane>()) {
            (Ok(model), Ok(lane)) => self.serves(&model, lane),
            _ => false,
        }
    }
}

async fn sweep(
    reaper: &Reaper,
    workers: &Workers,
    grace: Duration,
    absent_grace: Duration,
    watch: &mut Watch,
    stop: &CancellationToken,
) -> Result<(), ReapError> {
    let subjects: Vec<(String, usize)> = reaper
        .jobs
        .info_with_subjects(subject::ALL_JOBS)
        .await
        .map_err(failed("list the queue's subjects"))?
        .try_collect()
        .await
        .map_err(failed("list the queue's subjects"))?;
    let mut unserved = HashSet::new();
    if !subjects.is_empty() {
        let serving = Serving {
            consumers: consumers(reaper).await?,
            live: workers.live(),
        };
        for (subject, _) in &subjects {
            let outcome = match subject.parse::<JobSubject>() {
                Err(_) if serving.delivers(subject) => Ok(()),
                Err(reason) => {
                    let termination = invalid(reason.to_string());
                    each(reaper, subject, stop, |_| Some(termination.clone())).await
                }
                Ok(job) if serving.is_live(&job.model, job.lane) => Ok(()),
                Ok(job) => {
                    let may_come_back = serving.serves(&job.model, job.lane);
                    let grace = if may_come_back { absent_grace } else { grace };
                    let watched = watch.unserved_for(&job.model, job.lane, Instant::now());
                    unserved.insert((job.model.clone(), job.lane));
                    let now = clock::now();
                    let patience = (watched >= grace).then_some(grace);
                    each(reaper, subject, stop, |message| {
                        verdict(&job, message, now, patience)
                    })
                    .await
                }
            };
            // What goes wrong with one subject must not hold up the others.
            if let Err(error) = outcome {
                tracing::warn!(%error, subject, "a job can't be ended now; trying again");
            }
        }
    }
    watch.keep_only(&unserved);
    Ok(())
}

async fn consumers(reaper: &Reaper) -> Result<HashSet<String>, ReapError> {
    let mut names = reaper.jobs.consumer_names();
    let mut found = HashSet::new();
    while let Some(name) = names.next().await {
        found.insert(name.map_err(failed("list the queue's consumers"))?);
    }
    Ok(found)
}

/// Goes through the messages of `subject`, the oldest first, and ends those for which there is a verdict.
async fn each(
    reaper: &Reaper,
    subject: &str,
    stop: &CancellationToken,
    verdict: impl Fn(&StreamMessage) -> Option<Termination>,
) -> Result<(), ReapError> {
    let mut next = 1;
    for _ in 0..SWEEP {
        if stop.is_cancelled() {
            break;
        }
        let message = match reaper.jobs.get_first_raw_message_by_subject(subject, next).await {
            Ok(message) => message,
            Err(error) if is_gone(&error) => break,
            Err(error) => return Err(failed("read a job")(error)),
        };
        next = message.sequence + 1;
        if let Some(termination) = verdict(&message) {
            reaper.end(&message, &termination).await?;
        }
    }
    Ok(())
}

/// How a job that nobody serves ends now, if it does. `grace` is there once nobody has served it for so long.
fn verdict(
    job: &JobSubject,
    message: &StreamMessage,
    now: Timestamp,
    grace: Option<Duration>,
) -> Option<Termination> {
    let failed = |outcome, code, message| {
        Some(Termination {
            outcome,
            reason: Refusal::new(code, message),
            attempts: 0,
        })
    };
    let deadline = Job::from_json(&message.payload).ok().and_then(|job| job.deadline);
    if let Some(deadline) = deadline.filter(|deadline| *deadline <= now) {
        let text = format!("the deadline {deadline} passed before a worker was there for the job");
        return failed(Outcome::Expired, ErrorCode::DeadlineExceeded, text);
    }
    let grace = grace?;
    let age = Duration::try_from(now.duration_since(timestamp(message.time))).unwrap_or_default();
    if age < grace {
        return None;
    }
    let text = format!(
        "no worker serves the model {} on the lane {}, and none came within {} seconds",
        job.model,
        job.lane,
        grace.as_secs()
    );
    failed(Outcome::Failed, ErrorCode::UnknownModel, text)
}

fn invalid(reason: String) -> Termination {
    Termination {
        outcome: Outcome::Failed,
        reason: Refusal::new(ErrorCode::InvalidRequest, reason),
        attempts: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: &str = "jobs.v1.nope.bulk.summarize.acme";

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    fn message(body: &str) -> StreamMessage {
        StreamMessage {
            subject: SUBJECT.into(),
            sequence: 1,
            headers: async_nats::HeaderMap::new(),
            payload: body.to_owned().into(),
            time: async_nats::datetime::parse_rfc3339("2026-11-23T13:00:00Z").unwrap(),
        }
    }

    fn code(body: &str, now: &str, grace: Option<u64>) -> Option<ErrorCode> {
        let job = SUBJECT.parse().unwrap();
        let grace = grace.map(Duration::from_secs);
        verdict(&job, &message(body), at(now), grace).map(|termination| termination.reason.code)
    }

    #[test]
    fn a_job_waits_for_the_grace_time_and_no_longer() {
        let body = r#"{"id":"a1","text":"x"}"#;
        assert_eq!(code(body, "2026-11-23T13:00:59Z", Some(60)), None);
        assert_eq!(code(body, "2026-11-23T13:01:00Z", None), None);
        assert_eq!(
            code(body, "2026-11-23T13:01:00Z", Some(60)),
            Some(ErrorCode::UnknownModel)
        );
        assert_eq!(
            code("not json", "2026-11-23T13:01:00Z", Some(60)),
            Some(ErrorCode::UnknownModel)
        );
    }

    #[test]
    fn a_deadline_that_has_passed_comes_first() {
        let body = r#"{"id":"a1","text":"x","deadline":"2026-11-23T13:00:10Z"}"#;
        assert_eq!(code(body, "2026-11-23T13:00:09Z", None), None);
        assert_eq!(
            code(body, "2026-11-23T13:00:10Z", None),
            Some(ErrorCode::DeadlineExceeded)
        );
        assert_eq!(
            code(body, "2026-11-23T13:05:00Z", Some(60)),
            Some(ErrorCode::DeadlineExceeded)
        );
    }

    #[test]
    fn the_grace_time_begins_anew_when_somebody_served_in_between() {
        let model = Token::new("the model", "m").unwrap();
        let (mut watch, begun) = (Watch::default(), Instant::now());
        let later = begun + Duration::from_secs(50);
        assert_eq!(watch.unserved_for(&model, Lane::Bulk, begun), Duration::ZERO);
        assert_eq!(
            watch.unserved_for(&model, Lane::Bulk, later),
            Duration::from_secs(50)
        );
        assert_eq!(watch.unserved_for(&model, Lane::High, later), Duration::ZERO);
        watch.keep_only(&HashSet::from([(model.clone(), Lane::High)]));
        assert_eq!(watch.unserved_for(&model, Lane::Bulk, later), Duration::ZERO);
    }

    #[test]
    fn a_consumer_or_a_live_worker_serves_its_lane() {
        let heartbeat = include_str!("../../../schemas/wire/v1/heartbeat.json");
        let mut live: Heartbeat = serde_json::from_str(heartbeat).unwrap();
        live.lanes = vec![Lane::High];
        let serving = Serving {
            consumers: HashSet::from(["worker-once-bulk".to_owned()]),
            live: vec![live],
        };
        let model = |name| Token::new("the model", name).unwrap();
        assert!(serving.serves(&model("once"), Lane::Bulk));
        assert!(!serving.serves(&model("once"), Lane::High));
        assert!(serving.serves(&model("default"), Lane::High));
        assert!(!serving.serves(&model("default"), Lane::Normal));
    }

    #[test]
    fn a_strange_subject_within_a_consumers_filter_is_the_workers_business() {
        let serving = Serving {
            consumers: HashSet::from(["worker-m-bulk".to_owned()]),
            live: vec![],
        };
        assert!(serving.delivers("jobs.v1.m.bulk.translate.acme"));
        assert!(serving.delivers("jobs.v1.m.bulk.summarize.acme.more"));
        for nobodys in [
            "jobs.v1.m",
            "jobs.v1.m.bulk",
            "jobs.v1.m.urgent.summarize.acme",
            "jobs.v1.n.bulk.x",
        ] {
            assert!(!serving.delivers(nobodys), "{nobodys}");
        }
    }
}
