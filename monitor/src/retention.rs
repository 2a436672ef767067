//! Exports for how long the streams of results and texts really keep their messages, and warns when that is short.
//!
//! A full stream drops its oldest messages, so under load it keeps them for less than the configured time.

use std::time::Duration;

use async_nats::jetstream::stream::State;
use async_nats::jetstream::{self, stream};
use precis_runtime::clock;
use precis_runtime::topology::{self, TopologyError};
use precis_schemas::topology::{RESULTS, TEXTS};
use tokio_util::sync::CancellationToken;

use crate::consumer::timestamp;
use crate::metrics;

/// Time between two measurements.
const INTERVAL: Duration = Duration::from_secs(15);
/// Measurements after which a warning is repeated: 10 minutes.
const MEASUREMENTS_PER_WARNING: u64 = 40;

/// What a stream keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Retention {
    /// Age of its oldest message; zero if it is empty.
    oldest: Duration,
    /// Whether it is full, and the oldest message is younger than half of the configured age.
    is_short: bool,
}

/// Measures both streams until `stop`.
pub(crate) async fn run(jetstream: jetstream::Context, stop: CancellationToken) {
    let mut measurements = 0_u64;
    let mut tick = tokio::time::interval(INTERVAL);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let warns = measurements.is_multiple_of(MEASUREMENTS_PER_WARNING);
        measurements += 1;
        for (name, setting) in [
            (RESULTS, "queue.max_result_bytes"),
            (TEXTS, "queue.max_text_bytes"),
        ] {
            match measure(&jetstream, name).await {
                Ok(Retention { oldest, is_short }) => {
                    metrics::retention(name, oldest, is_short);
                    if is_short && warns {
                        tracing::warn!(
                            stream = name,
                            oldest_seconds = oldest.as_secs(),
                            "the stream is full and keeps its messages for less than half of queue.result_ttl_hours; \
                             raise {setting}"
                        );
                    }
                }
                Err(error) => tracing::debug!(stream = name, %error, "retention not measured"),
            }
        }
    }
}

async fn measure(jetstream: &jetstream::Context, name: &'static str) -> Result<Retention, TopologyError> {
    let stream = topology::stream(jetstream, name).await?;
    let info = stream.cached_info();
    Ok(retention(&info.config, &info.state, clock::now()))
}

fn retention(config: &stream::Config, state: &State, now: jiff::Timestamp) -> Retention {
    if state.messages == 0 {
        return Retention {
            oldest: Duration::ZERO,
            is_short: false,
        };
    }
    let age = now.duration_since(timestamp(state.first_timestamp));
    let oldest = Duration::try_from(age).unwrap_or_default();
    let max_bytes = u64::try_from(config.max_bytes).ok().filter(|max| *max > 0);
    // The next message may not fit any more.
    let is_full = max_bytes.is_some_and(|max| state.bytes >= max - max / 50);
    Retention {
        oldest,
        is_short: is_full && oldest < config.max_age / 2,
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn measured(bytes: u64, hours: i64) -> Retention {
        let config = stream::Config {
            max_bytes: 1_000_000,
            max_age: Duration::from_secs(24 * 3600),
            ..stream::Config::default()
        };
        let now: jiff::Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let first = now - SignedDuration::from_hours(hours);
        let json = serde_json::json!({
            "messages": 3, "bytes": bytes, "first_seq": 7, "first_ts": first.to_string(), "last_seq": 9,
            "last_ts": now.to_string(), "consumer_count": 0
        });
        retention(&config, &serde_json::from_value(json).unwrap(), now)
    }

    #[test]
    fn only_a_full_stream_that_drops_messages_early_is_short() {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        for (bytes, age, is_short) in [
            // A young stream.
            (1_000, 1_i64, false),
            (995_000, 1, true),
            (995_000, 11, true),
            (995_000, 13, false),
            // As much as it may keep, and as long.
            (500_000, 24, false),
        ] {
            let oldest = hours(age.unsigned_abs());
            assert_eq!(
                measured(bytes, age),
                Retention { oldest, is_short },
                "{bytes} {age}"
            );
        }
    }

    #[test]
    fn an_empty_stream_has_no_oldest_message() {
        let state = serde_json::json!({
            "messages": 0, "bytes": 0, "first_seq": 0, "first_ts": "0001-01-01T00:00:00Z", "last_seq": 0,
            "last_ts": "0001-01-01T00:00:00Z", "consumer_count": 0
        });
        let state = serde_json::from_value(state).unwrap();
        let empty = retention(&stream::Config::default(), &state, clock::now());
        assert_eq!((empty.oldest, empty.is_short), (Duration::ZERO, false));
    }
}
