//! The key of a request, and whose it is: read and compared in one way by every role that takes keys.

use axum::http::{HeaderMap, HeaderName, header};

use crate::config::KeyHash;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// Longest key that is worth hashing, in bytes.
const MAX_KEY_BYTES: usize = 512;

/// The key that a request brings: `Authorization: Bearer …`, else `X-Api-Key`. Other schemes of
/// `Authorization`, such as the signatures of AWS clients, are not looked at.
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

/// The one of `known` whose key was presented. All are compared, whichever it is, each in constant time.
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
