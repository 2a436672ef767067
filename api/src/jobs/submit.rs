//! Submitting jobs to the queue, and terminating them.

use jiff::{SignedDuration, Timestamp};
use precis_producer::{Accepted, Submission};
use precis_runtime::clock;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::batch::BatchRef;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::event::Cancel;
use precis_schemas::rest::SubmitSummary;
use precis_schemas::termination::Termination;
use precis_schemas::{Channel, GenerationParams, Job, JobHandle, JobId, JobSubject, Lane, Outcome, Task};
use tracing::Instrument as _;

use crate::access::Caller;
use crate::gateway::state::AppState;
use crate::jobs::model;
use crate::metrics;
use crate::queue::TerminationOutcome;

/// A request for one job, whichever route it came by.
#[derive(Debug, Clone)]
pub(crate) struct JobRequest {
    /// The route's channel.
    pub(crate) channel: Channel,
    /// The text, the reference and the options.
    pub(crate) body: SubmitSummary,
    /// Set for a job that scores a summary.
    pub(crate) scoring: Option<Scoring>,
    /// The job's position in a request for several jobs.
    pub(crate) batch: Option<BatchRef>,
    /// The job's id. If `None`, the job gets a new one.
    pub(crate) id: Option<JobId>,
}

/// Parameters of the task `score`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scoring {
    /// The summary to score. If `None`, the model writes one.
    pub(crate) summary: Option<String>,
    /// Whether to compare word stems.
    pub(crate) stemmed: bool,
}

impl JobRequest {
    /// A request to summarize `text` with default options.
    pub(crate) fn of_text(channel: Channel, text: String, params: GenerationParams) -> Self {
        let body = SubmitSummary {
            text: Some(text),
            params,
            ..SubmitSummary::default()
        };
        Self::of(channel, body)
    }

    /// A request with a body that has one text.
    pub(crate) fn of(channel: Channel, body: SubmitSummary) -> Self {
        Self {
            channel,
            body,
            scoring: None,
            batch: None,
            id: None,
        }
    }
}

/// Validates a request, resolves its model, checks the caller's rights and reserves room in the queue and in the
/// caller's quota.
///
/// # Errors
/// The first refusal that applies.
pub(crate) async fn prepare(
    state: &AppState,
    caller: &Caller,
    request: JobRequest,
    trace: &TraceContext,
) -> Result<Submission, Refusal> {
    let body = request.body;
    let deadline = deadline(
        body.deadline,
        body.ttl_seconds,
        state.api().default_ttl_seconds,
        clock::now(),
    )?;
    let task = match request.scoring {
        Some(_) => Task::Score,
        None => Task::Summarize,
    };
    let Scoring { summary, stemmed } = request.scoring.unwrap_or_default();
    let job = Job {
        id: request.id.unwrap_or_else(JobId::generate),
        text: body.text.unwrap_or_default(),
        reference: body.reference,
        summary,
        stemmed,
        batch: request.batch,
        params: body.params,
        deadline: Some(deadline),
        channel: request.channel,
        metadata: body.metadata,
        send_to_arize: body.send_to_arize,
        callback: state
            .webhooks()
            .callback(body.callback_url, caller, state.queue())?,
    };
    job.validate(task, &state.limits().job())?;
    let subject = JobSubject {
        model: model::resolve(state, body.model.as_deref()).await?,
        lane: body.priority.unwrap_or_else(|| caller.default_lane(Lane::Normal)),
        task,
        tenant: caller.tenant().clone(),
    };
    admit(state, caller, &subject, &job.params).await?;
    Ok(Submission {
        subject,
        job,
        trace: trace.clone(),
    })
}

/// Checks the caller's rights and reserves room in the queue. A job of the caller's tenant takes room in the caller's
/// quota too.
///
/// # Errors
/// The first refusal that applies.
pub(crate) async fn admit(
    state: &AppState,
    caller: &Caller,
    subject: &JobSubject,
    params: &GenerationParams,
) -> Result<(), Refusal> {
    caller.may_submit(subject.lane, &subject.model)?;
    model::check_length(state, &subject.model, params)?;
    state.lane_shares().admit(state.queue(), subject.lane).await?;
    if subject.tenant == *caller.tenant() {
        caller.reserve(state.queue(), 1).await?;
    }
    Ok(())
}

/// Publishes a job under its own id as message id. The job is accepted once this returns its handle.
///
/// # Errors
/// If the queue is full or can't be reached.
pub(crate) async fn publish(state: &AppState, submission: &Submission) -> Result<JobHandle, Refusal> {
    let accepted = publish_as(state, submission, submission.job.id.as_str()).await?;
    Ok(accepted.handle)
}

/// Publishes a job under `message_id`.
///
/// # Errors
/// See [`publish`].
pub(super) async fn publish_as(
    state: &AppState,
    submission: &Submission,
    message_id: &str,
) -> Result<Accepted, Refusal> {
    let accepted = state.queue().publish_as(submission, message_id).await?;
    let subject = &submission.subject;
    metrics::submitted(submission.job.channel, &subject.model, subject.lane);
    let handle = &accepted.handle;
    tracing::debug!(job = %handle, %subject, trace_id = submission.trace.trace_id(), "job accepted");
    Ok(accepted)
}

/// Cancels a job on behalf of its client, see [`QueueBackend::terminate`](crate::queue::QueueBackend::terminate), and
/// tells the worker that may be running it. The outcome `cancelled` is stored first, so no later result of a worker
/// counts.
///
/// # Errors
/// If the queue can't be reached.
pub(crate) async fn cancel(
    state: &AppState,
    handle: &JobHandle,
) -> Result<Option<TerminationOutcome>, Refusal> {
    // An id without a sequence is enough if a worker has reported the sequence.
    let running = state.running().get(handle);
    let reported = running.as_ref().and_then(|progress| progress.job_sequence);
    let handle = JobHandle {
        id: handle.id.clone(),
        sequence: handle.sequence.or(reported),
    };
    let termination = Termination {
        outcome: Outcome::Cancelled,
        reason: Refusal::new(ErrorCode::Cancelled, "the client cancelled the job"),
        attempts: running.map_or(0, |progress| progress.attempt),
    };
    terminate(state, &handle, termination).await
}

/// Terminates a job, see [`QueueBackend::terminate`](crate::queue::QueueBackend::terminate). If that cancels it,
/// tells the worker that may be running it.
///
/// # Errors
/// If the queue can't be reached.
pub(super) async fn terminate(
    state: &AppState,
    handle: &JobHandle,
    termination: Termination,
) -> Result<Option<TerminationOutcome>, Refusal> {
    let (state, handle) = (state.clone(), handle.clone());
    // In its own task: a handler is dropped when its client disconnects. A job with a stored result must still leave
    // the queue, or a worker decodes it for nothing.
    let terminate = async move {
        let outcome = state.queue().terminate(&handle, &termination).await?;
        if let (Some(TerminationOutcome::Terminated(result)), Outcome::Cancelled) =
            (&outcome, termination.outcome)
        {
            state.queue().send_cancel(Cancel {
                id: result.id.clone(),
                job_sequence: result.job_sequence,
            });
        }
        Ok(outcome)
    };
    let task = tokio::spawn(terminate.in_current_span());
    task.await.unwrap_or_else(|error| {
        tracing::error!(%error, "terminating a job failed");
        Err(Refusal::new(
            ErrorCode::Internal,
            "an internal error occurred; the logs have the details under this request id",
        ))
    })
}

/// The deadline of a request that arrived at `now`.
fn deadline(
    given: Option<Timestamp>,
    ttl_seconds: Option<u64>,
    default_ttl_seconds: u64,
    now: Timestamp,
) -> Result<Timestamp, Refusal> {
    let ttl = match (given, ttl_seconds) {
        (Some(_), Some(_)) => {
            return Err(Refusal::new(
                ErrorCode::InvalidRequest,
                "send either deadline or ttl_seconds, not both",
            ));
        }
        (Some(deadline), None) if deadline <= now => {
            return Err(Refusal::new(
                ErrorCode::InvalidParameter,
                format!("deadline {deadline} is in the past; the time is now {now}"),
            ));
        }
        (Some(deadline), None) => return Ok(deadline),
        (None, ttl_seconds) => ttl_seconds.unwrap_or(default_ttl_seconds),
    };
    if ttl == 0 {
        return Err(Refusal::new(
            ErrorCode::InvalidParameter,
            "ttl_seconds must be at least 1, not 0",
        ));
    }
    let ttl = SignedDuration::from_secs(i64::try_from(ttl).unwrap_or(i64::MAX));
    // A deadline that can't be represented is as good as the last one that can.
    Ok(now.checked_add(ttl).unwrap_or(Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_is_given_or_follows_from_the_ttl() {
        let now: Timestamp = "2026-11-23T13:00:00Z".parse().unwrap();
        let later: Timestamp = "2026-11-23T13:01:00Z".parse().unwrap();
        assert_eq!(deadline(None, None, 60, now), Ok(later));
        assert_eq!(deadline(None, Some(60), 1, now), Ok(later));
        assert_eq!(deadline(Some(later), None, 1, now), Ok(later));
        for endless in [u64::MAX, i64::MAX as u64, i64::MAX as u64 / 1_000] {
            assert_eq!(deadline(None, Some(endless), 1, now), Ok(Timestamp::MAX));
        }
        for (given, ttl, code, part) in [
            (Some(later), Some(1), ErrorCode::InvalidRequest, "not both"),
            (Some(now), None, ErrorCode::InvalidParameter, "is in the past"),
            (None, Some(0), ErrorCode::InvalidParameter, "at least 1"),
        ] {
            let refusal = deadline(given, ttl, 60, now).unwrap_err();
            assert_eq!(refusal.code, code);
            assert!(refusal.message.contains(part), "{refusal}");
        }
    }
}
