//! Metrics of the monitor.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use precis_schemas::{ErrorCode, Lane, Token};

const ROWS: &str = "precis_monitor_rows_inserted_total";
const BLOCKS: &str = "precis_monitor_blocks_inserted_total";
const INSERT_SECONDS: &str = "precis_monitor_insert_seconds";
const REJECTED: &str = "precis_monitor_rows_refused_total";
const RETRIES: &str = "precis_monitor_insert_retries_total";
const LAG: &str = "precis_monitor_lag_messages";
const MISSED: &str = "precis_monitor_messages_missed_total";
const TEXTS_MISSING: &str = "precis_monitor_texts_missing_total";
const OLDEST: &str = "precis_monitor_oldest_message_seconds";
const RETENTION_SHORT: &str = "precis_monitor_retention_short";
const REFERENCES: &str = "precis_monitor_references_total";
const REFERENCE_WAITS: &str = "precis_monitor_reference_waits_total";
const DRIFT_PSI: &str = "precis_monitor_drift_psi";
const DRIFT_SHIFT: &str = "precis_monitor_drift_mean_shift";
const DRIFT_ALERT: &str = "precis_monitor_drift_alert";
const DRIFT_COMPUTED: &str = "precis_monitor_drift_computed_timestamp_seconds";
const DEAD: &str = "precis_monitor_dead_letters_total";
const TERMINATED: &str = "precis_monitor_jobs_answered_total";
const QUEUE_WORK: &str = "precis_queue_work_seconds";
const MODELS_UNDER_NAME: &str = "precis_monitor_models_under_name";

/// How a late reference can end.
const REFERENCE_OUTCOMES: [&str; 5] = ["scored", "unscored", "superseded", "repeated", "refused"];

/// Describes every metric, and exports the counters from the start.
pub(crate) fn describe() {
    precis_runtime::webhooks::describe_metrics();
    describe_counter!(ROWS, Unit::Count, "Rows that ClickHouse inserted");
    describe_counter!(BLOCKS, Unit::Count, "Inserts that ClickHouse confirmed");
    describe_histogram!(
        INSERT_SECONDS,
        Unit::Seconds,
        "Duration of one insert, confirmed or not"
    );
    describe_counter!(
        REJECTED,
        Unit::Count,
        "Results and late references that could not become a row and went to DEAD"
    );
    describe_counter!(
        RETRIES,
        Unit::Count,
        "Inserts and their lookups that failed and were retried"
    );
    describe_gauge!(LAG, Unit::Count, "Messages that a sink has not acknowledged");
    describe_counter!(
        MISSED,
        Unit::Count,
        "Messages that a stream dropped before a sink read them, since the process started"
    );
    describe_counter!(
        TEXTS_MISSING,
        Unit::Count,
        "Results whose text was dropped before a sink read it, by sink"
    );
    describe_gauge!(
        OLDEST,
        Unit::Seconds,
        "Age of the oldest message that a stream keeps, by stream: RESULTS or TEXTS"
    );
    describe_gauge!(
        RETENTION_SHORT,
        Unit::Count,
        "1 while a stream is full and keeps its messages for less than half of the configured time, by stream"
    );
    describe_counter!(
        REFERENCES,
        Unit::Count,
        "Settled late references, by outcome: scored, unscored (the job has no summary), superseded (a later reference of \
         the job counts), repeated (stored before its acknowledgement was lost) or refused (in DEAD). Each counts once"
    );
    describe_counter!(
        REFERENCE_WAITS,
        Unit::Count,
        "Attempts at late references whose prediction was not stored yet"
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
        "1 if the index or the shift has reached its threshold, by model and metric"
    );
    describe_gauge!(
        DRIFT_COMPUTED,
        Unit::Seconds,
        "Unix time of the last drift computation"
    );
    describe_counter!(DEAD, Unit::Count, "Dead letters, by reason");
    describe_counter!(
        TERMINATED,
        Unit::Count,
        "Jobs terminated without a worker, by reason"
    );
    describe_gauge!(
        QUEUE_WORK,
        Unit::Seconds,
        "Estimated time in which one worker at capacity finishes the jobs that wait or run, by model and lane"
    );
    describe_gauge!(
        MODELS_UNDER_NAME,
        Unit::Count,
        "Models and revisions that live workers serve under a name, by that name; above 1 while a model is replaced"
    );
    for name in [ROWS, BLOCKS, REJECTED, RETRIES, REFERENCE_WAITS] {
        counter!(name).increment(0);
    }
    for outcome in REFERENCE_OUTCOMES {
        counter!(REFERENCES, "outcome" => outcome).increment(0);
    }
    for sink in ["clickhouse", "clickhouse-references"] {
        gauge!(LAG, "sink" => sink).set(0.0);
        counter!(MISSED, "sink" => sink).increment(0);
    }
    counter!(TEXTS_MISSING, "sink" => "clickhouse").increment(0);
}

/// Records an insert that took `elapsed` and stored `stored` rows, or failed.
pub(crate) fn insert(elapsed: Duration, stored: Option<usize>) {
    histogram!(INSERT_SECONDS).record(elapsed.as_secs_f64());
    if let Some(rows) = stored {
        counter!(BLOCKS).increment(1);
        counter!(ROWS).increment(rows as u64);
    }
}

/// Counts a message that could not become a row.
pub(crate) fn rejected() {
    counter!(REJECTED).increment(1);
}

/// Counts an attempt that is retried.
pub(crate) fn retry() {
    counter!(RETRIES).increment(1);
}

/// Exports how many messages a sink has not acknowledged.
pub(crate) fn lag(sink: &str, messages: u64) {
    gauge!(LAG, "sink" => sink.to_owned()).set(messages as f64);
}

/// Counts messages that the stream dropped before a sink read them.
pub(crate) fn missed(sink: &str, messages: u64) {
    counter!(MISSED, "sink" => sink.to_owned()).increment(messages);
}

/// Counts results whose texts are no longer kept.
pub(crate) fn texts_missing(sink: &'static str, results: usize) {
    if results > 0 {
        counter!(TEXTS_MISSING, "sink" => sink).increment(results as u64);
        tracing::error!(sink, results, "texts were dropped unread: TEXTS was full");
    }
}

/// Exports the age of the oldest message of a stream, and whether that is short.
pub(crate) fn retention(stream: &'static str, oldest: Duration, is_short: bool) {
    gauge!(OLDEST, "stream" => stream).set(oldest.as_secs_f64());
    gauge!(RETENTION_SHORT, "stream" => stream).set(f64::from(u8::from(is_short)));
}

/// Counts a late reference that is settled, with one of [`REFERENCE_OUTCOMES`].
pub(crate) fn reference(outcome: &'static str) {
    counter!(REFERENCES, "outcome" => outcome).increment(1);
}

/// Counts an attempt at a late reference that waits for its prediction.
pub(crate) fn reference_waits() {
    counter!(REFERENCE_WAITS).increment(1);
}

/// Exports the drift of a model's metric on the latest day with enough predictions.
pub(crate) fn drift(model: &str, metric: &str, psi: f64, mean_shift: f64, alert: bool) {
    let labels = [("model", model.to_owned()), ("metric", metric.to_owned())];
    gauge!(DRIFT_PSI, &labels).set(psi);
    gauge!(DRIFT_SHIFT, &labels).set(mean_shift);
    gauge!(DRIFT_ALERT, &labels).set(f64::from(u8::from(alert)));
}

/// Exports when drift was computed, in seconds since 1970.
pub(crate) fn drift_computed(at: f64) {
    gauge!(DRIFT_COMPUTED).set(at);
}

/// Exports the time in which one worker finishes the jobs of a model's lane.
pub(crate) fn queue_work(model: &Token, lane: Lane, seconds: f64) {
    let labels = [("model", model.to_string()), ("lane", lane.to_string())];
    gauge!(QUEUE_WORK, &labels).set(seconds);
}

/// Exports how many models and revisions live workers serve under a name.
pub(crate) fn models_under_name(name: &Token, models: usize) {
    gauge!(MODELS_UNDER_NAME, "model" => name.to_string()).set(models as f64);
}

/// Counts a dead letter.
pub(crate) fn dead_letter(reason: ErrorCode) {
    counter!(DEAD, "reason" => reason.as_str()).increment(1);
}

/// Counts a job that was terminated without a worker.
pub(crate) fn terminated(reason: ErrorCode) {
    counter!(TERMINATED, "reason" => reason.as_str()).increment(1);
}
