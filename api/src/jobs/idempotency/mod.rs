//! The header `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): the same request twice is one.
//!
//! The first request with a key writes down which job ids it is about to use, and only then publishes; when its jobs are
//! accepted it adds where they stand. A repeated request finds that and is answered with the first one's jobs. One that
//! finds ids without places waits a little; if nothing comes of it, the first request's gateway has died, and the repeated
//! one publishes under the same ids: whatever had been published before, the first result of an id wins. Jobs that were taken
//! back because the queue did not take all of a request are written down first: they are published again as new messages,
//! where the stream would else take them for those that are cancelled.
//!
//! Kept for 24 hours in the stream `CALLS`, so that it holds across replicas.

mod key;

use std::collections::HashSet;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use precis_producer::Submission;
use precis_runtime::clock;
use precis_schemas::batch::BatchRef;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::{JobHandle, JobId};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::Instrument as _;

pub(crate) use key::{Key, reused};

use crate::http::problem::ApiError;
use crate::jobs::group::{self, GroupRefusal, JobGroup, PartialGroup, SubmittedGroup};
use crate::queue::{CreateOutcome, Record};
use crate::state::AppState;

/// Says in an answer that it is about the first request's jobs.
pub(crate) const REPLAYED: (HeaderName, HeaderValue) = (
    HeaderName::from_static("idempotent-replayed"),
    HeaderValue::from_static("true"),
);
/// How long a repeated request waits for the first to be accepted.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause between two looks meanwhile.
const PAUSE: Duration = Duration::from_millis(20);
/// After this time a first request that was not accepted has died.
const STALE: Duration = Duration::from_secs(5);

/// The jobs of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Call {
    /// Their batch, if they are one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) batch: Option<JobId>,
    /// Their ids, in the order of the request.
    pub(crate) ids: Vec<JobId>,
    /// Where they stand in the queue, once they are accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sequences: Option<Vec<u64>>,
    /// Those of the ids whose jobs were published and taken back.
    #[serde(default, skip_serializing_if = "HashSet::is_empty")]
    pub(crate) taken_back: HashSet<JobId>,
}

/// A key that this request may use.
#[derive(Debug)]
pub(crate) struct Claim {
    key: Key,
    revision: u64,
    call: Call,
}

/// What is known of a key.
enum Known {
    /// The first request's jobs.
    Accepted(Call),
    /// The first request has died; its ids are to be used.
    Died(Claim),
}

impl Key {
    /// The jobs of the first request with this key, if there was one.
    ///
    /// # Errors
    /// When it was another request, or is still being accepted.
    async fn known(&self, state: &AppState, mut record: Record) -> Result<Known, ApiError> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let call = self.call_of(&record)?;
            if call.sequences.is_some() {
                return Ok(Known::Accepted(call));
            }
            // Refused: what it had published was taken back.
            let is_refused = !call.taken_back.is_empty();
            if is_refused || age(&record) >= STALE {
                return Ok(Known::Died(Claim {
                    key: self.clone(),
                    revision: record.revision,
                    call,
                }));
            }
            if Instant::now() >= give_up {
                return Err(ApiError::new(
                    ErrorCode::IdempotencyKeyInUse,
                    "the first request with this idempotency key is still being accepted",
                ));
            }
            tokio::time::sleep(PAUSE).await;
            match state.queue().record(self.name()).await? {
                Some(newer) => record = newer,
                // It was refused, so that this one may try.
                None => {
                    return Err(ApiError::new(
                        ErrorCode::IdempotencyKeyInUse,
                        "the first request with this idempotency key was refused a moment ago; send it again",
                    ));
                }
            }
        }
    }
}

/// Time since a record was stored.
pub(crate) fn age(record: &Record) -> Duration {
    Duration::try_from(clock::now().duration_since(record.stored_at)).unwrap_or_default()
}

impl Call {
    /// Of these submissions.
    fn of(submissions: &[Submission]) -> Self {
        let batch = submissions.first().and_then(|first| first.job.batch.as_ref());
        Self {
            batch: batch.map(|place| place.id.clone()),
            ids: submissions
                .iter()
                .map(|submission| submission.job.id.clone())
                .collect(),
            sequences: None,
            taken_back: HashSet::new(),
        }
    }

    /// Gives its ids to submissions that say the same.
    fn apply(&self, submissions: &mut [Submission]) {
        let size = submissions.len() as u64;
        for ((index, submission), id) in (0..).zip(submissions).zip(&self.ids) {
            submission.job.id = id.clone();
            submission.job.batch = self.batch.clone().map(|id| BatchRef {
                id,
                index,
                size: Some(size),
            });
        }
    }

    /// The handles of its jobs.
    pub(crate) fn handles(&self) -> Vec<JobHandle> {
        let sequences = self.sequences.iter().flatten().map(|sequence| Some(*sequence));
        let ids = self.ids.iter().cloned();
        ids.zip(sequences.chain(std::iter::repeat(None)))
            .map(|(id, sequence)| JobHandle { id, sequence })
            .collect()
    }
}

/// The jobs of the first request with this key, when they are accepted already.
///
/// # Errors
/// When the key was used for another request, or the first is still being accepted.
pub(crate) async fn replay(state: &AppState, key: Option<&Key>) -> Result<Option<Call>, ApiError> {
    let Some(key) = key else { return Ok(None) };
    let Some(record) = state.queue().record(key.name()).await? else {
        return Ok(None);
    };
    match key.known(state, record).await? {
        Known::Accepted(call) => Ok(Some(call)),
        // It is taken over when the request has been checked.
        Known::Died(_) => Ok(None),
    }
}

/// What became of a request.
pub(crate) enum Submitted {
    /// Its jobs are accepted.
    Now(SubmittedGroup),
    /// Another one with the same key was first.
    Before(Call),
}

/// Publishes `submissions`, all or none, unless another request with this key was first.
///
/// # Errors
/// When the queue is full or can't be reached, or as [`replay`].
pub(crate) async fn submit(
    state: &AppState,
    key: Option<Key>,
    mut submissions: Vec<Submission>,
) -> Result<Submitted, ApiError> {
    let claim = match key {
        None => None,
        Some(key) => match claim(state, key, Call::of(&submissions)).await? {
            Known::Accepted(call) => return Ok(Submitted::Before(call)),
            Known::Died(claim) => Some(claim),
        },
    };
    let Some(claim) = claim else {
        let submitted = JobGroup::new(state, submissions).submit(state).await;
        return Ok(Submitted::Now(submitted.map_err(|refused| refused.refusal)?));
    };
    claim.call.apply(&mut submissions);
    let group = JobGroup::new(state, submissions);
    let state = state.clone();
    // On its own: all or none is published, and the key says which, also when the client leaves in the middle.
    let all = async move { claim.publish(&state, group).await };
    let published = tokio::spawn(all.in_current_span()).await;
    let published = published.map_err(|error| ApiError::internal(&format!("a submission: {error}")))?;
    Ok(Submitted::Now(published?))
}

async fn claim(state: &AppState, key: Key, call: Call) -> Result<Known, ApiError> {
    let body = key.record_of(call.clone());
    match state.queue().create_record(key.name(), body).await? {
        CreateOutcome::Created(revision) => Ok(Known::Died(Claim { key, revision, call })),
        CreateOutcome::Exists(record) => key.known(state, record).await,
    }
}

impl Claim {
    /// Publishes all or none, and settles the claim.
    async fn publish(self, state: &AppState, group: JobGroup) -> Result<SubmittedGroup, Refusal> {
        match group.publish(state, |id| self.message_id(id)).await {
            Ok(submitted) => {
                self.accepted(state, &submitted.handles()).await;
                Ok(submitted)
            }
            Err(PartialGroup {
                refused: GroupRefusal { refusal, .. },
                accepted,
            }) => {
                self.refused(state, &refusal, &accepted).await;
                Err(refusal)
            }
        }
    }

    /// Writes down where the jobs stand. If that fails, a repeated request publishes under the same ids.
    async fn accepted(self, state: &AppState, handles: &[JobHandle]) {
        let body = self.key.record_of(Call {
            sequences: Some(handles.iter().filter_map(|handle| handle.sequence).collect()),
            ..self.call
        });
        let updated = state
            .queue()
            .update_record(self.key.name(), self.revision, body)
            .await;
        match updated {
            // Or a repeated request has taken over, with the same ids.
            Ok(_) => {}
            Err(refusal) => tracing::warn!(%refusal, "an accepted request can't be remembered"),
        }
    }

    /// Id of the message of a job: the job's own, unless that was taken back.
    fn message_id(&self, id: &JobId) -> String {
        match self.call.taken_back.contains(id) {
            // Another one each time that the record was written.
            true => format!("{id}.{}", self.revision),
            false => id.to_string(),
        }
    }

    /// Takes back what the queue has taken of a request, and frees its key. Where it is not certain what the queue has
    /// taken, the key stays: a repeated request uses the same ids.
    async fn refused(self, state: &AppState, refusal: &Refusal, taken: &[JobHandle]) {
        // First the key and then the jobs: a request that is repeated must never find jobs that are cancelled.
        let settled = if refusal.code == ErrorCode::QueueUnavailable {
            self.before_taking_back(state, taken).await
        } else {
            state.queue().remove_record(self.revision).await.map(|()| true)
        };
        match settled {
            Ok(true) => group::cancel(state, taken).await,
            // A repeated request has taken over, with the same ids: the jobs are its own.
            Ok(false) => {}
            Err(refusal) => tracing::warn!(%refusal, "what was taken of a refused request goes on"),
        }
    }

    /// Writes down that these jobs are to be taken back; false when a repeated request has taken over.
    async fn before_taking_back(self, state: &AppState, taken: &[JobHandle]) -> Result<bool, Refusal> {
        if taken.is_empty() {
            return Ok(true);
        }
        let mut call = self.call;
        call.taken_back
            .extend(taken.iter().map(|handle| handle.id.clone()));
        let body = self.key.record_of(call);
        let updated = state
            .queue()
            .update_record(self.key.name(), self.revision, body)
            .await?;
        Ok(updated.is_some())
    }
}
