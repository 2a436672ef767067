//! Metrics of a worker.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use precis_schemas::{JobResult, Lane};

/// Describes every metric of this crate. Called once, at startup.
pub fn describe() {
    describe_counter!(
        "precis_worker_jobs_total",
        Unit::Count,
        "Jobs answered, by outcome and error code"
    );
    describe_counter!(
        "precis_worker_redeliveries_total",
        Unit::Count,
        "Jobs received that had been delivered before"
    );
    describe_counter!(
        "precis_worker_late_results_total",
        Unit::Count,
        "Results that another worker had published first"
    );
    describe_counter!(
        "precis_worker_fetch_errors_total",
        Unit::Count,
        "Pulls that failed, by lane"
    );
    describe_counter!(
        "precis_worker_input_tokens_total",
        Unit::Count,
        "Tokens read by the model, padding not counted"
    );
    describe_counter!(
        "precis_worker_output_tokens_total",
        Unit::Count,
        "Tokens written by the model"
    );
    describe_gauge!(
        "precis_worker_jobs_in_flight",
        Unit::Count,
        "Jobs received and not settled"
    );
    describe_gauge!(
        "precis_worker_model_load_seconds",
        Unit::Seconds,
        "From the beginning of the last load to the model being ready"
    );
    describe_gauge!(
        "precis_worker_model_first_token_seconds",
        Unit::Seconds,
        "From the beginning of the last load to the model's first token"
    );
    describe_counter!(
        "precis_worker_model_replacements_total",
        Unit::Count,
        "Loads of another revision while the worker runs, by outcome"
    );
    describe_histogram!(
        "precis_worker_batch_jobs",
        Unit::Count,
        "Jobs in hand when another one comes"
    );
    describe_histogram!(
        "precis_worker_queue_wait_seconds",
        Unit::Seconds,
        "From the stream taking a job to a worker receiving it"
    );
    describe_histogram!(
        "precis_worker_inference_seconds",
        Unit::Seconds,
        "From giving a job to the engine to its result"
    );
}

/// Counts a job that was answered.
pub fn job_answered(result: &JobResult) {
    let code = result.error.as_ref().map_or("", |error| error.code.as_str());
    counter!("precis_worker_jobs_total", "outcome" => result.outcome.as_str(), "code" => code).increment(1);
    counter!("precis_worker_input_tokens_total").increment(result.sizes.text_tokens);
    counter!("precis_worker_output_tokens_total").increment(result.sizes.summary_tokens);
    histogram!("precis_worker_queue_wait_seconds").record(result.timings.queue_ms / 1e3);
}

/// Counts a redelivery.
pub fn job_redelivered() {
    counter!("precis_worker_redeliveries_total").increment(1);
}

/// Counts a result that lost to an earlier one.
pub fn late_result() {
    counter!("precis_worker_late_results_total").increment(1);
}

/// Counts a pull that failed.
pub fn fetch_failed(lane: Lane) {
    counter!("precis_worker_fetch_errors_total", "lane" => lane.as_str()).increment(1);
}

/// Sets the number of jobs in flight.
#[allow(clippy::cast_precision_loss)] // a count of jobs in memory
pub fn in_flight(jobs: usize) {
    gauge!("precis_worker_jobs_in_flight").set(jobs as f64);
}

/// Sets how long the model took to load, and to generate its first token.
pub fn model_loaded(load: Duration, first_token: Duration) {
    gauge!("precis_worker_model_load_seconds").set(load.as_secs_f64());
    gauge!("precis_worker_model_first_token_seconds").set(first_token.as_secs_f64());
}

/// Counts a reload of the model, by its outcome: `replaced` or `failed`.
pub fn model_replaced(outcome: &'static str) {
    counter!("precis_worker_model_replacements_total", "outcome" => outcome).increment(1);
}

/// Records a job that the engine is done with. `batch_jobs` is the number of jobs in the engine when it started.
#[allow(clippy::cast_precision_loss)] // at most 1024
pub fn job_inferred(batch_jobs: usize, seconds: f64) {
    histogram!("precis_worker_batch_jobs").record(batch_jobs as f64);
    histogram!("precis_worker_inference_seconds").record(seconds);
}
