//! Every metric of the monitor: name, unit and meaning, in one place.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use precis_schemas::ErrorCode;

const ROWS: &str = "precis_monitor_rows_inserted_total";
const BLOCKS: &str = "precis_monitor_blocks_inserted_total";
const INSERT_SECONDS: &str = "precis_monitor_insert_seconds";
const REFUSED: &str = "precis_monitor_rows_refused_total";
const RETRIES: &str = "precis_monitor_insert_retries_total";
const LAG: &str = "precis_monitor_lag_messages";
const MISSED: &str = "precis_monitor_messages_missed_total";
const REFERENCES: &str = "precis_monitor_references_total";
const DRIFT_PSI: &str = "precis_monitor_drift_psi";
const DRIFT_SHIFT: &str = "precis_monitor_drift_mean_shift";
const DRIFT_ALERT: &str = "precis_monitor_drift_alert";
const DRIFT_COMPUTED: &str = "precis_monitor_drift_computed_timestamp_seconds";
const DEAD: &str = "precis_monitor_dead_letters_total";
const ANSWERED: &str = "precis_monitor_jobs_answered_total";

/// Describes every metric, and shows the counters from the start.
pub(crate) fn describe() {
    describe_counter!(ROWS, Unit::Count, "Rows that ClickHouse has taken");
    describe_counter!(BLOCKS, Unit::Count, "Inserts that ClickHouse has confirmed");
    describe_histogram!(
        INSERT_SECONDS,
        Unit::Seconds,
        "Time of one insert, confirmed or not"
    );
    describe_counter!(
        REFUSED,
        Unit::Count,
        "Results that became no row and went to DEAD"
    );
    describe_counter!(
        RETRIES,
        Unit::Count,
        "Inserts, and what must come before them, that failed and are tried again"
    );
    describe_gauge!(
        LAG,
        Unit::Count,
        "Messages that are not yet acknowledged by a sink"
    );
    describe_counter!(
        MISSED,
        Unit::Count,
        "Messages that their stream dropped before a sink had read them, since the process began"
    );
    describe_counter!(
        REFERENCES,
        Unit::Count,
        "Late references, by what became of them; one that waits for its prediction counts at every look"
    );
    describe_gauge!(
        DRIFT_PSI,
        "Population stability index against the baseline on the latest day, by model and metric"
    );
    describe_gauge!(
        DRIFT_SHIFT,
        "Shift of the mean in standard deviations of the baseline on the latest day, by model and metric"
    );
    describe_gauge!(
        DRIFT_ALERT,
        "1 when one of the two has reached its threshold, by model and metric"
    );
    describe_gauge!(
        DRIFT_COMPUTED,
        Unit::Seconds,
        "When drift was computed last, in seconds since 1970"
    );
    describe_counter!(DEAD, Unit::Count, "Dead letters, by reason");
    describe_counter!(
        ANSWERED,
        Unit::Count,
        "Jobs answered in place of a worker, by reason"
    );
    for name in [ROWS, BLOCKS, REFUSED, RETRIES] {
        counter!(name).increment(0);
    }
    for sink in ["clickhouse", "clickhouse-references"] {
        gauge!(LAG, "sink" => sink).set(0.0);
        counter!(MISSED, "sink" => sink).increment(0);
    }
}

/// An insert took `elapsed`, and ended well with `stored` rows or did not.
pub(crate) fn insert(elapsed: Duration, stored: Option<usize>) {
    histogram!(INSERT_SECONDS).record(elapsed.as_secs_f64());
    if let Some(rows) = stored {
        counter!(BLOCKS).increment(1);
        counter!(ROWS).increment(rows as u64);
    }
}

/// A result became no row.
pub(crate) fn refused() {
    counter!(REFUSED).increment(1);
}

/// An insert is tried again.
pub(crate) fn retry() {
    counter!(RETRIES).increment(1);
}

/// So many messages are not acknowledged by the sink of this name.
pub(crate) fn lag_of(sink: &str, messages: u64) {
    gauge!(LAG, "sink" => sink.to_owned()).set(messages as f64);
}

/// The stream has dropped so many messages that the sink of this name had not read.
pub(crate) fn missed(sink: &str, messages: u64) {
    counter!(MISSED, "sink" => sink.to_owned()).increment(messages);
}

/// A late reference was dealt with: `scored`, `unscored` because the job has no summary, `refused` because it can't be
/// compared with it any more, `repeated`, or `waiting` for its prediction.
pub(crate) fn reference(outcome: &'static str) {
    counter!(REFERENCES, "outcome" => outcome).increment(1);
}

/// How far a figure of a model is from its baseline, on the latest day with enough predictions.
pub(crate) fn drift(model: &str, metric: &str, psi: f64, mean_shift: f64, alert: bool) {
    let labels = [("model", model.to_owned()), ("metric", metric.to_owned())];
    gauge!(DRIFT_PSI, &labels).set(psi);
    gauge!(DRIFT_SHIFT, &labels).set(mean_shift);
    gauge!(DRIFT_ALERT, &labels).set(f64::from(u8::from(alert)));
}

/// Drift was computed at this time, in seconds since 1970.
pub(crate) fn drift_computed(at: f64) {
    gauge!(DRIFT_COMPUTED).set(at);
}

/// A message went to `DEAD`.
pub(crate) fn dead_letter(reason: ErrorCode) {
    counter!(DEAD, "reason" => reason.as_str()).increment(1);
}

/// A job was answered in place of a worker.
pub(crate) fn answered(reason: ErrorCode) {
    counter!(ANSWERED, "reason" => reason.as_str()).increment(1);
}
