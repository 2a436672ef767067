//! The completion record of a job that ended without a worker: nobody served it, its workers died, its client cancelled
//! it.

use jiff::Timestamp;

use crate::error_code::Refusal;
use crate::result::{ModelRef, ReportedDelivery};
use crate::{Job, JobResult, Lane, Outcome, Task, Token};

/// A job's message as it stands in the stream `JOBS`.
#[derive(Debug, Clone, Copy)]
pub struct RawJob<'a> {
    /// On which it was published; perhaps no job's subject.
    pub subject: &'a str,
    /// Perhaps no job.
    pub body: &'a [u8],
    /// Its place in the stream.
    pub sequence: u64,
    /// When the stream took it.
    pub submitted_at: Timestamp,
}

/// How a job ended without a worker.
#[derive(Debug, Clone)]
pub struct Termination {
    /// `failed`, `expired` or `cancelled`.
    pub outcome: Outcome,
    /// Why.
    pub reason: Refusal,
    /// How often it had been delivered.
    pub attempts: u64,
}

/// What can be said of a job from its subject alone, also when the subject is no job's.
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
            // `-`, when there is none.
            tenant: Token::sanitized(tenant),
        }
    }
}

/// The record that answers `job`; none when its body has no id under which it could be answered.
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

/// The kind under which the job's dead letter is filed: its task, or what stands in that place.
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
    fn what_the_publisher_sent_comes_back_with_the_reason() {
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
    fn a_body_that_is_no_job_is_answered_under_its_id() {
        let result = answered(SUBJECT, r#"{"id":"a1","text":7}"#).unwrap();
        assert_eq!((result.id.as_str(), result.text.as_str()), ("a1", ""));
        assert_eq!(result.params, GenerationParams::default());
        assert!(answered(SUBJECT, "not json").is_none());
        assert!(answered(SUBJECT, r#"{"text":"x"}"#).is_none());
    }

    #[test]
    fn a_subject_that_is_no_jobs_gives_what_it_can() {
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
