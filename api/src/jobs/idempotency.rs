//! Idempotent requests, by the header `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header).
//!
//! The first request with a key records the job ids it is about to use, publishes the jobs, and adds their sequences
//! once the queue has accepted them. A repeated request finds the record and answers with the same jobs.
//!
//! A repeated request that finds no sequences waits briefly. If none appear, the first request's gateway has died,
//! and the repeated request publishes under the same ids. That is harmless, because the first result of an id wins.
//!
//! If the queue refuses a job, the request releases its key and cancels the accepted jobs. If the queue became
//! unavailable, it is uncertain which jobs were accepted: the key stays, and the record lists the cancelled jobs. The
//! next request publishes those under new message ids, because the stream would drop the old ones as duplicates.
//!
//! Records are kept for 24 hours in the stream `CALLS`, which all gateways share.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use precis_producer::Submission;
use precis_runtime::clock;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::{JobHandle, JobId};
use tokio::time::Instant;
use tracing::Instrument as _;

pub(crate) use super::idempotency_key::{IdempotencyKey, IdempotencyRecord, reused};

use crate::gateway::state::AppState;
use crate::http::problem::ApiError;
use crate::jobs::group::{self, GroupRefusal, JobGroup, PartialGroup, SubmittedGroup};
use crate::queue::{CreateOutcome, Record};

/// The response header that marks a repeated request.
pub(crate) const REPLAYED: (HeaderName, HeaderValue) = (
    HeaderName::from_static("idempotent-replayed"),
    HeaderValue::from_static("true"),
);
/// How long a repeated request waits for the first one to be accepted.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// How often it checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// A request that is not accepted after this time has died.
const ABANDONED_AFTER: Duration = Duration::from_secs(5);

/// A key that the current request holds.
#[derive(Debug)]
struct KeyClaim {
    key: IdempotencyKey,
    revision: u64,
    record: IdempotencyRecord,
}

/// The state of a key.
enum KeyState {
    /// The first request was accepted with these jobs.
    Accepted(IdempotencyRecord),
    /// This request holds the key: it is the first one, or the first one was refused or has died.
    Claimed(KeyClaim),
}

/// The time since `record` was stored.
pub(crate) fn age(record: &Record) -> Duration {
    Duration::try_from(clock::now().duration_since(record.stored_at)).unwrap_or_default()
}

/// Waits until the request that stored `record` is accepted, refused or dead.
///
/// # Errors
/// If it was another request, or is not settled in time.
async fn settled(state: &AppState, key: &IdempotencyKey, mut stored: Record) -> Result<KeyState, ApiError> {
    let give_up = Instant::now() + MAX_WAIT;
    loop {
        let record = key.decode(&stored.body)?;
        if record.is_accepted {
            return Ok(KeyState::Accepted(record));
        }
        let is_refused = !record.cancelled.is_empty();
        if is_refused || age(&stored) >= ABANDONED_AFTER {
            return Ok(KeyState::Claimed(KeyClaim {
                key: key.clone(),
                revision: stored.revision,
                record,
            }));
        }
        let in_use = |message: &str| Err(ApiError::new(ErrorCode::IdempotencyKeyInUse, message));
        if Instant::now() >= give_up {
            return in_use("the first request with this idempotency key is still being accepted");
        }
        tokio::time::sleep(CHECK_INTERVAL).await;
        match state.queue().record(key.name()).await? {
            Some(newer) => stored = newer,
            None => {
                return in_use(
                    "the first request with this idempotency key was refused a moment ago; send it again",
                );
            }
        }
    }
}

/// Returns the record of the first request with `key`, if it was accepted.
///
/// # Errors
/// If the key was used for another request, or the first request is still being accepted.
pub(crate) async fn replay(
    state: &AppState,
    key: Option<&IdempotencyKey>,
) -> Result<Option<IdempotencyRecord>, ApiError> {
    let Some(key) = key else { return Ok(None) };
    let Some(record) = state.queue().record(key.name()).await? else {
        return Ok(None);
    };
    match settled(state, key, record).await? {
        KeyState::Accepted(record) => Ok(Some(record)),
        // `submit` claims the key once the request is validated.
        KeyState::Claimed(_) => Ok(None),
    }
}

/// The outcome of a submission.
pub(crate) enum Submitted {
    /// The jobs were accepted now.
    New(SubmittedGroup),
    /// An earlier request with the same key was accepted with these jobs.
    Replayed(IdempotencyRecord),
}

/// Publishes all of `submissions` or none, unless an earlier request with `key` was accepted.
///
/// # Errors
/// If the queue is full or can't be reached, or as [`replay`].
pub(crate) async fn submit(
    state: &AppState,
    key: Option<IdempotencyKey>,
    mut submissions: Vec<Submission>,
) -> Result<Submitted, ApiError> {
    let Some(key) = key else {
        let submitted = JobGroup::new(state, submissions).submit(state).await;
        return Ok(Submitted::New(submitted.map_err(|refused| refused.refusal)?));
    };
    let claim = match claim(state, key, IdempotencyRecord::of(&submissions)).await? {
        KeyState::Accepted(record) => return Ok(Submitted::Replayed(record)),
        KeyState::Claimed(claim) => claim,
    };
    claim.record.assign_ids(&mut submissions);
    let group = JobGroup::new(state, submissions);
    let state = state.clone();
    // In its own task: the key must be settled even if the client disconnects.
    let publish = async move { claim.publish(&state, group).await };
    let published = tokio::spawn(publish.in_current_span()).await;
    let published = published.map_err(|error| ApiError::internal(&format!("a submission: {error}")))?;
    Ok(Submitted::New(published?))
}

async fn claim(
    state: &AppState,
    key: IdempotencyKey,
    record: IdempotencyRecord,
) -> Result<KeyState, ApiError> {
    let body = key.encode(record.clone());
    match state.queue().create_record(key.name(), body).await? {
        CreateOutcome::Created(revision) => Ok(KeyState::Claimed(KeyClaim {
            key,
            revision,
            record,
        })),
        CreateOutcome::Exists(stored) => settled(state, &key, stored).await,
    }
}

impl KeyClaim {
    /// Publishes the group and settles the key.
    async fn publish(self, state: &AppState, group: JobGroup) -> Result<SubmittedGroup, Refusal> {
        match group.publish(state, |id| self.message_id(id)).await {
            Ok(submitted) => {
                self.accept(state, submitted.handles()).await;
                Ok(submitted)
            }
            Err(PartialGroup { refused, accepted }) => {
                let GroupRefusal { refusal, .. } = refused;
                self.refuse(state, &refusal, &accepted).await;
                Err(refusal)
            }
        }
    }

    /// The message id of a job: the job's own id, unless it was published and cancelled.
    fn message_id(&self, id: &JobId) -> String {
        match self.record.cancelled.contains(id) {
            // The revision changes with every write of the record.
            true => format!("{id}.{}", self.revision),
            false => id.to_string(),
        }
    }

    /// Records the sequences of the accepted jobs. If that fails, a repeated request publishes under the same ids.
    async fn accept(self, state: &AppState, jobs: Vec<JobHandle>) {
        let body = self.key.encode(IdempotencyRecord {
            jobs,
            is_accepted: true,
            ..self.record
        });
        let name = self.key.name();
        // `Ok(None)` means that a repeated request has taken over, with the same ids.
        if let Err(refusal) = state.queue().update_record(name, self.revision, body).await {
            tracing::warn!(%refusal, "could not record an accepted request under its idempotency key");
        }
    }

    /// Releases the key of a refused request and cancels the jobs that the queue accepted. Keeps the key if it is
    /// uncertain what the queue has accepted: a repeated request then uses the same ids.
    async fn refuse(self, state: &AppState, refusal: &Refusal, accepted: &[JobHandle]) {
        // Settle the key first: a repeated request must never find cancelled jobs.
        let settled = if refusal.code == ErrorCode::QueueUnavailable {
            self.record_cancelled(state, accepted).await
        } else {
            state.queue().remove_record(self.revision).await.map(|()| true)
        };
        match settled {
            Ok(true) => group::cancel(state, accepted).await,
            // The jobs now belong to the repeated request that has taken over.
            Ok(false) => {}
            Err(refusal) => {
                tracing::warn!(%refusal, "jobs of a refused request could not be cancelled; they will run");
            }
        }
    }

    /// Records that `jobs` will be cancelled. Returns `false` if a repeated request has taken over.
    async fn record_cancelled(self, state: &AppState, jobs: &[JobHandle]) -> Result<bool, Refusal> {
        if jobs.is_empty() {
            return Ok(true);
        }
        let mut record = self.record;
        record.cancelled.extend(jobs.iter().map(|job| job.id.clone()));
        let body = self.key.encode(record);
        let name = self.key.name();
        let updated = state.queue().update_record(name, self.revision, body).await?;
        Ok(updated.is_some())
    }
}
