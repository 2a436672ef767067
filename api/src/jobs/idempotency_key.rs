//! The header `Idempotency-Key`, and the record that is stored under a key.

use std::collections::HashSet;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use precis_producer::Submission;
use precis_schemas::batch::BatchRef;
use precis_schemas::error_code::ErrorCode;
use precis_schemas::{JobHandle, JobId, Token};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::http::problem::ApiError;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Longest key, in bytes.
const MAX_KEY_BYTES: usize = 255;

/// A client's key for a request, with a fingerprint of the request.
#[derive(Debug, Clone)]
pub(crate) struct IdempotencyKey {
    /// The record's name: a digest of tenant and key.
    name: Token,
    /// A digest of route and body. Two requests under one key must have the same.
    fingerprint: String,
}

/// The jobs that the first request with a key submitted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct IdempotencyRecord {
    /// The batch, if the request has one.
    pub(crate) batch: Option<JobId>,
    /// The jobs, in the order of the request. They have sequences once the request is accepted.
    pub(crate) jobs: Vec<JobHandle>,
    /// Whether the queue has accepted every job.
    pub(crate) is_accepted: bool,
    /// Jobs that were published and then cancelled because the queue refused another one.
    pub(crate) cancelled: HashSet<JobId>,
}

/// The JSON form of a record.
#[derive(Debug, Serialize, Deserialize)]
struct StoredRecord {
    fingerprint: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    batch: Option<JobId>,
    ids: Vec<JobId>,
    /// One for each id, once the request is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sequences: Option<Vec<Option<u64>>>,
    #[serde(default, rename = "taken_back", skip_serializing_if = "HashSet::is_empty")]
    cancelled: HashSet<JobId>,
}

impl IdempotencyKey {
    /// Reads the key from the headers of a request of `tenant`. `route` and `body` identify the request.
    ///
    /// # Errors
    /// If the header occurs twice or is malformed.
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
            return invalid("must consist of visible ASCII characters, with or without quotes");
        };
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return invalid(&format!("must have 1 to {MAX_KEY_BYTES} characters"));
        }
        // A parsed body always serializes, and always to the same JSON.
        let body = serde_json::to_vec(body).unwrap_or_default();
        let name = digest(&[tenant.as_str().as_bytes(), key.as_bytes()]);
        Ok(Some(Self {
            name: Token::sanitized(&name),
            fingerprint: digest(&[route.as_bytes(), &body]),
        }))
    }

    /// The name of the key's record.
    pub(crate) fn name(&self) -> &Token {
        &self.name
    }

    /// Encodes a record under this key.
    pub(crate) fn encode(&self, record: IdempotencyRecord) -> Bytes {
        let sequences = record.jobs.iter().map(|job| job.sequence);
        let stored = StoredRecord {
            fingerprint: self.fingerprint.clone(),
            batch: record.batch,
            sequences: record.is_accepted.then(|| sequences.collect()),
            ids: record.jobs.into_iter().map(|job| job.id).collect(),
            cancelled: record.cancelled,
        };
        // Ids and numbers always serialize.
        serde_json::to_vec(&stored).unwrap_or_default().into()
    }

    /// Decodes the record that the first request with this key has stored.
    ///
    /// # Errors
    /// [`ErrorCode::IdempotencyKeyReused`] if that was another request.
    pub(crate) fn decode(&self, body: &[u8]) -> Result<IdempotencyRecord, ApiError> {
        let malformed =
            |problem: &str| ApiError::internal(&format!("malformed idempotency record: {problem}"));
        let stored: StoredRecord =
            serde_json::from_slice(body).map_err(|error| malformed(&error.to_string()))?;
        if stored.fingerprint != self.fingerprint {
            return Err(reused());
        }
        let is_accepted = stored.sequences.is_some();
        let sequences = stored.sequences.unwrap_or_else(|| vec![None; stored.ids.len()]);
        if sequences.len() != stored.ids.len() {
            return Err(malformed("the numbers of ids and sequences differ"));
        }
        let jobs = stored.ids.into_iter().zip(sequences);
        Ok(IdempotencyRecord {
            batch: stored.batch,
            jobs: jobs.map(|(id, sequence)| JobHandle { id, sequence }).collect(),
            is_accepted,
            cancelled: stored.cancelled,
        })
    }
}

impl IdempotencyRecord {
    /// The record of a request that is about to publish `submissions`.
    pub(super) fn of(submissions: &[Submission]) -> Self {
        let batch = submissions.first().and_then(|first| first.job.batch.as_ref());
        let unpublished = |submission: &Submission| JobHandle {
            id: submission.job.id.clone(),
            sequence: None,
        };
        Self {
            batch: batch.map(|batch| batch.id.clone()),
            jobs: submissions.iter().map(unpublished).collect(),
            ..Self::default()
        }
    }

    /// Gives the recorded ids to the submissions of a repeated request.
    pub(super) fn assign_ids(&self, submissions: &mut [Submission]) {
        let size = submissions.len() as u64;
        for ((index, submission), job) in (0..).zip(submissions).zip(&self.jobs) {
            submission.job.id = job.id.clone();
            submission.job.batch = self.batch.clone().map(|id| BatchRef {
                id,
                index,
                size: Some(size),
            });
        }
    }
}

/// The refusal of a key that another request has used.
pub(crate) fn reused() -> ApiError {
    ApiError::new(
        ErrorCode::IdempotencyKeyReused,
        "the idempotency key was used for another request; a new request needs a new key",
    )
}

/// Parses a string of a structured header (RFC 8941, 3.3.3). Also accepts visible ASCII without quotes.
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

/// SHA-256 in hexadecimal digits. Each part is hashed with its length, so that no two lists of parts collide.
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

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use serde_json::json;

    use super::*;

    fn key(value: &str, tenant: &str, body: &serde_json::Value) -> Result<Option<IdempotencyKey>, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_str(value).unwrap());
        IdempotencyKey::read(&headers, &Token::sanitized(tenant), "/v1/summaries", body)
    }

    #[test]
    fn a_key_may_be_quoted_and_belongs_to_its_tenant() {
        let body = json!({"text": "x"});
        let name = |value: &str, tenant: &str| key(value, tenant, &body).unwrap().unwrap().name;
        assert_eq!(name("abc-1", "a"), name("\"abc-1\"", "a"));
        assert_eq!(name("\"a\\\"b\"", "a"), name("\"a\\\"b\"", "a"));
        assert_ne!(name("abc-1", "a"), name("abc-1", "b"));
        for bad in ["\"\"", "\"a", "\"a\\x\"", "a b", "\"a\"b\"", &"x".repeat(256)] {
            let error = key(bad, "a", &body).unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidRequest, "{bad}");
        }
        let none = IdempotencyKey::read(&HeaderMap::new(), &Token::sanitized("a"), "/", &body);
        assert!(none.unwrap().is_none());
    }

    #[test]
    fn the_fingerprint_follows_the_body() {
        let fingerprint = |body| key("k", "a", &body).unwrap().unwrap().fingerprint;
        assert_eq!(
            fingerprint(json!({"text": "x"})),
            fingerprint(json!({"text": "x"}))
        );
        assert_ne!(
            fingerprint(json!({"text": "x"})),
            fingerprint(json!({"text": "y"}))
        );
    }

    #[test]
    fn a_missing_sequence_does_not_shift_the_others() {
        let key = key("k", "a", &json!({})).unwrap().unwrap();
        let record = IdempotencyRecord {
            jobs: ["a.1", "b", "c.3"].map(|handle| handle.parse().unwrap()).to_vec(),
            is_accepted: true,
            ..IdempotencyRecord::default()
        };
        assert_eq!(key.decode(&key.encode(record.clone())).unwrap(), record);
    }

    #[test]
    fn the_stored_form_pairs_ids_and_sequences_by_position() {
        let key = key("k", "a", &json!({})).unwrap().unwrap();
        let stored = |sequences: serde_json::Value| {
            let fingerprint = &key.fingerprint;
            json!({"fingerprint": fingerprint, "batch": "b", "ids": ["a", "c"], "sequences": sequences})
        };
        let record = key.decode(stored(json!([1, 3])).to_string().as_bytes()).unwrap();
        assert_eq!(record.jobs, ["a.1", "c.3"].map(|handle| handle.parse().unwrap()));
        let encoded: serde_json::Value = serde_json::from_slice(&key.encode(record)).unwrap();
        assert_eq!(encoded, stored(json!([1, 3])));
        let error = key.decode(stored(json!([3])).to_string().as_bytes()).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Internal);
    }
}
