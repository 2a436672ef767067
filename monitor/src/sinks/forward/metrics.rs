//! Metrics of the sinks that forward to other products.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use super::http::SendError;

const RECORDS: &str = "precis_monitor_forwarded_records_total";
const SKIPPED: &str = "precis_monitor_forward_skipped_total";
const SECONDS: &str = "precis_monitor_forward_request_duration_seconds";
const RETRIES: &str = "precis_monitor_forward_retries_total";
const DROPPED_SPANS: &str = "precis_monitor_forward_dropped_spans_total";
const CIRCUIT: &str = "precis_monitor_forward_circuit_open";

/// Describes every metric of this part.
pub(crate) fn describe() {
    describe_counter!(
        RECORDS,
        Unit::Count,
        "Records that a receiver has taken or refused for ever, by sink and outcome"
    );
    describe_counter!(
        SKIPPED,
        Unit::Count,
        "Results that are not forwarded: not sampled, forbidden by the job, or not worked on; by sink"
    );
    describe_histogram!(
        SECONDS,
        Unit::Seconds,
        "Time of one request to a receiver, by sink and outcome"
    );
    describe_counter!(
        RETRIES,
        Unit::Count,
        "Rounds of requests that failed and are tried again, by sink"
    );
    describe_counter!(
        DROPPED_SPANS,
        Unit::Count,
        "Spans that a receiver has taken a request without"
    );
    describe_gauge!(
        CIRCUIT,
        Unit::Count,
        "1 while a receiver has failed so often that it is left alone, else 0; by sink"
    );
}

/// Shows the counters of a sink from the start.
pub(crate) fn begin(sink: &'static str) {
    for outcome in ["taken", "refused"] {
        counter!(RECORDS, "sink" => sink, "outcome" => outcome).increment(0);
    }
    counter!(SKIPPED, "sink" => sink).increment(0);
    counter!(RETRIES, "sink" => sink).increment(0);
    circuit(sink, false);
}

/// A receiver has taken, or will never take, a record.
pub(crate) fn record(sink: &'static str, taken: bool) {
    let outcome = if taken { "taken" } else { "refused" };
    counter!(RECORDS, "sink" => sink, "outcome" => outcome).increment(1);
}

/// Results are not forwarded.
pub(crate) fn skipped(sink: &'static str, results: usize) {
    counter!(SKIPPED, "sink" => sink).increment(results as u64);
}

/// A request took `elapsed`.
pub(crate) fn request(sink: &'static str, elapsed: Duration, outcome: &Result<(), SendError>) {
    let outcome = match outcome {
        Ok(()) => "taken",
        Err(SendError::Refused(_)) => "refused",
        Err(SendError::NotYet(_)) => "not_yet",
        Err(SendError::Unavailable { .. }) => "failed",
    };
    histogram!(SECONDS, "sink" => sink, "outcome" => outcome).record(elapsed);
}

/// A receiver has taken a request without so many of its spans.
pub(crate) fn dropped_spans(spans: usize) {
    counter!(DROPPED_SPANS).increment(spans as u64);
}

/// Requests are tried again.
pub(crate) fn retry(sink: &'static str) {
    counter!(RETRIES, "sink" => sink).increment(1);
}

/// Whether the receiver is left alone for a while.
pub(crate) fn circuit(sink: &'static str, open: bool) {
    gauge!(CIRCUIT, "sink" => sink).set(if open { 1.0 } else { 0.0 });
}
