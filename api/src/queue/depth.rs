//! How much waits: of everybody, and of one tenant.

use futures::TryStreamExt;
use precis_schemas::error_code::Refusal;
use precis_schemas::topology::{model_of_worker_consumer, worker_consumer_name};
use precis_schemas::{Lane, Token, subject};

use super::{NatsQueue, trouble};
use crate::queue::depth_cache::{Depth, LaneDepth};

impl NatsQueue {
    pub(super) async fn count_of(&self, tenant: &Token) -> Result<u64, Refusal> {
        let failed = |error: &dyn std::error::Error| trouble("counting a tenant's jobs", error);
        // One subject for each model, lane and task of the tenant: a few, whatever the number of jobs.
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

    pub(super) async fn read_depth(&self) -> Result<Depth, Refusal> {
        // In this order: everything up to the sequence read first is counted by the consumers.
        let info = self
            .jobs_stream
            .get_info()
            .await
            .map_err(|error| trouble("looking at the queue", &error))?;
        let consumers: Vec<_> = self
            .jobs_stream
            .consumers()
            .try_collect()
            .await
            .map_err(|error| trouble("looking at the consumers", &error))?;
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
        Ok(Depth {
            last_sequence: info.state.last_sequence,
            lanes: lanes.collect(),
        })
    }
}

fn lane_of(consumer: &str, model: &Token) -> Option<Lane> {
    let is_it = |lane: &&Lane| worker_consumer_name(model, **lane) == consumer;
    Lane::ALL.iter().find(is_it).copied()
}
