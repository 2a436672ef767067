//! Terminates jobs that no worker serves: their model has no worker, or their subject is invalid.
//!
//! A model is served on a lane while a live worker announces it. Otherwise a job past its deadline ends as `expired`,
//! and any other job ends as `failed` after a grace period. That is `monitor.absent_grace_seconds` if the lane's marker
//! exists (a consumer that outlives its workers, which may return), and `monitor.unserved_grace_seconds` otherwise. The
//! grace period also runs from when this process first saw the model unserved, so that workers that start with the
//! monitor have time to load their model.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use precis_runtime::clock;
use precis_runtime::liveness::LiveWorkers;
use precis_runtime::nats::is_missing;
use precis_schemas::error_code::Refusal;
use precis_schemas::event::Heartbeat;
use precis_schemas::termination::Termination;
use precis_schemas::worker_consumers::{TenantLane, lane_marker_name};
use precis_schemas::{ErrorCode, JobSubject, Lane, Outcome, Token, subject};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::termination::{ReapError, Reaper, jetstream_error};
use super::waiting::{WaitingJob, WaitingSubjects};

/// Most messages that one sweep reads, and most jobs of one subject that it terminates.
const MAX_SWEEP: usize = 1_000;

/// Sweeps the queue until shutdown.
pub(crate) async fn run(
    reaper: Reaper,
    workers: LiveWorkers,
    grace: Duration,
    absent_grace: Duration,
    stop: CancellationToken,
) {
    let every = (grace / 4).clamp(Duration::from_millis(500), Duration::from_secs(5));
    let mut sweeper = Sweeper {
        reaper,
        workers,
        grace,
        absent_grace,
        stop,
        unserved_since: UnservedSince::default(),
        waiting: WaitingSubjects::default(),
    };
    loop {
        tokio::select! {
            () = sweeper.stop.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
        // Shutdown ends a sweep after the current job. The next sweep, in any process, continues.
        if let Err(error) = sweeper.sweep().await {
            tracing::warn!(%error, "sweep of the queue failed; retrying");
        }
    }
}

/// The time from which each model and lane has been unserved.
#[derive(Debug, Default)]
struct UnservedSince(HashMap<(Token, Lane), Instant>);

impl UnservedSince {
    /// Returns how long a model has been unserved on a lane, counted from the first call.
    fn unserved_for(&mut self, model: &Token, lane: Lane, now: Instant) -> Duration {
        let since = *self.0.entry((model.clone(), lane)).or_insert(now);
        now.duration_since(since)
    }

    /// Forgets every model and lane that is not in `seen`.
    fn retain(&mut self, seen: &HashSet<(Token, Lane)>) {
        self.0.retain(|key, _| seen.contains(key));
    }
}

/// The workers that may still take a job.
struct ServingWorkers {
    consumers: HashSet<String>,
    live: Vec<Heartbeat>,
}

impl ServingWorkers {
    /// Whether a live worker serves the model on the lane.
    fn is_live(&self, model: &Token, lane: Lane) -> bool {
        let serves = |worker: &Heartbeat| worker.model.served_as == *model && worker.lanes.contains(&lane);
        self.live.iter().any(serves)
    }

    /// Whether a worker serves the model on the lane, or did and may return.
    fn serves(&self, model: &Token, lane: Lane) -> bool {
        self.consumers.contains(&lane_marker_name(model, lane)) || self.is_live(model, lane)
    }

    /// Whether an invalid subject reaches a worker. A tenant's consumer takes every task, and the worker rejects invalid
    /// ones.
    fn delivers(&self, subject: &str) -> bool {
        TenantLane::of_subject(subject).is_some_and(|jobs| self.serves(&jobs.model, jobs.lane))
    }
}

struct Sweeper {
    reaper: Reaper,
    workers: LiveWorkers,
    grace: Duration,
    absent_grace: Duration,
    stop: CancellationToken,
    unserved_since: UnservedSince,
    /// The waiting jobs of unserved subjects.
    waiting: WaitingSubjects,
}

/// When the jobs of a subject end.
enum EndRule<'a> {
    /// At once: no worker can take jobs from this subject.
    Invalid(Termination),
    /// At its deadline, or after the grace period if it has elapsed.
    Unserved {
        subject: &'a JobSubject,
        elapsed_grace: Option<Duration>,
    },
}

impl EndRule<'_> {
    fn termination(&self, job: &WaitingJob, now: Timestamp) -> Option<Termination> {
        match self {
            Self::Invalid(termination) => Some(termination.clone()),
            Self::Unserved {
                subject,
                elapsed_grace,
            } => termination(subject, job, now, *elapsed_grace),
        }
    }
}

impl Sweeper {
    async fn sweep(&mut self) -> Result<(), ReapError> {
        let listed = self
            .reaper
            .jobs
            .info_with_subjects(subject::ALL_JOBS)
            .await
            .map_err(jetstream_error("list the queue's subjects"))?;
        self.waiting.begin_sweep(listed.info.state.last_sequence);
        let subjects: Vec<(String, usize)> = listed
            .try_collect()
            .await
            .map_err(jetstream_error("list the queue's subjects"))?;
        let mut unserved = HashSet::new();
        let mut swept = HashSet::new();
        if !subjects.is_empty() {
            let serving = ServingWorkers {
                consumers: consumers(&self.reaper).await?,
                live: self.workers.live(),
            };
            let mut reads = MAX_SWEEP;
            for (subject, _) in subjects {
                let parsed = subject.parse::<JobSubject>();
                let rule = match &parsed {
                    Err(_) if serving.delivers(&subject) => continue,
                    Err(reason) => EndRule::Invalid(invalid(reason.to_string())),
                    Ok(job) if serving.is_live(&job.model, job.lane) => continue,
                    Ok(job) => {
                        let may_return = serving.serves(&job.model, job.lane);
                        let grace = if may_return { self.absent_grace } else { self.grace };
                        let unserved_time =
                            self.unserved_since
                                .unserved_for(&job.model, job.lane, Instant::now());
                        unserved.insert((job.model.clone(), job.lane));
                        EndRule::Unserved {
                            subject: job,
                            elapsed_grace: (unserved_time >= grace).then_some(grace),
                        }
                    }
                };
                // A failure with one subject must not delay the others.
                if let Err(error) = self.end_due_jobs(&subject, &rule, &mut reads).await {
                    tracing::warn!(%error, subject, "job not terminated; retrying");
                }
                swept.insert(subject);
            }
        }
        self.unserved_since.retain(&unserved);
        self.waiting.retain(&swept);
        Ok(())
    }

    /// Reads the jobs of a subject that were not read yet, at most `reads`, and terminates those that are due, oldest
    /// first.
    async fn end_due_jobs(
        &mut self,
        subject: &str,
        rule: &EndRule<'_>,
        reads: &mut usize,
    ) -> Result<(), ReapError> {
        let waiting = self.waiting.of_subject(subject);
        let jobs = &self.reaper.jobs;
        while *reads > 0 && !self.stop.is_cancelled() {
            *reads -= 1;
            match jobs
                .get_first_raw_message_by_subject(subject, waiting.next())
                .await
            {
                Ok(message) => waiting.add(message.sequence, WaitingJob::of(&message)),
                Err(error) if is_missing(&error) => break,
                Err(error) => return Err(jetstream_error("read a job")(error)),
            }
        }
        let now = clock::now();
        let due = waiting.due(|job| rule.termination(job, now).is_some());
        for sequence in due.into_iter().take(MAX_SWEEP) {
            if self.stop.is_cancelled() {
                break;
            }
            match jobs.get_raw_message(sequence).await {
                Ok(message) => {
                    if let Some(termination) = rule.termination(&WaitingJob::of(&message), now) {
                        self.reaper.terminate(&message, &termination).await?;
                    }
                }
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(jetstream_error("read a job")(error)),
            }
            waiting.remove(sequence);
        }
        Ok(())
    }
}

async fn consumers(reaper: &Reaper) -> Result<HashSet<String>, ReapError> {
    let mut names = reaper.jobs.consumer_names();
    let mut found = HashSet::new();
    while let Some(name) = names.next().await {
        found.insert(name.map_err(jetstream_error("list the queue's consumers"))?);
    }
    Ok(found)
}

/// Returns how an unserved job ends now, if it does. `grace` is set once the model has been unserved that long.
fn termination(
    job: &JobSubject,
    waiting: &WaitingJob,
    now: Timestamp,
    grace: Option<Duration>,
) -> Option<Termination> {
    let ends = |outcome, code, message| {
        Some(Termination {
            outcome,
            reason: Refusal::new(code, message),
            attempts: 0,
        })
    };
    if let Some(deadline) = waiting.deadline.filter(|deadline| *deadline <= now) {
        let text = format!("the deadline {deadline} passed before a worker took the job");
        return ends(Outcome::Expired, ErrorCode::DeadlineExceeded, text);
    }
    let grace = grace?;
    let age = Duration::try_from(now.duration_since(waiting.queued_at)).unwrap_or_default();
    if age < grace {
        return None;
    }
    let text = format!(
        "no worker has served the model {} on the lane {} for {} seconds",
        job.model,
        job.lane,
        grace.as_secs()
    );
    ends(Outcome::Failed, ErrorCode::UnknownModel, text)
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
    use async_nats::jetstream::message::StreamMessage;

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
        termination(&job, &WaitingJob::of(&message(body)), at(now), grace)
            .map(|termination| termination.reason.code)
    }

    #[test]
    fn an_unserved_job_ends_after_the_grace_period() {
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
    fn a_passed_deadline_takes_precedence() {
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
    fn the_grace_period_restarts_after_a_worker_served() {
        let model = Token::new("the model", "m").unwrap();
        let (mut unserved_since, start) = (UnservedSince::default(), Instant::now());
        let later = start + Duration::from_secs(50);
        assert_eq!(
            unserved_since.unserved_for(&model, Lane::Bulk, start),
            Duration::ZERO
        );
        assert_eq!(
            unserved_since.unserved_for(&model, Lane::Bulk, later),
            Duration::from_secs(50)
        );
        assert_eq!(
            unserved_since.unserved_for(&model, Lane::High, later),
            Duration::ZERO
        );
        unserved_since.retain(&HashSet::from([(model.clone(), Lane::High)]));
        assert_eq!(
            unserved_since.unserved_for(&model, Lane::Bulk, later),
            Duration::ZERO
        );
    }

    #[test]
    fn a_consumer_or_a_live_worker_serves_its_lane() {
        let heartbeat = include_str!("../../../schemas/wire/v1/heartbeat.json");
        let mut live: Heartbeat = serde_json::from_str(heartbeat).unwrap();
        live.lanes = vec![Lane::High];
        let serving = ServingWorkers {
            consumers: HashSet::from(["worker~once~bulk".to_owned()]),
            live: vec![live],
        };
        let model = |name| Token::new("the model", name).unwrap();
        assert!(serving.serves(&model("once"), Lane::Bulk));
        assert!(!serving.serves(&model("once"), Lane::High));
        assert!(serving.serves(&model("default"), Lane::High));
        assert!(!serving.serves(&model("default"), Lane::Normal));
    }

    #[test]
    fn invalid_subjects_within_a_consumers_filter_are_left_to_the_worker() {
        let serving = ServingWorkers {
            consumers: HashSet::from(["worker~m~bulk".to_owned()]),
            live: vec![],
        };
        assert!(serving.delivers("jobs.v1.m.bulk.translate.acme"));
        for subject in [
            "jobs.v1.m.bulk.summarize.acme.more",
            "jobs.v1.m",
            "jobs.v1.m.bulk",
            "jobs.v1.m.urgent.summarize.acme",
            "jobs.v1.n.bulk.x",
        ] {
            assert!(!serving.delivers(subject), "{subject}");
        }
    }
}
