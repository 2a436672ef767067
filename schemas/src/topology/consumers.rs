//! Durable consumers.

use std::time::Duration;

use super::{ADVISORIES, REFERENCES, RESULTS, WEBHOOKS};

/// A durable pull consumer with explicit acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerSpec {
    /// Its stream.
    pub stream: &'static str,
    /// Its durable name.
    pub name: String,
    /// Description for operators, in one line.
    pub description: String,
    /// Subject filter; `None`: all messages.
    pub filter: Option<String>,
    /// Time without an acknowledgement or progress after which a message is redelivered.
    pub ack_wait: Duration,
    /// Maximum number of deliveries of a message; `None`: no limit.
    pub max_deliver: Option<u64>,
    /// Maximum number of unacknowledged messages over all clients.
    pub max_ack_pending: u64,
    /// Maximum number of open pulls over all clients; `None`: the server's default of 512.
    pub max_waiting: Option<u64>,
    /// Time without a pull after which the server removes the consumer; `None`: never.
    pub inactive_threshold: Option<Duration>,
}

/// Returns the monitor's consumer of results for ClickHouse.
pub fn clickhouse_sink_consumer() -> ConsumerSpec {
    ConsumerSpec {
        stream: RESULTS,
        name: "monitor-clickhouse".into(),
        description: "Consumer of results for ClickHouse".into(),
        filter: None,
        ack_wait: Duration::from_secs(60),
        max_deliver: None,
        max_ack_pending: 20_000,
        max_waiting: None,
        inactive_threshold: None,
    }
}

/// Returns a forwarder's consumer of results: `arize-traces`, `arize-records` or `phoenix`.
pub fn forward_consumer(sink: &str) -> ConsumerSpec {
    ConsumerSpec {
        stream: RESULTS,
        name: format!("monitor-{sink}"),
        description: format!("Consumer of results for {sink}"),
        filter: None,
        ack_wait: Duration::from_secs(60),
        max_deliver: None,
        max_ack_pending: 2_000,
        max_waiting: None,
        inactive_threshold: None,
    }
}

/// Returns a forwarder's consumer of late references.
pub fn forward_references_consumer(sink: &str) -> ConsumerSpec {
    ConsumerSpec {
        stream: REFERENCES,
        name: format!("monitor-{sink}-references"),
        description: format!("Consumer of late references for {sink}"),
        ..forward_consumer(sink)
    }
}

/// Returns the monitor's consumer of late references for ClickHouse.
pub fn clickhouse_references_consumer() -> ConsumerSpec {
    ConsumerSpec {
        stream: REFERENCES,
        name: "monitor-clickhouse-references".into(),
        description: "Consumer of late references for ClickHouse".into(),
        filter: None,
        ack_wait: Duration::from_secs(60),
        max_deliver: None,
        max_ack_pending: 20_000,
        max_waiting: None,
        inactive_threshold: None,
    }
}

/// Returns the consumer of webhooks, shared by all gateways. Webhooks that wait for a retry count as pending, so the
/// limit is high.
pub fn webhook_consumer() -> ConsumerSpec {
    ConsumerSpec {
        stream: WEBHOOKS,
        name: "gateway-webhooks".into(),
        description: "Consumer of due webhooks".into(),
        filter: None,
        ack_wait: Duration::from_secs(60),
        max_deliver: None,
        max_ack_pending: 100_000,
        max_waiting: None,
        inactive_threshold: None,
    }
}

/// Returns the monitor's consumer of advisories about jobs that reached the maximum number of deliveries.
pub fn dead_letter_consumer() -> ConsumerSpec {
    ConsumerSpec {
        stream: ADVISORIES,
        name: "monitor-reaper".into(),
        description: "Consumer of jobs that reached the maximum number of deliveries".into(),
        filter: None,
        ack_wait: Duration::from_secs(30),
        max_deliver: None,
        max_ack_pending: 1_024,
        max_waiting: None,
        inactive_threshold: None,
    }
}
