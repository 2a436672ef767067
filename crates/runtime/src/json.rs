//! Encodes JSON into a preallocated buffer.

use bytes::Bytes;
use serde::Serialize;

/// Encodes `value` as JSON. `size_hint` is the expected size in bytes: a buffer that is too small at first is copied as
/// it grows.
///
/// # Errors
/// If JSON can't represent the value.
pub fn to_bytes(value: &impl Serialize, size_hint: usize) -> serde_json::Result<Bytes> {
    let mut buffer = Vec::with_capacity(size_hint);
    serde_json::to_writer(&mut buffer, value)?;
    Ok(buffer.into())
}
