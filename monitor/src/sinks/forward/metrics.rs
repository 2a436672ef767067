//! Metrics of the forwarders.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use super::http::SendError;

const RECORDS: &str = "precis_monitor_forwarded_records_total";
const SKIPPED: &str = "precis_monitor_forward_skipped_total";
const SECONDS: &str = "precis_monitor_forward_request_duration_seconds";
const RETRIES: &str = "precis_monitor_forward_retries_total";
const REJECTED_SPANS: &str = "precis_monitor_forward_rejected_spans_total";
const CIRCUIT: &str = "precis_monitor_forward_circuit_open";

/// Describes every metric of the forwarders.
pub(crate) fn describe() {
    describe_counter!(
        RECORDS,
        Unit::Count,
        "Records that a target accepted or rejected, by sink and outcome"
    );
    describe_counter!(
        SKIPPED,
        Unit::Count,
        "Results that were not forwarded (not sampled, forbidden by the job, or without model work), by sink"
    );
    describe_histogram!(
        SECONDS,
        Unit::Seconds,
        "Duration of one request to a target, by sink and outcome"
    );
    describe_counter!(
        RETRIES,
        Unit::Count,
        "Rounds of requests that failed and were retried, by sink"
    );
    describe_counter!(
        REJECTED_SPANS,
        Unit::Count,
        "Spans that a target rejected although it answered 2xx"
    );
    describe_gauge!(
        CIRCUIT,
        Unit::Count,
        "1 while the circuit breaker of a target is open, else 0, by sink"
    );
}

/// Exports the counters of a sink from the start.
pub(crate) fn begin(sink: &'static str) {
    for outcome in ["taken", "refused"] {
        counter!(RECORDS, "sink" => sink, "outcome" => outcome).increment(0);
    }
    counter!(SKIPPED, "sink" => sink).increment(0);
    counter!(RETRIES, "sink" => sink).increment(0);
    circuit(sink, false);
}

/// Counts a record that the target accepted or rejected.
pub(crate) fn record(sink: &'static str, accepted: bool) {
    let outcome = if accepted { "taken" } else { "refused" };
    counter!(RECORDS, "sink" => sink, "outcome" => outcome).increment(1);
}

/// Counts results that are not forwarded.
pub(crate) fn skipped(sink: &'static str, results: usize) {
    counter!(SKIPPED, "sink" => sink).increment(results as u64);
}

/// Records the duration of a request.
pub(crate) fn request(sink: &'static str, elapsed: Duration, outcome: &Result<(), SendError>) {
    let outcome = match outcome {
        Ok(()) => "taken",
        Err(SendError::Rejected(_) | SendError::PartlyRejected(_)) => "refused",
        Err(SendError::NotYet(_)) => "not_yet",
        Err(SendError::Unconfirmed(_)) => "unconfirmed",
        Err(SendError::Unavailable { .. }) => "failed",
    };
    histogram!(SECONDS, "sink" => sink, "outcome" => outcome).record(elapsed);
}

/// Counts spans that a target rejected although it answered 2xx.
pub(crate) fn rejected_spans(spans: u64) {
    counter!(REJECTED_SPANS).increment(spans);
}

/// Counts a round of requests that is retried.
pub(crate) fn retry(sink: &'static str) {
    counter!(RETRIES, "sink" => sink).increment(1);
}

/// Exports whether the circuit breaker is open.
pub(crate) fn circuit(sink: &'static str, open: bool) {
    gauge!(CIRCUIT, "sink" => sink).set(if open { 1.0 } else { 0.0 });
}
