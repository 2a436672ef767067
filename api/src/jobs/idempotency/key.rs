//! The key of a request, and what is stored under it.

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use precis_schemas::Token;
use precis_schemas::error_code::ErrorCode;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Call;
use crate::http::problem::ApiError;
use crate::queue::Record;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Longest key, in bytes.
const MAX_KEY_BYTES: usize = 255;

/// What a request with a key is: where it is remembered, and what tells it from another.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    name: Token,
    fingerprint: String,
}

/// What is stored under a key.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    fingerprint: String,
    #[serde(flatten)]
    call: Call,
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

    /// Where it is remembered.
    pub(crate) fn name(&self) -> &Token {
        &self.name
    }

    /// What is stored under it for these jobs.
    pub(crate) fn record_of(&self, call: Call) -> Bytes {
        let entry = Entry {
            fingerprint: self.fingerprint.clone(),
            call,
        };
        // Ids and numbers always have a JSON form.
        serde_json::to_vec(&entry).unwrap_or_default().into()
    }

    /// The jobs of the request that was first.
    ///
    /// # Errors
    /// When that was another request.
    pub(crate) fn call_of(&self, record: &Record) -> Result<Call, ApiError> {
        let entry: Entry = serde_json::from_slice(&record.body)
            .map_err(|error| ApiError::internal(&format!("what is stored under a key: {error}")))?;
        if entry.fingerprint == self.fingerprint {
            Ok(entry.call)
        } else {
            Err(reused())
        }
    }
}

/// The refusal of a key that was used for something else.
pub(crate) fn reused() -> ApiError {
    ApiError::new(
        ErrorCode::IdempotencyKeyReused,
        "the idempotency key was used for another request; a new request needs a new key",
    )
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

#[cfg(test)]
mod tests {
    use http::HeaderValue;
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
