//! Headers of requests to Arize.

use reqwest::header::{HeaderMap, HeaderValue};

/// Headers that are never shown; a value that can't stand in a header, which the configuration rules out, is left out.
pub(super) fn sensitive(all: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in all {
        if let Ok(mut value) = HeaderValue::from_str(value) {
            value.set_sensitive(true);
            headers.insert(*name, value);
        }
    }
    headers
}
