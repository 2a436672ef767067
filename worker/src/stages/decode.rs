//! Stage 2: read the message, check it against the contract, the limits and its deadline.

use jiff::Timestamp;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::job::JobLimits;
use precis_schemas::{Job, JobId, JobSubject, Outcome, Task};

use super::fetch::Fetched;
use crate::lease::Lease;

/// A job that can be worked on.
pub struct Accepted {
    /// The job.
    pub job: Job,
    /// Where it was published.
    pub subject: JobSubject,
    /// Facts about this delivery.
    pub delivery: Delivery,
    /// The hold on it.
    pub lease: Lease,
}

/// Facts about one delivery of a job.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Sequence in `JOBS`.
    pub sequence: u64,
    /// How often it had been delivered, this time included.
    pub attempt: u64,
    /// When the stream took it.
    pub submitted_at: Timestamp,
    /// When this worker received it.
    pub received_at: Timestamp,
    /// The request that it belongs to.
    pub trace: Option<TraceContext>,
    /// The span of the pull that it came with, while traces are exported.
    pub pull: Option<TraceContext>,
}

/// A job that is answered without the model.
pub struct Answered {
    /// The job as far as it could be read.
    pub job: Option<Job>,
    /// Its id, if it has one that can be answered.
    pub id: Option<JobId>,
    /// Where it was published, if that is the subject of a job.
    pub subject: Option<JobSubject>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why.
    pub reason: Refusal,
    /// Subject and body as they came, for the dead letter of what can't be read.
    pub raw: (String, bytes::Bytes),
    /// Facts about this delivery.
    pub delivery: Delivery,
    /// The hold on it.
    pub lease: Lease,
}

/// Reads and checks a message that came with a pull.
///
/// # Errors
/// The job's answer, when the model has nothing to do with it.
pub fn decode(
    fetched: Fetched,
    pull: Option<TraceContext>,
    limits: &JobLimits,
    now: Timestamp,
) -> Result<Accepted, Box<Answered>> {
    let Fetched {
        message,
        lease,
        sequence,
        attempt,
        submitted_at,
        received_at,
    } = fetched;
    let trace = TraceContext::from_message(message.headers.as_ref());
    let delivery = Delivery {
        sequence,
        attempt,
        submitted_at,
        received_at,
        trace,
        pull,
    };
    let subject = message.subject.parse::<JobSubject>();
    let job = Job::from_json(&message.payload);
    let (subject, job, outcome, reason) = match (subject, job) {
        (Ok(subject), Ok(job)) => match check(&job, subject.task, limits, now) {
            Ok(()) => {
                return Ok(Accepted {
                    job,
                    subject,
                    delivery,
                    lease,
                });
            }
            Err((outcome, reason)) => (Some(subject), Some(job), outcome, reason),
        },
        (subject, Err(reason)) => (subject.ok(), None, Outcome::Failed, reason),
        (Err(error), Ok(job)) => {
            let reason = Refusal::new(ErrorCode::InvalidRequest, error.to_string());
            (None, Some(job), Outcome::Failed, reason)
        }
    };
    let id = job
        .as_ref()
        .map(|job| job.id.clone())
        .or_else(|| Job::salvage_id(&message.payload));
    let raw = (message.subject.to_string(), message.payload);
    Err(Box::new(Answered {
        job,
        id,
        subject,
        outcome,
        reason,
        raw,
        delivery,
        lease,
    }))
}

fn check(job: &Job, task: Task, limits: &JobLimits, now: Timestamp) -> Result<(), (Outcome, Refusal)> {
    job.validate(task, limits)
        .map_err(|refusal| (Outcome::Failed, refusal))?;
    match expired(job, now) {
        Some(refusal) => Err((Outcome::Expired, refusal)),
        None => Ok(()),
    }
}

/// The reason to give up a job whose deadline has passed.
pub fn expired(job: &Job, now: Timestamp) -> Option<Refusal> {
    let deadline = job.deadline?;
    (deadline <= now).then(|| {
        Refusal::new(
            ErrorCode::DeadlineExceeded,
            format!("the deadline was {deadline}, and now it is {now}"),
        )
    })
}
