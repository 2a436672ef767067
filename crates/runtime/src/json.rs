//! JSON into a buffer that is large enough at once.

use bytes::Bytes;
use serde::Serialize;

/// The JSON of `value`. `about` is how long it will be, as far as that is known: a buffer that starts small is copied each
/// time it has to grow, and a job is mostly its text.
///
/// # Errors
/// When the value has no JSON form.
pub fn to_bytes(value: &impl Serialize, about: usize) -> serde_json::Result<Bytes> {
    let mut buffer = Vec::with_capacity(about);
    serde_json::to_writer(&mut buffer, value)?;
    Ok(buffer.into())
}
