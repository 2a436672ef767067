//! Where a message is in its stream.

use async_nats::datetime::DateTime;
use jiff::Timestamp;

/// A message's position in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamPosition {
    /// Its sequence.
    pub sequence: u64,
    /// When the stream stored it.
    pub published_at: Timestamp,
}

/// Converts a time of the NATS client.
///
/// Both ranges end in the year 9999. Times in its last hours become [`Timestamp::MAX`].
pub(crate) fn timestamp(time: DateTime) -> Timestamp {
    Timestamp::from_nanosecond(time.unix_timestamp_nanos()).unwrap_or(Timestamp::MAX)
}
