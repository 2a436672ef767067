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
const REPORTS: &str = "precis_api_monitor_reports_total";

/// Describes every metric of this crate; called once at the start.
pub fn describe() {
    describe_counter!(
        REQUESTS,
        Unit::Count,
        "Requests answered, by route, method and status"
    );
    describe_histogram!(
        SECONDS,
        Unit::Seconds,
        "From a request's head being read to its answer, by route"
    );
    describe_counter!(
        SUBMITTED,
        Unit::Count,
        "Jobs that the queue has taken, by channel, model and lane"
    );
    describe_counter!(
        REFUSED,
        Unit::Count,
        "Requests and jobs refused for want of a key, rights, rate or quota, by key and code"
    );
    describe_counter!(
        WEBHOOKS,
        Unit::Count,
        "Webhooks by what became of an attempt: delivered, failed (tried again), given_up, unwanted, refused, gone, unreadable"
    );
    describe_counter!(
        REPORTS,
        Unit::Count,
        "Summaries that a monitor was told of, or not, by outcome (api.engine = local)"
    );
    describe_gauge!(WAITERS, Unit::Count, "Requests that wait for a result");
    gauge!(WAITERS).set(0.0);
    crate::local::describe_metrics();
}

/// Counts a request that was answered. `route` is the pattern, so that there are few of them.
pub(crate) fn answered(route: &str, method: &'static str, status: u16, took: Duration) {
    let route = route.to_owned();
    counter!(REQUESTS, "route" => route.clone(), "method" => method, "status" => status.to_string())
        .increment(1);
    histogram!(SECONDS, "route" => route).record(took);
}

/// Counts a job that the queue has taken.
pub(crate) fn submitted(channel: Channel, model: &Token, lane: Lane) {
    counter!(
        SUBMITTED,
        "channel" => channel.as_str(),
        "model" => model.to_string(),
        "lane" => lane.as_str()
    )
    .increment(1);
}

/// Counts a request that was refused because of who sent it.
pub(crate) fn refused(key: &str, code: ErrorCode) {
    counter!(REFUSED, "key" => key.to_owned(), "code" => code.as_str()).increment(1);
}

/// Counts what became of a webhook, or of an attempt.
pub(crate) fn webhook(outcome: &'static str) {
    counter!(WEBHOOKS, "outcome" => outcome).increment(1);
}

/// Counts a request that begins (1) or ends (-1) to wait.
pub(crate) fn waiters(change: f64) {
    gauge!(WAITERS).increment(change);
}

/// Counts a summary that a monitor was `told` of, `refused`, or that was `dropped`.
pub(crate) fn reported(outcome: &'static str) {
    counter!(REPORTS, "outcome" => outcome).increment(1);
}
