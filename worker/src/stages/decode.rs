//! Stage 2: reads the message, and checks it against the contract, the limits and its deadline.

use jiff::Timestamp;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::job::JobLimits;
use precis_schemas::{Job, JobId, JobSubject, Outcome, Task};

/// A job that a worker can run.
#[derive(Debug, Clone)]
pub struct AcceptedJob {
    /// The job.
    pub job: Job,
    /// The subject that it was published on.
    pub subject: JobSubject,
}

/// A message that is answered without running the model.
#[derive(Debug)]
pub struct RejectedMessage {
    /// The job; none if the body is not a job.
    pub job: Option<Job>,
    /// The id to answer under; none if the body has none.
    pub id: Option<JobId>,
    /// The subject; none if it is not a job's subject.
    pub subject: Option<JobSubject>,
    /// `failed` or `expired`.
    pub outcome: Outcome,
    /// Why the message was rejected.
    pub reason: Refusal,
    /// The subject as received, for the dead letter.
    pub raw_subject: String,
    /// The body as received, for the dead letter.
    pub raw_body: bytes::Bytes,
}

/// Reads and checks a message.
///
/// # Errors
/// When the message is not a job, breaks a limit, or is past its deadline.
pub fn decode(
    message: async_nats::Message,
    limits: &JobLimits,
    now: Timestamp,
) -> Result<AcceptedJob, Box<RejectedMessage>> {
    let subject = message.subject.parse::<JobSubject>();
    let job = Job::from_json(&message.payload);
    let (subject, job, outcome, reason) = match (subject, job) {
        (Ok(subject), Ok(job)) => match check(&job, subject.task, limits, now) {
            Ok(()) => return Ok(AcceptedJob { job, subject }),
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
    Err(Box::new(RejectedMessage {
        job,
        id,
        subject,
        outcome,
        reason,
        raw_subject: message.subject.to_string(),
        raw_body: message.payload,
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

/// Returns a refusal if the job's deadline is not after `now`.
pub fn expired(job: &Job, now: Timestamp) -> Option<Refusal> {
    let deadline = job.deadline?;
    (deadline <= now).then(|| {
        Refusal::new(
            ErrorCode::DeadlineExceeded,
            format!("the deadline {deadline} is in the past; the time is now {now}"),
        )
    })
}
