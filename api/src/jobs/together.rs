//! Several jobs in one request: all are checked before the first is queued, and when the queue does not take all of them,
//! those that it took are taken back.

use futures::future::join_all;
use jiff::Timestamp;
use precis_producer::Submission;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::rest::JobView;
use precis_schemas::termination::Termination;
use precis_schemas::{JobHandle, JobId, JobSubject, Outcome};
use tokio::time::Instant;

use crate::access::Caller;
use crate::http::problem::ApiError;
use crate::jobs::lookup;
use crate::jobs::submit;
use crate::jobs::termination;
use crate::state::AppState;
use crate::watch::wait::Waiter;

/// Checks how many there are of `what` in one call.
///
/// # Errors
/// When there are none or too many.
pub(crate) fn check_count(what: &str, given: usize, most: usize) -> Result<(), ApiError> {
    if (1..=most).contains(&given) {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorCode::InvalidParameter,
        format!("there are {given} {what}; 1 to {most} are allowed in one call"),
    ))
}

/// Checks all requests of a call; the error says which of `what` it is about.
///
/// # Errors
/// The first refusal that applies.
pub(crate) async fn prepare_all(
    state: &AppState,
    caller: &Caller,
    what: &str,
    requests: impl Iterator<Item = submit::Request>,
    trace: &TraceContext,
) -> Result<Vec<Submission>, ApiError> {
    let mut submissions = Vec::new();
    for (index, request) in requests.enumerate() {
        let submission = submit::prepare(state, caller, request, trace)
            .await
            .map_err(|refusal| ApiError::from(refusal).at(&format!("{what}[{index}]")))?;
        submissions.push(submission);
    }
    Ok(submissions)
}

/// Places of those who wait for the jobs of a request, taken before they are published: a fast worker may be done before
/// its acknowledgement is here.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    jobs: Vec<(Waiter, JobSubject, Option<Timestamp>)>,
    batch: Option<JobId>,
}

impl Waiting {
    /// Takes places.
    pub(crate) fn begin(&mut self, state: &AppState, submissions: &[Submission]) {
        let first = submissions.first().and_then(|first| first.job.batch.as_ref());
        self.batch = first.map(|place| place.id.clone());
        let place = |submission: &Submission| {
            (
                state.waiters().register(&submission.job.id),
                submission.subject.clone(),
                submission.job.deadline,
            )
        };
        self.jobs = submissions.iter().map(place).collect();
    }

    /// The jobs' batch, if they are one.
    pub(crate) fn batch(&self) -> Option<JobId> {
        self.batch.clone()
    }

    /// The jobs when they have ended, or as they are at `until`.
    pub(crate) async fn ended_by(
        self,
        state: &AppState,
        caller: &Caller,
        handles: &[JobHandle],
        until: Instant,
    ) -> Vec<JobView> {
        let wait = |((mut waiter, subject, deadline), handle)| async move {
            let ended = if Instant::now() < until {
                lookup::ended_by(state, caller, &mut waiter, handle, deadline, until).await
            } else {
                None
            };
            match ended {
                Some(view) => view,
                None => lookup::accepted(state, handle, &subject).await,
            }
        };
        join_all(self.jobs.into_iter().zip(handles).map(wait)).await
    }
}

/// A request that the queue did not take as a whole.
#[derive(Debug)]
pub(crate) struct Partly {
    /// Why not.
    pub(crate) refusal: Refusal,
    /// The jobs that it did take. They are to be taken back.
    pub(crate) taken: Vec<JobHandle>,
}

/// Publishes all of them; the handles, in the same order. `message_id` gives the id of a job's message.
///
/// # Errors
/// When the queue is full or can't be reached.
pub(crate) async fn publish_all(
    state: &AppState,
    submissions: &[Submission],
    message_id: impl Fn(&JobId) -> String,
) -> Result<Vec<JobHandle>, Partly> {
    let publish = async |submission: &Submission| {
        let message_id = message_id(&submission.job.id);
        submit::publish_as(state, submission, &message_id).await
    };
    let published = join_all(submissions.iter().map(publish)).await;
    let mut handles = Vec::with_capacity(published.len());
    let mut refused = None;
    for outcome in published {
        match outcome {
            Ok(handle) => handles.push(handle),
            Err(refusal) => refused = Some(refusal),
        }
    }
    match refused {
        None => Ok(handles),
        Some(refusal) => Err(Partly {
            refusal,
            taken: handles,
        }),
    }
}

/// Takes back what the queue has taken of a request: it is cancelled, and done already at worst.
pub(crate) async fn take_back_all(state: &AppState, handles: &[JobHandle]) {
    join_all(handles.iter().map(|handle| take_back(state, handle))).await;
}

async fn take_back(state: &AppState, handle: &JobHandle) {
    let termination = Termination {
        outcome: Outcome::Cancelled,
        reason: Refusal::new(
            ErrorCode::Cancelled,
            "the queue did not take all jobs of the request",
        ),
        attempts: 0,
    };
    if let Err(refusal) = termination::end(state, handle, termination).await {
        tracing::warn!(job = %handle, %refusal, "a job of a refused request goes on");
    }
}
