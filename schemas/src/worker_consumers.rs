//! The consumers that workers pull jobs from.
//!
//! Each tenant has its own consumer per model and lane, so that a worker can serve tenants in turn. It is created when
//! a worker first sees a job of the tenant, and the server removes it some time after the last pull. One marker consumer
//! per model and lane outlives them: it receives no jobs and says that workers serve the model.
//!
//! A `~` separates the parts of a name. Tokens never contain it.

use std::time::Duration;

use crate::subject::{self, InvalidToken, JobSubject, Lane, Token};
use crate::topology::{ConsumerSpec, JOBS};

/// Maximum number of deliveries of a job before it ends as `failed`. A delivery that a stopping worker handed back does
/// not count.
pub const MAX_DELIVERIES: u64 = 10;
/// The delivery from which a failure of the model is final: the job then ends as `failed`. Handed-back deliveries do not
/// count.
pub const MAX_FAILED_ATTEMPTS: u64 = 5;
/// The delivery from which a job runs alone in its worker, because its earlier deliveries may have ended the process.
/// Handed-back deliveries do not count.
pub const ALONE_FROM_ATTEMPT: u64 = 3;
/// Maximum number of deliveries by the server, which counts handed-back ones too. The job then leaves the consumer.
pub const MAX_SERVER_DELIVERIES: u64 = 50;
/// How long a tenant's consumer exists after the last pull.
pub const CONSUMER_IDLE_TTL: Duration = Duration::from_secs(15 * 60);
/// Maximum number of consumers of `JOBS`.
pub const MAX_CONSUMERS: u64 = 100_000;
/// Maximum number of open pulls of a consumer, at most one per worker.
pub const MAX_OPEN_PULLS: u64 = 16_384;

/// The jobs of one tenant in one lane of a model.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantLane {
    /// Name under which the model is served.
    pub model: Token,
    /// The lane.
    pub lane: Lane,
    /// The tenant.
    pub tenant: Token,
}

impl TenantLane {
    /// Returns the durable name of the consumer of these jobs.
    pub fn consumer_name(&self) -> String {
        let Self { model, lane, tenant } = self;
        format!("worker~{model}~{lane}~{tenant}")
    }

    /// Returns the filter for these jobs, in every version of the wire format.
    pub fn filter(&self) -> String {
        let Self { model, lane, tenant } = self;
        format!("jobs.*.{model}.{lane}.*.{tenant}")
    }

    /// Returns the consumer of these jobs, shared by all workers of the model. A job without progress for `ack_wait` is
    /// redelivered.
    pub fn consumer(&self, ack_wait: Duration) -> ConsumerSpec {
        let Self { model, lane, tenant } = self;
        ConsumerSpec {
            stream: JOBS,
            name: self.consumer_name(),
            description: format!("Workers of {model}, lane {lane}, tenant {tenant}"),
            filter: Some(self.filter()),
            ack_wait,
            max_deliver: Some(MAX_SERVER_DELIVERIES),
            max_ack_pending: 4_096,
            max_waiting: Some(MAX_OPEN_PULLS),
            inactive_threshold: Some(CONSUMER_IDLE_TTL),
        }
    }

    /// Reads the subject of a job, or of the note that the server publishes once it has stored one. `None` if a worker
    /// can't pull it: the subject has another shape.
    pub fn of_subject(subject: &str) -> Option<Self> {
        let tokens: Vec<&str> = subject.split('.').collect();
        let ["jobs" | "queued", _version, model, lane, _task, tenant] = tokens[..] else {
            return None;
        };
        Self::parse(model, lane, tenant).ok()
    }

    /// Reads the durable name of a tenant's consumer. `None` for other names.
    pub fn of_consumer(name: &str) -> Option<Self> {
        let parts: Vec<&str> = name.split('~').collect();
        let ["worker", model, lane, tenant] = parts[..] else {
            return None;
        };
        Self::parse(model, lane, tenant).ok()
    }

    fn parse(model: &str, lane: &str, tenant: &str) -> Result<Self, InvalidToken> {
        Ok(Self {
            model: Token::new("the model", model)?,
            lane: lane.parse()?,
            tenant: Token::new("the tenant", tenant)?,
        })
    }
}

impl From<&JobSubject> for TenantLane {
    fn from(subject: &JobSubject) -> Self {
        Self {
            model: subject.model.clone(),
            lane: subject.lane,
            tenant: subject.tenant.clone(),
        }
    }
}

/// Returns the consumer that marks a lane of a model as served. It receives no jobs.
pub fn lane_marker(model: &Token, lane: Lane) -> ConsumerSpec {
    ConsumerSpec {
        stream: JOBS,
        name: lane_marker_name(model, lane),
        description: format!("Marks the lane {lane} of {model} as served; receives no jobs"),
        // Job subjects have two more tokens.
        filter: Some(format!("jobs.*.{model}.{lane}")),
        ack_wait: Duration::from_secs(30),
        max_deliver: None,
        max_ack_pending: 1,
        max_waiting: None,
        inactive_threshold: None,
    }
}

/// Returns the durable name of [`lane_marker`].
pub fn lane_marker_name(model: &Token, lane: Lane) -> String {
    format!("worker~{model}~{lane}")
}

/// Returns the model and lane of a marker's name. `None` for other names.
pub fn lane_of_marker(name: &str) -> Option<(Token, Lane)> {
    let parts: Vec<&str> = name.split('~').collect();
    let ["worker", model, lane] = parts[..] else {
        return None;
    };
    Some((Token::new("the model", model).ok()?, lane.parse().ok()?))
}

/// Returns the name of the consumer that workers of releases up to 0.2 share for a lane. Its filter overlaps with those
/// of the tenants' consumers, so a worker removes it.
pub fn legacy_consumer_name(model: &Token, lane: Lane) -> String {
    format!("worker-{model}-{lane}")
}

/// Returns the filter for jobs of a model, in every version of the wire format.
pub fn jobs_of_model(model: &Token) -> String {
    format!("jobs.*.{model}.>")
}

/// Returns the filter for the notes about stored jobs of a model, in every version of the wire format.
pub fn queued_of_model(model: &Token) -> String {
    format!("queued.*.{model}.>")
}

/// Returns the subject of the record of how often stopping workers handed back the job at `sequence` of `JOBS`.
pub fn hand_backs_of(sequence: u64) -> String {
    subject::call_of(&Token::sanitized(&format!("hand-backs-{sequence}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consumer_names_and_subjects_name_their_tenant() {
        let subject: JobSubject = "jobs.v1.flan-t5-high.bulk.score.a-bulk".parse().unwrap();
        let jobs = TenantLane::from(&subject);
        assert_eq!(jobs.consumer_name(), "worker~flan-t5-high~bulk~a-bulk");
        assert_eq!(jobs.filter(), "jobs.*.flan-t5-high.bulk.*.a-bulk");
        assert_eq!(TenantLane::of_consumer(&jobs.consumer_name()), Some(jobs.clone()));
        for subject in [
            "jobs.v1.flan-t5-high.bulk.score.a-bulk",
            "queued.v2.flan-t5-high.bulk.summarize.a-bulk",
        ] {
            assert_eq!(TenantLane::of_subject(subject), Some(jobs.clone()), "{subject}");
        }
    }

    #[test]
    fn other_names_and_subjects_are_not_parsed() {
        let model = Token::new("the model", "m-high").unwrap();
        let marker = lane_marker_name(&model, Lane::Bulk);
        assert_eq!(lane_of_marker(&marker), Some((model, Lane::Bulk)));
        assert_eq!(TenantLane::of_consumer(&marker), None);
        for name in [
            "monitor-clickhouse",
            "worker-m-high-bulk",
            "worker~m~bulk~acme",
            "worker~m~urgent",
        ] {
            assert_eq!(lane_of_marker(name), None, "{name}");
        }
        for subject in [
            "jobs.v1.m.bulk",
            "jobs.v1.m.urgent.summarize.acme",
            "jobs.v1.m.bulk.summarize.acme.more",
            "jobs.v1.m.bulk.summarize.a:b",
        ] {
            assert_eq!(TenantLane::of_subject(subject), None, "{subject}");
        }
    }
}
