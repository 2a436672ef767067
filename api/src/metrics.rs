//! Metrics of the gateway. Names and units follow Prometheus' conventions.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use precis_schemas::{Channel, ErrorCode, Lane, Token};

const REQUESTS: &str = "precis_api_http_requests_total";
const SECONDS: &str = "precis_api_http_request_duration_seconds";
const SUBMITTED: &str = "precis_api_jobs_submitted_total";
const REFUSED: &str = "precis_api_refused_total";
const WEBHOOKS: &str = "precis_api_webhooks_total";
const WAITERS: &str = "precis_api_waiters";
const QUEUED: &str = "precis_api_queued_jobs";

/// Describes the metrics of this crate. Call it once, at start.
pub fn describe() {
    precis_runtime::webhooks::describe_metrics();
    describe_counter!(REQUESTS, Unit::Count, "Responses, by route, method and status");
    describe_histogram!(
        SECONDS,
        Unit::Seconds,
        "Time from the head of a request to its response, by route"
    );
    describe_counter!(
        SUBMITTED,
        Unit::Count,
        "Jobs accepted by the queue, by channel, model and lane"
    );
    describe_counter!(
        REFUSED,
        Unit::Count,
        "Requests and jobs refused because of a key, a permission, a rate limit or a quota, by key and code"
    );
    describe_counter!(
        WEBHOOKS,
        Unit::Count,
        "Webhook attempts, by outcome: delivered, failed (retried), given_up (deadline), unwanted (410 Gone), refused (not allowed), gone (result no longer kept), unreadable"
    );
    describe_gauge!(
        QUEUED,
        Unit::Count,
        "Jobs that wait or run, by model and lane. Every gateway reports the whole queue, and NaN while it can't read it"
    );
    describe_gauge!(WAITERS, Unit::Count, "Requests that wait for a result");
    gauge!(WAITERS).set(0.0);
}

/// Records a response. `route` is the pattern rather than the path, so that the number of series stays small.
pub(crate) fn answered(route: &str, method: &'static str, status: u16, took: Duration) {
    let route = route.to_owned();
    counter!(REQUESTS, "route" => route.clone(), "method" => method, "status" => status.to_string())
        .increment(1);
    histogram!(SECONDS, "route" => route).record(took);
}

/// Counts a job that the queue accepted.
pub(crate) fn submitted(channel: Channel, model: &Token, lane: Lane) {
    counter!(
        SUBMITTED,
        "channel" => channel.as_str(),
        "model" => model.to_string(),
        "lane" => lane.as_str()
    )
    .increment(1);
}

/// Counts a request that access control refused.
pub(crate) fn refused(key: &str, code: ErrorCode) {
    counter!(REFUSED, "key" => key.to_owned(), "code" => code.as_str()).increment(1);
}

/// Counts a webhook attempt by its outcome.
pub(crate) fn webhook(outcome: &'static str) {
    counter!(WEBHOOKS, "outcome" => outcome).increment(1);
}

/// Sets the number of jobs in the queue, `NaN` if unknown.
pub(crate) fn queued(model: &Token, lane: Lane, jobs: f64) {
    gauge!(QUEUED, "model" => model.to_string(), "lane" => lane.as_str()).set(jobs);
}

/// Adjusts the number of waiting requests: `1.0` when one starts to wait, `-1.0` when it stops.
pub(crate) fn waiters(change: f64) {
    gauge!(WAITERS).increment(change);
}
