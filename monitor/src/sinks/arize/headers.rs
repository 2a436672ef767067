//! Headers of requests to Arize.

use reqwest::header::{HeaderMap, HeaderValue};

/// Returns headers that are never logged. Leaves out a value that can't be a header, which the configuration rules out.
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
