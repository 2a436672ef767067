//! The consumers that jobs are pulled from.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::stream::Stream;
use futures::TryStreamExt;
use parking_lot::Mutex;
use precis_runtime::config::NatsConfig;
use precis_runtime::topology::{self, TopologyError};
use precis_schemas::topology::{JOBS, TopologyLimits};
use precis_schemas::worker_consumers::{TenantLane, jobs_of_model, lane_marker, legacy_consumer_name};
use precis_schemas::{Lane, Token};

/// Where the consumers come from.
pub struct QueueSettings {
    /// The connection.
    pub client: Client,
    /// JetStream on that connection.
    pub jetstream: jetstream::Context,
    /// The model whose jobs are pulled.
    pub model: Token,
    /// Time without progress after which a job is delivered again.
    pub ack_wait: Duration,
    /// Limits of the streams, for a server that lost them.
    pub limits: TopologyLimits,
    /// How streams are set up.
    pub nats: NatsConfig,
}

/// The jobs of one model. Cheap to clone.
#[derive(Clone)]
pub(super) struct JobQueue {
    pub(super) settings: Arc<QueueSettings>,
    jobs: Stream,
    /// The consumers that exist, as far as this worker knows.
    consumers: Arc<Mutex<HashMap<TenantLane, PullConsumer>>>,
    /// Held while streams and consumers are restored, so that one task does it for all.
    restore: Arc<tokio::sync::Mutex<()>>,
}

impl JobQueue {
    /// Removes the consumers of earlier releases, and marks the lanes as served.
    ///
    /// # Errors
    /// When the stream or the markers are unavailable.
    pub(super) async fn open(settings: QueueSettings, lanes: &[Lane]) -> Result<Self, TopologyError> {
        let queue = Self {
            jobs: topology::stream(&settings.jetstream, JOBS).await?,
            settings: Arc::new(settings),
            consumers: Arc::default(),
            restore: Arc::default(),
        };
        for lane in lanes {
            queue.prepare(*lane).await?;
        }
        Ok(queue)
    }

    /// Prepares a lane: its marker exists, and no consumer of an earlier release claims its jobs.
    async fn prepare(&self, lane: Lane) -> Result<(), TopologyError> {
        let model = &self.settings.model;
        let legacy = legacy_consumer_name(model, lane);
        // Its jobs in flight are delivered again, and those deliveries find their results.
        if self.jobs.delete_consumer(&legacy).await.is_ok() {
            tracing::info!(consumer = legacy, "removed the consumer of an earlier release");
        }
        let replicas = self.settings.nats.replicas;
        let marker = lane_marker(model, lane);
        topology::consumer(&self.settings.jetstream, &marker, replicas, true).await?;
        Ok(())
    }

    /// Returns the consumer of a tenant's jobs, and creates it if this worker has not seen it.
    pub(super) async fn consumer(&self, key: &TenantLane) -> Result<PullConsumer, TopologyError> {
        let known = self.consumers.lock().get(key).cloned();
        if let Some(consumer) = known {
            return Ok(consumer);
        }
        let consumer = match self.create(key).await {
            Ok(consumer) => consumer,
            Err(error) => {
                tracing::debug!(%error, "consumer unavailable; restoring streams and lanes");
                self.restore(key.lane).await?;
                self.create(key).await?
            }
        };
        self.consumers.lock().insert(key.clone(), consumer.clone());
        Ok(consumer)
    }

    /// Tenants come and go, so a worker creates their consumers even if an administrator manages the streams.
    async fn create(&self, key: &TenantLane) -> Result<PullConsumer, TopologyError> {
        let settings = &self.settings;
        let spec = key.consumer(settings.ack_wait);
        topology::consumer(&settings.jetstream, &spec, settings.nats.replicas, true).await
    }

    /// Restores the streams on a server that may have lost them, and the lane if a worker of an earlier release has
    /// taken it back.
    async fn restore(&self, lane: Lane) -> Result<(), TopologyError> {
        let _one_at_a_time = self.restore.lock().await;
        let NatsConfig {
            replicas,
            manage_topology,
            ..
        } = self.settings.nats;
        let settings = &self.settings;
        topology::apply(&settings.jetstream, &settings.limits, replicas, manage_topology).await?;
        self.prepare(lane).await
    }

    /// Forgets a consumer: the server may have removed it.
    pub(super) fn forget(&self, key: &TenantLane) {
        self.consumers.lock().remove(key);
    }

    /// Forgets the consumers of all tenants for which `is_known` returns false.
    pub(super) fn retain(&self, is_known: impl Fn(&TenantLane) -> bool) {
        self.consumers.lock().retain(|key, _| is_known(key));
    }

    /// Counts the jobs of each lane and tenant that wait or run.
    pub(super) async fn count_jobs(&self) -> Result<HashMap<(Lane, Token), u64>, async_nats::Error> {
        let filter = jobs_of_model(&self.settings.model);
        let mut subjects = self.jobs.info_with_subjects(filter).await?;
        let mut counts = HashMap::new();
        while let Some((subject, jobs)) = subjects.try_next().await? {
            // The reaper ends jobs whose subject has another shape.
            if let Some(key) = TenantLane::of_subject(&subject) {
                *counts.entry((key.lane, key.tenant)).or_default() += jobs as u64;
            }
        }
        Ok(counts)
    }
}
