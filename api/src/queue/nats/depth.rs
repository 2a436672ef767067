//! Reads the queue depth from the consumers of `JOBS`, and a tenant's share from its subjects.

use futures::TryStreamExt;
use precis_schemas::error_code::Refusal;
use precis_schemas::topology::{model_of_worker_consumer, worker_consumer_name};
use precis_schemas::{Lane, Token, subject};

use super::{NatsQueue, request_failed};
use crate::queue::{LaneDepth, QueueDepth};

impl NatsQueue {
    pub(super) async fn read_job_count(&self, tenant: &Token) -> Result<u64, Refusal> {
        let failed = |error: &dyn std::error::Error| request_failed("counting a tenant's jobs", error);
        // A tenant has one subject per model, lane and task: a few, however many jobs there are.
        let counts = self
            .jobs_stream
            .info_with_subjects(subject::jobs_of_tenant(tenant))
            .await
            .map_err(|error| failed(&error))?;
        counts
            .try_fold(0, |sum, (_, jobs)| async move { Ok(sum + jobs as u64) })
            .await
            .map_err(|error| failed(&error))
    }

    pub(super) async fn read_depth(&self) -> Result<QueueDepth, Refusal> {
        // The sequence comes first, so that the consumers' counts include every job up to it.
        let info = self
            .jobs_stream
            .get_info()
            .await
            .map_err(|error| request_failed("reading the state of JOBS", &error))?;
        let consumers: Vec<_> = self
            .jobs_stream
            .consumers()
            .try_collect()
            .await
            .map_err(|error| request_failed("listing the consumers of JOBS", &error))?;
        let lanes = consumers.iter().filter_map(|consumer| {
            let model = model_of_worker_consumer(&consumer.name)?;
            let lane = lane_of(&consumer.name, &model)?;
            Some(LaneDepth {
                model,
                lane,
                delivered: consumer.delivered.stream_sequence,
                pending: consumer.num_pending,
            })
        });
        Ok(QueueDepth {
            last_sequence: info.state.last_sequence,
            lanes: lanes.collect(),
        })
    }
}

fn lane_of(consumer: &str, model: &Token) -> Option<Lane> {
    let mut lanes = Lane::ALL.iter().copied();
    lanes.find(|lane| worker_consumer_name(model, *lane) == consumer)
}
