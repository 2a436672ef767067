//! Reads API keys from requests and finds their holders.

use axum::http::{HeaderMap, HeaderName, header};

use crate::config::KeyHash;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// Maximum size of a key to hash, in bytes.
const MAX_KEY_BYTES: usize = 512;

/// Returns the API key of a request: `Authorization: Bearer …`, else `X-Api-Key`. Other `Authorization` schemes, such
/// as the signatures of AWS clients, are ignored.
pub fn from_headers(headers: &HeaderMap) -> Option<&str> {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text(&header::AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    });
    bearer
        .or_else(|| text(&API_KEY).map(str::trim))
        .filter(|key| !key.is_empty())
}

/// Returns the holder of the presented key. Compares all known keys, each in constant time.
pub fn find_holder<'a, T>(presented: &str, known: impl IntoIterator<Item = (&'a KeyHash, T)>) -> Option<T> {
    if presented.len() > MAX_KEY_BYTES {
        return None;
    }
    let hash = KeyHash::of(presented);
    let mut found = None;
    for (key, holder) in known {
        if key.matches(&hash) {
            found = Some(holder);
        }
    }
    found
}
