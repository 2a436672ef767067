//! Test doubles and test data: a queue in memory, a state around it, and a result. `interface/` holds the tests of
//! the REST interface.

mod interface;
mod queue;

use std::sync::Arc;
use std::time::Duration;

use precis_runtime::config::{
    AccessConfig, ApiConfig, BatchesConfig, ClickHouseConfig, HttpConfig, LimitsConfig, ServerUrl,
};
use precis_runtime::liveness::LiveWorkers;
use precis_runtime::{Config, clock};
use precis_schemas::result::{ReportedDelivery, Timings};
use precis_schemas::{JobResult, Outcome, Token};
use tokio_util::sync::CancellationToken;

pub(crate) use self::queue::FakeQueue;
use crate::gateway::state::{AppState, Dependencies};
use crate::watch::job_events::JobEvents;

/// Returns the result of a job that succeeded.
pub(crate) fn result(id: &str, sequence: u64) -> JobResult {
    let now = clock::now();
    let delivery = ReportedDelivery {
        sequence,
        attempt: 1,
        submitted_at: now,
        started_at: None,
    };
    JobResult {
        tenant: Token::sanitized("public"),
        outcome: Outcome::Succeeded,
        summary: Some("Rain fell.".into()),
        text: "It rained.".into(),
        timings: Timings::default(),
        ..JobResult::new(id.parse().unwrap(), delivery, now)
    }
}

/// Returns a state on `queue`, without API keys and with small limits.
pub(crate) fn state_of(queue: Arc<FakeQueue>) -> AppState {
    guarded_state_of(queue, &AccessConfig::default(), HttpConfig::default())
}

/// Returns a state on `queue`, with API keys and small limits.
pub(crate) fn guarded_state_of(queue: Arc<FakeQueue>, access: &AccessConfig, http: HttpConfig) -> AppState {
    let limits = LimitsConfig {
        max_text_chars: 1_000,
        max_body_bytes: Some(4_096),
        max_wait_seconds: 30,
        max_batch_texts: 3,
        ..LimitsConfig::default()
    };
    limited_state_of(queue, access, http, limits)
}

/// Returns a state on `queue`, with API keys and these limits.
pub(crate) fn limited_state_of(
    queue: Arc<FakeQueue>,
    access: &AccessConfig,
    http: HttpConfig,
    limits: LimitsConfig,
) -> AppState {
    let events = JobEvents::default();
    assert!(
        queue.events.set(events.clone()).is_ok(),
        "a queue serves one state"
    );
    let config = Config {
        limits,
        api: ApiConfig {
            sync_wait_seconds: 2,
            ..ApiConfig::default()
        },
        http,
        batches: BatchesConfig {
            max_rows: 1_200,
            queue_patience_seconds: 1,
            ..BatchesConfig::default()
        },
        access: access.clone(),
        // Nothing listens on this port.
        clickhouse: ClickHouseConfig {
            url: ServerUrl::new("http://127.0.0.1:1"),
            ..ClickHouseConfig::default()
        },
        ..Config::default()
    };
    AppState::new(Dependencies {
        config,
        queue,
        result_retention: Duration::from_secs(24 * 3_600),
        events,
        workers: LiveWorkers::default(),
        stop: CancellationToken::new(),
    })
}
