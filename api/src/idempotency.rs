//! The header `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): the same request twice is one.
//!
//! The first request with a key writes down which job ids it is about to use, and only then publishes; when its jobs are
//! accepted it adds where they stand. A repeated request finds that and is answered with the first one's jobs. One that
//! finds ids without places waits a little; if nothing comes of it, the first request's gateway has died, and the repeated
//! one publishes under the same ids: whatever had been published before, the first result of an id wins.
//!
//! Kept for 24 hours in the stream `CALLS`, so that it holds across replicas.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use precis_producer::Submission;
use precis_schemas::batch::BatchRef;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::{JobHandle, JobId, Token};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::problem::ApiError;
use crate::queue::{Created, Record};
use crate::state::AppState;
use crate::together;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says in an answer that it is about the first request's jobs.
pub(crate) const REPLAYED: (HeaderName, HeaderValue) = (
    HeaderName::from_static("idempotent-replayed"),
    HeaderValue::from_static("true"),
);
/// Longest key, in bytes.
const MAX_KEY_BYTES: usize = 255;
/// How long a repeated request waits for the first to be accepted.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause between two looks meanwhile.
const PAUSE: Duration = Duration::from_millis(20);
/// After this time a first request that was not accepted has died.
const STALE: Duration = Duration::from_secs(5);

/// What a request with a key is: where it is remembered, and what tells it from another.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    name: Token,
    fingerprint: String,
}

/// The jobs of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Call {
    /// Their batch, if they are one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) batch: Option<JobId>,
    /// Their ids, in the order of the request.
    pub(crate) ids: Vec<JobId>,
    /// Where they stand in the queue, once they are accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sequences: Option<Vec<u64>>,
}

/// What is stored under a key.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    fingerprint: String,
    #[serde(flatten)]
    call: Call,
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
    /// The key of a request, if it has one. `route` and what `body` says belong to the request.
    ///
    /// # Errors
    /// When the header can't be read.
    pub(crate) fn read(
        headers: &HeaderMap,
        tenant: &Token,
        route: &str,
        body: &impl Serialize,
    ) -> Result<Option<Self>, ApiError> {
        let mut values = headers.get_all(&IDEMPOTENCY_KEY).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        let invalid = |problem: &str| {
            let message = format!("idempotency-key {problem}");
            Err(ApiError::new(ErrorCode::InvalidRequest, message))
        };
        if values.next().is_some() {
            return invalid("occurs twice");
        }
        let Some(key) = value.to_str().ok().and_then(unquoted) else {
            return invalid("is no text of visible ASCII characters, with or without quotes");
        };
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return invalid(&format!("must have 1 to {MAX_KEY_BYTES} characters"));
        }
        // What a request says always has a JSON form, and always the same one.
        let body = serde_json::to_vec(body).unwrap_or_default();
        let name = digest(&[tenant.as_str().as_bytes(), key.as_bytes()]);
        Ok(Some(Self {
            name: Token::sanitized(&name),
            fingerprint: digest(&[route.as_bytes(), &body]),
        }))
    }

    /// The jobs of the first request with this key, if there was one.
    ///
    /// # Errors
    /// When it was another request, or is still being accepted.
    async fn known(&self, state: &AppState, mut record: Record) -> Result<Known, ApiError> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let entry: Entry = serde_json::from_slice(&record.body)
                .map_err(|error| ApiError::internal(&format!("what is stored under a key: {error}")))?;
            if entry.fingerprint != self.fingerprint {
                return Err(ApiError::new(
                    ErrorCode::IdempotencyKeyReused,
                    "the idempotency key was used for another request; a new request needs a new key",
                ));
            }
            if entry.call.sequences.is_some() {
                return Ok(Known::Accepted(entry.call));
            }
            if age(&record) >= STALE {
                return Ok(Known::Died(Claim {
                    key: self.clone(),
                    revision: record.revision,
                    call: entry.call,
                }));
            }
            if Instant::now() >= give_up {
                return Err(ApiError::new(
                    ErrorCode::IdempotencyKeyInUse,
                    "the first request with this idempotency key is still being accepted",
                ));
            }
            tokio::time::sleep(PAUSE).await;
            match state.queue().record(&self.name).await? {
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

fn age(record: &Record) -> Duration {
    Duration::try_from(Timestamp::now().duration_since(record.stored_at)).unwrap_or_default()
}

/// The text of a structured header's string (RFC 8941, 3.3.3), or a text without quotes as it is.
fn unquoted(value: &str) -> Option<String> {
    let value = value.trim();
    let Some(rest) = value.strip_prefix('"') else {
        return value
            .bytes()
            .all(|byte| byte.is_ascii_graphic())
            .then(|| value.to_owned());
    };
    let inner = rest.strip_suffix('"')?;
    let mut text = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.push(characters.next().filter(|next| matches!(next, '"' | '\\'))?),
            '"' => return None,
            _ => text.push(character),
        }
    }
    Some(text)
}

/// SHA-256 in hexadecimal digits; the lengths are part of it, so that parts can't be confused.
fn digest(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
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
    let Some(record) = state.queue().record(&key.name).await? else {
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
    Now(Vec<JobHandle>),
    /// Another one with the same key was first.
    Before(Call),
}

/// Publishes `submissions`, all or none, unless another request with this key was first. `before` is called with them
/// as they will be published.
///
/// # Errors
/// When the queue is full or can't be reached, or as [`replay`].
pub(crate) async fn submit(
    state: &AppState,
    key: Option<Key>,
    mut submissions: Vec<Submission>,
    before: impl FnOnce(&[Submission]),
) -> Result<Submitted, ApiError> {
    let claim = match key {
        None => None,
        Some(key) => match claim(state, key, Call::of(&submissions)).await? {
            Known::Accepted(call) => return Ok(Submitted::Before(call)),
            Known::Died(claim) => Some(claim),
        },
    };
    if let Some(claim) = &claim {
        claim.call.apply(&mut submissions);
    }
    before(&submissions);
    match together::publish_all(state, &submissions).await {
        Ok(handles) => {
            if let Some(claim) = claim {
                claim.accepted(state, &handles).await;
            }
            Ok(Submitted::Now(handles))
        }
        Err(refusal) => {
            if let Some(claim) = claim {
                claim.refused(state, &refusal).await;
            }
            Err(refusal.into())
        }
    }
}

async fn claim(state: &AppState, key: Key, call: Call) -> Result<Known, ApiError> {
    let entry = Entry {
        fingerprint: key.fingerprint.clone(),
        call,
    };
    // Ids always have a JSON form.
    let body = serde_json::to_vec(&entry).unwrap_or_default();
    match state.queue().create_record(&key.name, body.into()).await? {
        Created::New(revision) => Ok(Known::Died(Claim {
            key,
            revision,
            call: entry.call,
        })),
        Created::Exists(record) => key.known(state, record).await,
    }
}

impl Claim {
    /// Writes down where the jobs stand. If that fails, a repeated request publishes under the same ids.
    async fn accepted(self, state: &AppState, handles: &[JobHandle]) {
        let entry = Entry {
            fingerprint: self.key.fingerprint,
            call: Call {
                sequences: Some(handles.iter().filter_map(|handle| handle.sequence).collect()),
                ..self.call
            },
        };
        let body = serde_json::to_vec(&entry).unwrap_or_default();
        let updated = state
            .queue()
            .update_record(&self.key.name, self.revision, body.into())
            .await;
        match updated {
            // Or a repeated request has taken over, with the same ids.
            Ok(_) => {}
            Err(refusal) => tracing::warn!(%refusal, "an accepted request can't be remembered"),
        }
    }

    /// Frees the key of a request that the queue did not take. Where that is not certain, it stays: a repeated request uses
    /// the same ids.
    async fn refused(self, state: &AppState, refusal: &Refusal) {
        if refusal.code == ErrorCode::QueueUnavailable {
            return;
        }
        if let Err(refusal) = state.queue().remove_record(self.revision).await {
            tracing::warn!(%refusal, "a refused request can't be forgotten");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(value: &str, tenant: &str, body: &serde_json::Value) -> Result<Option<Key>, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_str(value).unwrap());
        Key::read(&headers, &Token::sanitized(tenant), "/v1/summaries", body)
    }

    #[test]
    fn a_key_is_read_in_both_forms_and_belongs_to_its_tenant() {
        let body = json!({"text": "x"});
        let name = |value: &str, tenant: &str| key(value, tenant, &body).unwrap().unwrap().name;
        assert_eq!(name("abc-1", "a"), name("\"abc-1\"", "a"));
        assert_eq!(name("\"a\\\"b\"", "a"), name("\"a\\\"b\"", "a"));
        assert_ne!(name("abc-1", "a"), name("abc-1", "b"));
        for bad in ["\"\"", "\"a", "\"a\\x\"", "a b", "\"a\"b\"", &"x".repeat(256)] {
            let error = key(bad, "a", &body).unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidRequest, "{bad}");
        }
        let none = Key::read(&HeaderMap::new(), &Token::sanitized("a"), "/", &body);
        assert!(none.unwrap().is_none());
    }

    #[test]
    fn a_request_is_what_it_says() {
        let print = |body| key("k", "a", &body).unwrap().unwrap().fingerprint;
        assert_eq!(print(json!({"text": "x"})), print(json!({"text": "x"})));
        assert_ne!(print(json!({"text": "x"})), print(json!({"text": "y"})));
    }
}
