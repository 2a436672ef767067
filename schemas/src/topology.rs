//! Streams and consumers as data: one place from which every role sets them up, and every test reads
//! what they should be. `precis_runtime::topology` applies it.

use std::time::Duration;

use crate::subject::{self, Lane, Token};

/// Name of the work queue.
pub const JOBS: &str = "JOBS";
/// Name of the stream of completion records.
pub const RESULTS: &str = "RESULTS";
/// Name of the stream of references that came after their jobs.
pub const REFERENCES: &str = "REFERENCES";
/// Name of the stream of what is kept of batches.
pub const BATCHES: &str = "BATCHES";
/// Name of the work queue of webhooks.
pub const WEBHOOKS: &str = "WEBHOOKS";
/// Name of the stream of dead letters.
pub const DEAD: &str = "DEAD";
/// Name of the stream of what is remembered of requests: the first one with an idempotency key, batches of scores.
pub const CALLS: &str = "CALLS";
/// Name of the stream that keeps JetStream's advisories about jobs that were delivered too often.
pub const ADVISORIES: &str = "ADVISORIES";

/// How long a request is remembered.
pub const CALL_TTL: Duration = Duration::from_secs(24 * 3600);

/// When a stream lets go of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// As soon as it is acknowledged.
    WorkQueue,
    /// When a limit is reached.
    Limits,
}

/// What a full stream does with the next message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFull {
    /// Refuse it: that is the back-pressure which a publisher sees.
    Reject,
    /// Drop the oldest.
    DropOldest,
}

/// One stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSpec {
    /// Its name.
    pub name: &'static str,
    /// One line for people who look at the server.
    pub description: &'static str,
    /// What it captures.
    pub subjects: Vec<String>,
    /// When it lets go.
    pub retention: Retention,
    /// What it does when full.
    pub on_full: OnFull,
    /// Most messages; none: no limit.
    pub max_messages: Option<u64>,
    /// Most bytes; none: no limit.
    pub max_bytes: Option<u64>,
    /// Longest that a message is kept; none: for ever.
    pub max_age: Option<Duration>,
    /// Most messages of one subject; none: no limit.
    pub max_messages_per_subject: Option<u64>,
    /// How long a message id is remembered, so that a repeated publish makes no second message.
    pub duplicate_window: Duration,
    /// Subjects of the stream, and those on which the server repeats a message as soon as the stream has stored it.
    pub republish: Option<(&'static str, &'static str)>,
}

/// How long a late reference waits for those who read it, and for its prediction.
pub const REFERENCE_TTL: Duration = Duration::from_secs(7 * 24 * 3600);

/// Limits that a deployment may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopologyLimits {
    /// Most jobs in the queue; beyond, a publish is refused.
    pub max_queued_jobs: u64,
    /// Most bytes in the queue.
    pub max_queue_bytes: u64,
    /// How long results are kept.
    pub result_ttl: Duration,
    /// Most bytes of results.
    pub max_result_bytes: u64,
    /// How long a dead letter is kept.
    pub dead_letter_ttl: Duration,
    /// Most bytes of what is remembered of requests; beyond, the oldest is forgotten.
    pub max_call_bytes: u64,
}

impl Default for TopologyLimits {
    fn default() -> Self {
        Self {
            max_queued_jobs: 100_000,
            max_queue_bytes: 1 << 30,
            result_ttl: Duration::from_secs(24 * 3600),
            max_result_bytes: 2 << 30,
            dead_letter_ttl: Duration::from_secs(30 * 24 * 3600),
            max_call_bytes: 256 << 20,
        }
    }
}

/// Every stream of the product.
pub fn streams(limits: &TopologyLimits) -> Vec<StreamSpec> {
    let two_minutes = Duration::from_secs(120);
    vec![
        StreamSpec {
            name: JOBS,
            description: "Jobs that wait for a worker",
            subjects: vec![subject::ALL_JOBS.into()],
            retention: Retention::WorkQueue,
            on_full: OnFull::Reject,
            max_messages: Some(limits.max_queued_jobs),
            max_bytes: Some(limits.max_queue_bytes),
            max_age: None,
            max_messages_per_subject: None,
            duplicate_window: two_minutes,
            republish: None,
        },
        StreamSpec {
            name: RESULTS,
            description: "One completion record per job; the first wins",
            subjects: vec![subject::ALL_RESULTS.into()],
            retention: Retention::Limits,
            on_full: OnFull::DropOldest,
            max_messages: None,
            max_bytes: Some(limits.max_result_bytes),
            max_age: Some(limits.result_ttl),
            max_messages_per_subject: Some(1),
            duplicate_window: two_minutes,
            republish: Some((subject::ALL_RESULTS, subject::DONE_OF_RESULTS)),
        },
        StreamSpec {
            name: REFERENCES,
            description: "Summaries by humans that came after their jobs",
            subjects: vec![subject::ALL_REFERENCES.into()],
            retention: Retention::Limits,
            // Most of them have been read long ago.
            on_full: OnFull::DropOldest,
            max_messages: None,
            max_bytes: Some(limits.max_queue_bytes),
            max_age: Some(REFERENCE_TTL),
            max_messages_per_subject: None,
            duplicate_window: two_minutes,
            republish: None,
        },
        StreamSpec {
            name: BATCHES,
            description: "Which rows a batch has, and where their jobs stood",
            subjects: vec![subject::ALL_BATCHES.into()],
            retention: Retention::Limits,
            on_full: OnFull::DropOldest,
            max_messages: None,
            // Some tens of bytes for each row.
            max_bytes: Some(256 << 20),
            // A row ends within the time that a result is kept, and its result is kept for that time again.
            max_age: Some(limits.result_ttl * 2),
            max_messages_per_subject: Some(1),
            duplicate_window: two_minutes,
            republish: None,
        },
        StreamSpec {
            name: WEBHOOKS,
            description: "Jobs and batches whose end is to be posted",
            subjects: vec![subject::ALL_WEBHOOKS.into()],
            retention: Retention::WorkQueue,
            on_full: OnFull::Reject,
            max_messages: Some(limits.max_queued_jobs),
            max_bytes: None,
            max_age: Some(limits.result_ttl * 2),
            max_messages_per_subject: None,
            duplicate_window: two_minutes,
            republish: None,
        },
        StreamSpec {
            name: DEAD,
            description: "Jobs that could not be done, with the reason",
            subjects: vec![subject::ALL_DEAD.into()],
            retention: Retention::Limits,
            on_full: OnFull::DropOldest,
            max_messages: None,
            max_bytes: Some(limits.max_queue_bytes),
            max_age: Some(limits.dead_letter_ttl),
            max_messages_per_subject: None,
            duplicate_window: two_minutes,
            republish: None,
        },
        StreamSpec {
            name: CALLS,
            description: "What is remembered of requests: idempotency keys, batches of scores",
            subjects: vec![subject::ALL_CALLS.into()],
            retention: Retention::Limits,
            on_full: OnFull::DropOldest,
            max_messages: None,
            max_bytes: Some(limits.max_call_bytes),
            max_age: Some(CALL_TTL),
            max_messages_per_subject: Some(1),
            duplicate_window: two_minutes,
            republish: None,
        },
        StreamSpec {
            name: ADVISORIES,
            description: "Jobs that were delivered as often as allowed",
            subjects: vec![format!("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{JOBS}.*")],
            retention: Retention::WorkQueue,
            on_full: OnFull::DropOldest,
            max_messages: Some(limits.max_queued_jobs),
            max_bytes: None,
            max_age: Some(limits.dead_letter_ttl),
            max_messages_per_subject: None,
            duplicate_window: two_minutes,
            republish: None,
        },
    ]
}

/// One durable pull consumer with explicit acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerSpec {
    /// Stream that it reads.
    pub stream: &'static str,
    /// Its durable name.
    pub name: String,
    /// One line for people who look at the server.
    pub description: String,
    /// What of the stream it reads; none: all.
    pub filter: Option<String>,
    /// Time without an acknowledgement or a sign of progress after which a message is delivered again.
    pub ack_wait: Duration,
    /// Most deliveries of a message; none: no limit.
    pub max_deliver: Option<u64>,
    /// Most messages that are delivered and not acknowledged, over all who pull.
    pub max_ack_pending: u64,
}

/// Most deliveries of a job before it goes to `DEAD`, whatever became of them: a worker that died, or one
/// that handed the job back because it was going away.
pub const MAX_DELIVERIES: u64 = 10;
/// The delivery at which a failure of the model is the job's last: it is then answered `failed`.
pub const MAX_FAILED_ATTEMPTS: u64 = 5;

/// The consumer from which all workers of one model pull one lane; a job without a sign of progress for
/// `ack_wait` is delivered to another worker.
pub fn worker_consumer(model: &Token, lane: Lane, ack_wait: Duration) -> ConsumerSpec {
    ConsumerSpec {
        stream: JOBS,
        name: worker_consumer_name(model, lane),
        description: format!("Workers of {model}, lane {lane}"),
        filter: Some(subject::jobs_of(model, lane)),
        ack_wait,
        max_deliver: Some(MAX_DELIVERIES),
        max_ack_pending: 4_096,
    }
}

/// Durable name of [`worker_consumer`].
pub fn worker_consumer_name(model: &Token, lane: Lane) -> String {
    format!("worker-{model}-{lane}")
}

/// The model whose workers pull from the consumer of this name; none when it is no worker's.
pub fn model_of_worker_consumer(name: &str) -> Option<Token> {
    let rest = name.strip_prefix("worker-")?;
    let (model, lane) = rest.rsplit_once('-')?;
    lane.parse::<Lane>().ok()?;
    Token::new("the model", model).ok()
}

/// The monitor's consumer of results for ClickHouse.
pub fn clickhouse_sink_consumer() -> ConsumerSpec {
    ConsumerSpec {
        stream: RESULTS,
        name: "monitor-clickhouse".into(),
        description: "Results on their way to ClickHouse".into(),
        filter: None,
        ack_wait: Duration::from_secs(60),
        max_deliver: None,
        max_ack_pending: 20_000,
    }
}

/// The consumer of results of a sink of the monitor that forwards them: `arize-traces`, `arize-records` or `phoenix`.
pub fn forward_consumer(sink: &str) -> ConsumerSpec {
    ConsumerSpec {
        stream: RESULTS,
        name: format!("monitor-{sink}"),
        description: format!("Results on their way to {sink}"),
        filter: None,
        ack_wait: Duration::from_secs(60),
        max_deliver: None,
        max_ack_pending: 2_000,
    }
}

/// The consumer of late references of the same sink: their scores follow the predictions.
pub fn forward_references_consumer(sink: &str) -> ConsumerSpec {
    ConsumerSpec {
        stream: REFERENCES,
        name: format!("monitor-{sink}-references"),
        description: format!("Late references on their way to {sink}"),
        ..forward_consumer(sink)
    }
}

/// The monitor's consumer of late references for ClickHouse.
pub fn clickhouse_references_consumer() -> ConsumerSpec {
    ConsumerSpec {
        stream: REFERENCES,
        name: "monitor-clickhouse-references".into(),
        description: "Late references on their way to ClickHouse".into(),
        filter: None,
        ack_wait: Duration::from_secs(60),
        max_deliver: None,
        max_ack_pending: 20_000,
    }
}

/// The consumer from which all gateways take webhooks. One that is to be tried again later counts as pending, so that
/// many of them must not hold up the others.
pub fn webhook_consumer() -> ConsumerSpec {
    ConsumerSpec {
        stream: WEBHOOKS,
        name: "gateway-webhooks".into(),
        description: "Webhooks on their way to their receivers".into(),
        filter: None,
        ack_wait: Duration::from_secs(60),
        max_deliver: None,
        max_ack_pending: 100_000,
    }
}

/// The monitor's consumer of advisories about jobs that were delivered too often.
pub fn dead_letter_consumer() -> ConsumerSpec {
    ConsumerSpec {
        stream: ADVISORIES,
        name: "monitor-reaper".into(),
        description: "Jobs that were delivered as often as allowed, on their way to DEAD".into(),
        filter: None,
        ack_wait: Duration::from_secs(30),
        max_deliver: None,
        max_ack_pending: 1_024,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_name_leads_back_to_its_model() {
        let model = Token::new("the model", "flan-t5-high").unwrap();
        let spec = worker_consumer(&model, Lane::Bulk, Duration::from_secs(30));
        assert_eq!(spec.name, "worker-flan-t5-high-bulk");
        assert_eq!(model_of_worker_consumer(&spec.name), Some(model));
        assert_eq!(model_of_worker_consumer("monitor-clickhouse"), None);
    }

    #[test]
    fn no_stream_captures_what_another_captures() {
        let specs = streams(&TopologyLimits::default());
        let prefixes: Vec<&str> = specs
            .iter()
            .map(|spec| spec.subjects[0].split('.').next().unwrap())
            .collect();
        let mut unique = prefixes.clone();
        unique.dedup();
        assert_eq!(prefixes, unique);
    }
}
