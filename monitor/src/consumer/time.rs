//! From the clock of the NATS client to ours.

use async_nats::datetime::DateTime;
use jiff::Timestamp;

/// `time` as the rest of the product writes times.
///
/// The client's range ends at the year 9999 and so does ours; the fallback is only for the last hours of it.
pub(crate) fn timestamp(time: DateTime) -> Timestamp {
    Timestamp::from_nanosecond(time.unix_timestamp_nanos()).unwrap_or(Timestamp::MAX)
}
