//! What tests stand on: a queue in memory, a state around it, and a result.

mod queue;

use std::sync::Arc;

use precis_runtime::clock;
use precis_runtime::config::{
    AccessConfig, ApiConfig, BatchesConfig, ClickHouseConfig, HttpConfig, LimitsConfig, ServerUrl,
    WebhooksConfig,
};
use precis_runtime::liveness::Workers;
use precis_schemas::result::{Sizes, Timings};
use precis_schemas::{Channel, GenerationParams, JobResult, Lane, Outcome, Task, Token};
use tokio_util::sync::CancellationToken;

pub(crate) use self::queue::FakeQueue;
use crate::access::Gate;
use crate::analytics::Analytics;
use crate::state::{AppState, Parts};
use crate::watch::progress::Running;
use crate::watch::wait::Waiters;
use crate::webhooks::Webhooks;

/// The result of a job that succeeded.
pub(crate) fn result(id: &str, sequence: u64) -> JobResult {
    JobResult {
        id: id.parse().unwrap(),
        job_sequence: sequence,
        task: Task::Summarize,
        lane: Lane::Normal,
        tenant: Token::new("a tenant", "public").unwrap(),
        channel: Channel::Api,
        outcome: Outcome::Succeeded,
        summary: Some("Rain fell.".into()),
        error: None,
        text: "It rained.".into(),
        reference: None,
        scores: None,
        batch: None,
        model: None,
        worker: None,
        params: GenerationParams::default(),
        sizes: Sizes::default(),
        timings: Timings::default(),
        attempt: 1,
        submitted_at: clock::now(),
        started_at: None,
        finished_at: clock::now(),
        metadata: Default::default(),
        embeddings: None,
        send_to_arize: None,
        callback: None,
    }
}

/// A state on a queue in memory, with small limits.
pub(crate) fn state_of(queue: Arc<FakeQueue>) -> AppState {
    guarded_state_of(queue, &AccessConfig::default(), HttpConfig::default())
}

/// As [`state_of`], with keys.
pub(crate) fn guarded_state_of(queue: Arc<FakeQueue>, access: &AccessConfig, http: HttpConfig) -> AppState {
    let waiters = Waiters::default();
    assert!(
        queue.waiters.set(waiters.clone()).is_ok(),
        "one state for each queue"
    );
    AppState::new(Parts {
        limits: LimitsConfig {
            max_text_chars: 1_000,
            max_body_bytes: 4_096,
            max_wait_seconds: 30,
            max_batch_texts: 3,
            ..LimitsConfig::default()
        },
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
        webhooks: Webhooks::new(&WebhooksConfig::default(), access),
        gate: Arc::new(Gate::new(access)),
        result_ttl_hours: 24,
        queue,
        // Nobody listens there.
        analytics: Analytics::new(&ClickHouseConfig {
            url: ServerUrl::new("http://127.0.0.1:1"),
            ..ClickHouseConfig::default()
        }),
        workers: Workers::default(),
        waiters,
        running: Running::default(),
        stop: CancellationToken::new(),
    })
}
