//! Results of jobs that end without a worker: no worker served them, their workers died, or a client cancelled them.

use jiff::Timestamp;

use crate::error_code::Refusal;
use crate::result::{ModelRef, ReportedDelivery};
use crate::{Job, JobResult, Lane, Outcome, Task, Token};

/// A message in the stream `JOBS`.
#[derive(Debug, Clone, Copy)]
pub struct RawJob<'a> {
    /// Its subject. It may be malformed.
    pub subject: &'a str,
    /// Its body. It may be malformed.
    pub body: &'a [u8],
    /// Its sequence in the stream.
    pub sequence: u64,
    /// Time at which the stream stored it.
    pub submitted_at: Timestamp,
}

/// Why and how a job ends without a worker.
#[derive(Debug, Clone)]
pub struct Termination {
    /// `failed`, `expired` or `cancelled`.
    pub outcome: Outcome,
    /// The reason.
    pub reason: Refusal,
    /// Number of deliveries.
    pub attempts: u64,
}

/// The parts of a job's subject. Malformed parts have defaults.
struct Address {
    model: Option<Token>,
    lane: Lane,
    task: Task,
    tenant: Token,
}

impl Address {
    fn of(subject: &str) -> Self {
        let mut tokens = subject.split('.').skip(2);
        let mut next = || tokens.next().unwrap_or_default();
        let (model, lane, task, tenant) = (next(), next(), next(), next());
        let token = |text: &str| (!text.is_empty()).then(|| Token::sanitized(text));
        Self {
            model: token(model),
            lane: lane.parse().unwrap_or(Lane::Normal),
            task: task.parse().unwrap_or(Task::Summarize),
            // `-` if it is missing.
            tenant: Token::sanitized(tenant),
        }
    }
}

/// Returns the result of a terminated job; `None` if its body has no id to publish the result under.
pub fn terminated_result(job: RawJob<'_>, termination: &Termination, now: Timestamp) -> Option<JobResult> {
    let address = Address::of(job.subject);
    let read = Job::from_json(job.body).ok();
    let id = match &read {
        Some(read) => read.id.clone(),
        None => Job::salvage_id(job.body)?,
    };
    let delivery = ReportedDelivery {
        sequence: job.sequence,
        attempt: termination.attempts,
        submitted_at: job.submitted_at,
        started_at: None,
    };
    let mut result = JobResult::new(id, delivery, now);
    (result.lane, result.task, result.tenant) = (address.lane, address.task, address.tenant);
    if let Some(job) = &read {
        result = result.with_job(job);
    }
    result.outcome = termination.outcome;
    result.error = Some(termination.reason.clone());
    // No worker loaded the model, so its name and revision are unknown.
    result.model = address.model.map(|served_as| ModelRef {
        served_as,
        name: String::new(),
        revision: String::new(),
    });
    Some(result)
}

/// Returns the kind for the subject of the job's dead letter: its task, or the token in its place.
pub fn dead_letter_task(subject: &str) -> Token {
    Token::sanitized(subject.split('.').nth(4).unwrap_or("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Channel, ErrorCode, GenerationParams};

    const SUBJECT: &str = "jobs.v1.nope.bulk.summarize.acme";

    fn answered(subject: &str, body: &str) -> Option<JobResult> {
        let job = RawJob {
            subject,
            body: body.as_bytes(),
            sequence: 9,
            submitted_at: "2026-11-23T13:00:00.0001Z".parse().unwrap(),
        };
        let termination = Termination {
            outcome: Outcome::Failed,
            reason: Refusal::new(ErrorCode::UnknownModel, "no worker serves nope"),
            attempts: 0,
        };
        terminated_result(job, &termination, "2026-11-23T13:01:00.0001Z".parse().unwrap())
    }

    #[test]
    fn results_repeat_the_job_and_the_reason() {
        let full = include_str!("../wire/v1/job.full.json");
        let result = answered(SUBJECT, full).unwrap();
        assert_eq!(result.id.as_str(), "0192f1c28bd27a9cb2c1d3e4f5a6b7c8");
        assert_eq!((result.job_sequence, result.attempt), (9, 0));
        assert_eq!((result.lane, result.tenant.as_str()), (Lane::Bulk, "acme"));
        assert_eq!(result.model.as_ref().unwrap().served_as.as_str(), "nope");
        assert_eq!(result.error.as_ref().unwrap().code, ErrorCode::UnknownModel);
        assert_eq!((result.channel, result.metadata.len()), (Channel::Batch, 1));
        assert_eq!((result.sizes.text_chars, result.sizes.reference_chars), (48, 36));
        assert_eq!(
            (result.timings.queue_ms, result.timings.total_ms),
            (60_000.0, 60_000.0)
        );
        assert_eq!(result.submitted_at.subsec_nanosecond(), 0);
        let again: JobResult = serde_json::from_slice(&serde_json::to_vec(&result).unwrap()).unwrap();
        assert_eq!(again, result);
    }

    #[test]
    fn malformed_bodies_with_an_id_get_a_result() {
        let result = answered(SUBJECT, r#"{"id":"a1","text":7}"#).unwrap();
        assert_eq!((result.id.as_str(), result.text.as_str()), ("a1", ""));
        assert_eq!(result.params, GenerationParams::default());
        assert!(answered(SUBJECT, "not json").is_none());
        assert!(answered(SUBJECT, r#"{"text":"x"}"#).is_none());
    }

    #[test]
    fn malformed_subjects_get_defaults() {
        let result = answered(
            "jobs.v1.m.urgent.translate.some$one.x",
            r#"{"id":"a1","text":"x"}"#,
        )
        .unwrap();
        assert_eq!((result.lane, result.task), (Lane::Normal, Task::Summarize));
        assert_eq!(result.tenant.as_str(), Token::sanitized("some$one").as_str());
        let bare = answered("jobs.v1.m", r#"{"id":"a1","text":"x"}"#).unwrap();
        assert_eq!(
            (bare.model.unwrap().served_as.as_str(), bare.tenant.as_str()),
            ("m", "-")
        );
        assert_eq!(dead_letter_task("jobs.v1.m").as_str(), "unknown");
        assert_eq!(dead_letter_task(SUBJECT).as_str(), "summarize");
    }
}
