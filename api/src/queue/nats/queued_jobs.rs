//! Looks up queued jobs. The body of a job that waits is read once a minute, however often clients poll.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream::context::ConsumerInfoErrorKind;
use async_nats::jetstream::message::StreamMessage;
use precis_runtime::expiring_map::ExpiringMap;
use precis_runtime::nats::is_missing;
use precis_schemas::error_code::Refusal;
use precis_schemas::worker_consumers::TenantLane;
use precis_schemas::{Job, JobId, time};
use serde::Deserialize;

use super::{NatsQueue, request_failed};
use crate::queue::{JobFilter, ListedJob, QueuedJob};

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
    #[serde(default)]
    text: String,
}

/// Reads the message of a job. Returns `None` if it is no job.
fn read(message: &StreamMessage) -> Option<ListedJob> {
    let fields: JobFields = serde_json::from_slice(&message.payload).unwrap_or_default();
    // Use the id in the body: `Nats-Msg-Id` may differ for an id that was submitted again.
    let id = fields.id.or_else(|| Job::salvage_id(&message.payload))?;
    let submitted_at = jiff::Timestamp::from_nanosecond(message.time.unix_timestamp_nanos()).ok();
    Some(ListedJob {
        sequence: message.sequence,
        job: QueuedJob {
            id,
            subject: message.subject.as_str().parse().ok()?,
            submitted_at: submitted_at.map(time::to_millis),
            deadline: fields.deadline,
            metadata: fields.metadata,
        },
        text: fields.text,
    })
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
        let Some(ListedJob { job, .. }) = read(&message).filter(|listed| listed.job.id == *id) else {
            return Ok(None);
        };
        let metadata = job.metadata.iter().map(|(key, value)| key.len() + value.len());
        if metadata.sum::<usize>() <= MAX_METADATA_BYTES {
            self.queued_jobs.jobs.insert(sequence, job.clone());
        }
        Ok(Some(job))
    }

    /// See [`QueueBackend::list_jobs`](crate::queue::QueueBackend::list_jobs). Messages that are no jobs are left out.
    pub(super) async fn read_jobs(
        &self,
        filter: &JobFilter,
        after: u64,
        limit: usize,
    ) -> Result<Vec<ListedJob>, Refusal> {
        let part = |part: Option<String>| part.unwrap_or_else(|| "*".to_owned());
        let subjects = format!(
            "jobs.v1.{}.{}.{}.{}",
            part(filter.model.as_ref().map(ToString::to_string)),
            part(filter.lane.map(|lane| lane.to_string())),
            part(filter.task.map(|task| task.to_string())),
            part(filter.tenant.as_ref().map(ToString::to_string)),
        );
        let (mut jobs, mut next) = (Vec::new(), after.saturating_add(1));
        while jobs.len() < limit {
            let found = self.jobs_stream.get_first_raw_message_by_subject(&subjects, next);
            match found.await {
                Ok(message) => {
                    next = message.sequence + 1;
                    jobs.extend(read(&message));
                }
                Err(error) if is_missing(&error) => break,
                Err(error) => return Err(request_failed("listing jobs", &error)),
            }
        }
        Ok(jobs)
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
