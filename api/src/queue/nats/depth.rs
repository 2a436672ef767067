//! Reads the queue depth from the subjects of `JOBS`, and that of one tenant from its consumer.

use std::collections::HashMap;

use async_nats::jetstream::context::ConsumerInfoErrorKind;
use async_nats::jetstream::stream::InfoWithSubjects;
use futures::TryStreamExt;
use precis_runtime::nats::is_missing;
use precis_schemas::error_code::Refusal;
use precis_schemas::worker_consumers::{TenantLane, lane_of_marker};
use precis_schemas::{Token, subject};

use super::{NatsQueue, request_failed};
use crate::queue::{LaneDepth, QueueDepth, QueueUsage, TenantDepth};

impl NatsQueue {
    pub(super) async fn read_job_count(&self, tenant: &Token) -> Result<u64, Refusal> {
        // A tenant has one subject per model, lane and task: a few, however many jobs there are.
        sum(self.subjects(subject::jobs_of_tenant(tenant)).await?).await
    }

    pub(super) async fn read_usage(&self) -> Result<QueueUsage, Refusal> {
        let info = self.jobs_stream.get_info().await;
        let state = info.map_err(|error| unread(&error))?.state;
        Ok(QueueUsage {
            jobs: state.messages,
            bytes: state.bytes,
        })
    }

    pub(super) async fn read_depth(&self) -> Result<QueueDepth, Refusal> {
        let mut names = self.jobs_stream.consumer_names();
        let mut lanes = HashMap::new();
        while let Some(name) = names
            .try_next()
            .await
            .map_err(|error| request_failed("listing the consumers of JOBS", &error))?
        {
            if let Some((model, lane)) = lane_of_marker(&name) {
                let depth = LaneDepth {
                    model: model.clone(),
                    lane,
                    jobs: 0,
                    tenants: HashMap::new(),
                };
                lanes.insert((model, lane), depth);
            }
        }
        let mut subjects = self.subjects(subject::JOBS_OF_EVERY_VERSION.to_owned()).await?;
        let last_sequence = subjects.info.state.last_sequence;
        while let Some((subject, jobs)) = subjects.try_next().await.map_err(|error| unread(&error))? {
            if let Some(key) = TenantLane::of_subject(&subject)
                && let Some(lane) = lanes.get_mut(&(key.model, key.lane))
            {
                lane.jobs += jobs as u64;
                *lane.tenants.entry(key.tenant).or_default() += jobs as u64;
            }
        }
        Ok(QueueDepth {
            last_sequence,
            lanes: lanes.into_values().collect(),
        })
    }

    pub(super) async fn read_tenant_depth(&self, jobs: &TenantLane) -> Result<Option<TenantDepth>, Refusal> {
        // The sequence comes first, so that the other numbers include every job up to it.
        let subjects = self.subjects(jobs.filter()).await?;
        let last_sequence = subjects.info.state.last_sequence;
        let unread = |error: &dyn std::error::Error| request_failed("reading a tenant's consumer", error);
        let (delivered, pending) = match self.jobs_stream.consumer_info(jobs.consumer_name()).await {
            Ok(info) => (info.delivered.stream_sequence, info.num_pending),
            // No worker has seen a job of the tenant for a while.
            Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => (0, sum(subjects).await?),
            Err(error) => return Err(unread(&error)),
        };
        if pending == 0 {
            return Ok(Some(TenantDepth {
                last_sequence,
                delivered: last_sequence.max(delivered),
                pending,
            }));
        }
        // A new consumer starts at the front of the stream, far from the tenant's first job.
        let first = self
            .jobs_stream
            .get_first_raw_message_by_subject(jobs.filter(), delivered + 1)
            .await;
        let first = match first {
            Ok(message) => message.sequence,
            Err(error) if is_missing(&error) => last_sequence + 1,
            Err(error) => return Err(unread(&error)),
        };
        Ok(Some(TenantDepth {
            last_sequence,
            delivered: first - 1,
            pending,
        }))
    }

    async fn subjects(&self, filter: String) -> Result<InfoWithSubjects, Refusal> {
        let subjects = self.jobs_stream.info_with_subjects(filter).await;
        subjects.map_err(|error| unread(&error))
    }
}

async fn sum(subjects: InfoWithSubjects) -> Result<u64, Refusal> {
    subjects
        .try_fold(0, |sum, (_, jobs)| async move { Ok(sum + jobs as u64) })
        .await
        .map_err(|error| unread(&error))
}

fn unread(error: &dyn std::error::Error) -> Refusal {
    request_failed("counting jobs", error)
}
