//! Streams and consumers as data. `precis_runtime::topology` creates them.

mod consumers;

use std::time::Duration;

pub use consumers::{
    ConsumerSpec, clickhouse_references_consumer, clickhouse_sink_consumer, dead_letter_consumer,
    forward_consumer, forward_references_consumer, webhook_consumer,
};

use crate::{subject, worker_consumers};

/// Name of the work queue.
pub const JOBS: &str = "JOBS";
/// Name of the stream of results.
pub const RESULTS: &str = "RESULTS";
/// Name of the stream of texts of jobs that ended.
pub const TEXTS: &str = "TEXTS";
/// Name of the stream of late references.
pub const REFERENCES: &str = "REFERENCES";
/// Name of the stream of batch manifests.
pub const BATCHES: &str = "BATCHES";
/// Name of the work queue of webhooks.
pub const WEBHOOKS: &str = "WEBHOOKS";
/// Name of the stream of dead letters.
pub const DEAD: &str = "DEAD";
/// Name of the stream of request records: idempotency keys and score batches.
pub const CALLS: &str = "CALLS";
/// Name of the stream of JetStream's advisories about jobs that reached the maximum number of deliveries.
pub const ADVISORIES: &str = "ADVISORIES";

/// Retention of request records.
pub const CALL_TTL: Duration = Duration::from_secs(24 * 3600);

/// When a stream removes a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// Once it is acknowledged.
    WorkQueue,
    /// When the stream reaches a limit.
    Limits,
}

/// What a full stream does with a new message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFull {
    /// Reject it, which gives publishers back-pressure.
    Reject,
    /// Drop the oldest message.
    DropOldest,
}

/// How the server republishes stored messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepublishSpec {
    /// Filter for the messages.
    pub source: &'static str,
    /// Their new subject, in NATS' subject mapping syntax.
    pub destination: &'static str,
    /// Whether the bodies are left out.
    pub headers_only: bool,
}

/// A stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSpec {
    /// Its name.
    pub name: &'static str,
    /// Description for operators, in one line.
    pub description: &'static str,
    /// Subjects it stores.
    pub subjects: Vec<String>,
    /// When it removes messages.
    pub retention: Retention,
    /// What it does when full.
    pub on_full: OnFull,
    /// Maximum number of messages; `None`: no limit.
    pub max_messages: Option<u64>,
    /// Maximum size in bytes; `None`: no limit.
    pub max_bytes: Option<u64>,
    /// Maximum age of a message; `None`: no limit.
    pub max_age: Option<Duration>,
    /// Maximum number of messages per subject, handled as `on_full` says; `None`: no limit.
    pub max_messages_per_subject: Option<u64>,
    /// Maximum number of consumers; `None`: the server's default, which is 1,000 in recent versions.
    pub max_consumers: Option<u64>,
    /// How long the stream deduplicates message ids.
    pub duplicate_window: Duration,
    /// What the server republishes once the stream has stored it.
    pub republish: Option<RepublishSpec>,
}

/// Tenants whose webhooks of one kind may all be undelivered before `WEBHOOKS` is full.
const WEBHOOK_TENANTS: u64 = 10;

/// How much longer than a result its text is kept: the longest time between storing the two.
const TEXT_GRACE: Duration = Duration::from_secs(3600);

/// Retention of late references.
pub const REFERENCE_TTL: Duration = Duration::from_secs(7 * 24 * 3600);

/// Configurable limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopologyLimits {
    /// Maximum number of queued jobs. A full queue rejects publishes.
    pub max_queued_jobs: u64,
    /// Maximum number of queued jobs of one subject: of a tenant, in one lane, for one model and task.
    pub max_jobs_per_subject: u64,
    /// Maximum size of the queue, in bytes.
    pub max_queue_bytes: u64,
    /// Retention of results.
    pub result_ttl: Duration,
    /// Maximum size of all results, in bytes.
    pub max_result_bytes: u64,
    /// Maximum size of the texts of results, in bytes, compressed.
    pub max_text_bytes: u64,
    /// Retention of dead letters.
    pub dead_letter_ttl: Duration,
    /// Maximum size of request records, in bytes. The oldest are dropped first.
    pub max_call_bytes: u64,
}

impl Default for TopologyLimits {
    fn default() -> Self {
        Self {
            max_queued_jobs: 100_000,
            max_jobs_per_subject: 90_000,
            max_queue_bytes: 1 << 30,
            result_ttl: Duration::from_secs(24 * 3600),
            max_result_bytes: 2 << 30,
            max_text_bytes: 4 << 30,
            dead_letter_ttl: Duration::from_secs(30 * 24 * 3600),
            max_call_bytes: 256 << 20,
        }
    }
}

/// Returns every stream.
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
            // Leaves room for other lanes and tenants, whoever publishes.
            max_messages_per_subject: Some(limits.max_jobs_per_subject)
                .filter(|max| *max < limits.max_queued_jobs),
            // Each tenant has one per lane.
            max_consumers: Some(worker_consumers::MAX_CONSUMERS),
            duplicate_window: two_minutes,
            // Tells workers at once which tenant has a new job.
            republish: Some(RepublishSpec {
                source: subject::JOBS_OF_EVERY_VERSION,
                destination: subject::QUEUED_OF_JOBS,
                headers_only: true,
            }),
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
            max_consumers: None,
            duplicate_window: two_minutes,
            republish: Some(RepublishSpec {
                source: subject::ALL_RESULTS,
                destination: subject::DONE_OF_RESULTS,
                headers_only: false,
            }),
        },
        StreamSpec {
            name: TEXTS,
            description: "Texts of jobs that ended, compressed",
            subjects: vec![subject::ALL_TEXTS.into()],
            retention: Retention::Limits,
            on_full: OnFull::DropOldest,
            max_messages: None,
            max_bytes: Some(limits.max_text_bytes),
            // A text is stored before its result, and must outlive it.
            max_age: Some(limits.result_ttl + TEXT_GRACE),
            max_messages_per_subject: Some(1),
            max_consumers: None,
            duplicate_window: two_minutes,
            republish: None,
        },
        StreamSpec {
            name: REFERENCES,
            description: "Late references",
            subjects: vec![subject::ALL_REFERENCES.into()],
            retention: Retention::Limits,
            // The oldest have most likely been read.
            on_full: OnFull::DropOldest,
            max_messages: None,
            max_bytes: Some(limits.max_queue_bytes),
            max_age: Some(REFERENCE_TTL),
            max_messages_per_subject: None,
            max_consumers: None,
            duplicate_window: two_minutes,
            republish: None,
        },
        StreamSpec {
            name: BATCHES,
            description: "Batch manifests: rows and the sequences of their jobs",
            subjects: vec![subject::ALL_BATCHES.into()],
            retention: Retention::Limits,
            on_full: OnFull::DropOldest,
            max_messages: None,
            // A row takes a few dozen bytes.
            max_bytes: Some(256 << 20),
            // A row ends within the retention of results, and its result is then kept for as long again.
            max_age: Some(limits.result_ttl * 2),
            max_messages_per_subject: Some(1),
            max_consumers: None,
            duplicate_window: two_minutes,
            republish: None,
        },
        StreamSpec {
            name: WEBHOOKS,
            description: "Announcements of due webhooks",
            subjects: vec![subject::ALL_WEBHOOKS_V1.into(), subject::ALL_WEBHOOKS.into()],
            retention: Retention::WorkQueue,
            on_full: OnFull::Reject,
            max_messages: Some(limits.max_queued_jobs),
            max_bytes: None,
            max_age: Some(limits.result_ttl * 2),
            // One tenant's receivers must not use up the room of the others.
            max_messages_per_subject: Some((limits.max_queued_jobs / WEBHOOK_TENANTS).max(1)),
            max_consumers: None,
            duplicate_window: two_minutes,
            republish: None,
        },
        StreamSpec {
            name: DEAD,
            description: "Dead letters, with the reason",
            subjects: vec![subject::ALL_DEAD.into()],
            retention: Retention::Limits,
            on_full: OnFull::DropOldest,
            max_messages: None,
            max_bytes: Some(limits.max_queue_bytes),
            max_age: Some(limits.dead_letter_ttl),
            max_messages_per_subject: None,
            max_consumers: None,
            duplicate_window: two_minutes,
            republish: None,
        },
        StreamSpec {
            name: CALLS,
            description: "Request records: idempotency keys, batches of scores",
            subjects: vec![subject::ALL_CALLS.into()],
            retention: Retention::Limits,
            on_full: OnFull::DropOldest,
            max_messages: None,
            max_bytes: Some(limits.max_call_bytes),
            max_age: Some(CALL_TTL),
            max_messages_per_subject: Some(1),
            max_consumers: None,
            duplicate_window: two_minutes,
            republish: None,
        },
        StreamSpec {
            name: ADVISORIES,
            description: "Advisories: jobs that reached the maximum number of deliveries",
            subjects: vec![format!("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{JOBS}.*")],
            retention: Retention::WorkQueue,
            on_full: OnFull::DropOldest,
            max_messages: Some(limits.max_queued_jobs),
            max_bytes: None,
            max_age: Some(limits.dead_letter_ttl),
            max_messages_per_subject: None,
            max_consumers: None,
            duplicate_window: two_minutes,
            republish: None,
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_can_not_fill_a_work_queue() {
        let specs = streams(&TopologyLimits::default());
        for name in [JOBS, WEBHOOKS] {
            let spec = specs.iter().find(|spec| spec.name == name).unwrap();
            assert_eq!(spec.on_full, OnFull::Reject);
            let limit = spec.max_messages_per_subject.unwrap();
            assert!(limit < spec.max_messages.unwrap(), "{name}");
        }
    }

    #[test]
    fn a_text_outlives_its_result() {
        let specs = streams(&TopologyLimits::default());
        let age = |name| specs.iter().find(|spec| spec.name == name).unwrap().max_age;
        assert!(age(TEXTS) > age(RESULTS));
    }

    #[test]
    fn streams_have_disjoint_subjects() {
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
