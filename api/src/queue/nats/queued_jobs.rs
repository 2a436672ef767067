//! Looks up queued jobs. The body of a job that waits is read once a minute, however often clients poll.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream::context::ConsumerInfoErrorKind;
use precis_runtime::expiring_map::ExpiringMap;
use precis_runtime::nats::is_missing;
use precis_schemas::error_code::Refusal;
use precis_schemas::worker_consumers::TenantLane;
use precis_schemas::{Job, JobId, time};
use serde::Deserialize;

use super::{NatsQueue, request_failed};
use crate::queue::QueuedJob;

/// Jobs whose fields are remembered. The one that was read first is forgotten first.
const MAX_JOBS: usize = 50_000;
/// Largest metadata that is remembered, in bytes.
const MAX_METADATA_BYTES: usize = 1_024;
/// How long fields are remembered. After it, a job that someone removed from the stream is noticed.
const FIELDS_AGE: Duration = Duration::from_secs(60);
/// Tenants' lanes whose position is remembered.
const MAX_LANES: usize = 10_000;
/// How long it is remembered.
const DELIVERED_AGE: Duration = Duration::from_secs(1);

/// The fields of a job's message that [`QueuedJob`] needs.
#[derive(Debug, Default, Deserialize)]
struct JobFields {
    id: Option<JobId>,
    #[serde(default, deserialize_with = "time::deserialize_deadline")]
    deadline: Option<jiff::Timestamp>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

/// What is known about queued jobs. A job's fields never change.
#[derive(Debug)]
pub(super) struct QueuedJobs {
    /// Jobs by sequence.
    jobs: ExpiringMap<u64, QueuedJob>,
    /// The last sequence that each lane of a tenant has delivered.
    delivered: ExpiringMap<TenantLane, u64>,
}

impl Default for QueuedJobs {
    fn default() -> Self {
        Self {
            jobs: ExpiringMap::new(FIELDS_AGE, MAX_JOBS),
            delivered: ExpiringMap::new(DELIVERED_AGE, MAX_LANES),
        }
    }
}

impl QueuedJobs {
    /// Forgets a job that this process removes from the queue.
    pub(super) fn forget(&self, sequence: u64) {
        self.jobs.remove(&sequence);
    }
}

impl NatsQueue {
    /// See [`QueueBackend::queued_job`](crate::queue::QueueBackend::queued_job).
    ///
    /// A job that no worker has received can only have ended by termination, whose result the caller sees.
    pub(super) async fn read_queued_job(
        &self,
        id: &JobId,
        sequence: u64,
    ) -> Result<Option<QueuedJob>, Refusal> {
        // A stream that was created anew has other jobs at the same sequences.
        if let Some(job) = self.queued_jobs.jobs.get(&sequence).filter(|job| job.id == *id)
            && self.delivered(&TenantLane::from(&job.subject)).await? < sequence
        {
            return Ok(Some(job));
        }
        let message = match self.jobs_stream.get_raw_message(sequence).await {
            Ok(message) => message,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(request_failed("reading a job", &error)),
        };
        // Use the id in the body: `Nats-Msg-Id` may differ for an id that was submitted again.
        let fields: JobFields = serde_json::from_slice(&message.payload).unwrap_or_default();
        let found = fields.id.or_else(|| Job::salvage_id(&message.payload));
        let (Some(found), Ok(subject)) = (
            found.filter(|found| found == id),
            message.subject.as_str().parse(),
        ) else {
            return Ok(None);
        };
        let submitted_at = jiff::Timestamp::from_nanosecond(message.time.unix_timestamp_nanos()).ok();
        let job = QueuedJob {
            id: found,
            subject,
            submitted_at: submitted_at.map(time::to_millis),
            deadline: fields.deadline,
            metadata: fields.metadata,
        };
        let metadata = job.metadata.iter().map(|(key, value)| key.len() + value.len());
        if metadata.sum::<usize>() <= MAX_METADATA_BYTES {
            self.queued_jobs.jobs.insert(sequence, job.clone());
        }
        Ok(Some(job))
    }

    /// Returns the last sequence that a tenant's consumer has delivered, at most a second old.
    async fn delivered(&self, jobs: &TenantLane) -> Result<u64, Refusal> {
        if let Some(delivered) = self.queued_jobs.delivered.get(jobs) {
            return Ok(delivered);
        }
        let delivered = match self.jobs_stream.consumer_info(jobs.consumer_name()).await {
            Ok(info) => info.delivered.stream_sequence,
            // No worker has seen a job of the tenant for a while.
            Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => 0,
            Err(error) => return Err(request_failed("reading a tenant's consumer", &error)),
        };
        self.queued_jobs.delivered.insert(jobs.clone(), delivered);
        Ok(delivered)
    }
}
