//! A durable consumer, and how to set it up again.

use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use precis_schemas::topology::{ConsumerSpec, TopologyLimits};

use crate::boot::NatsConnection;
use crate::config::Config;
use crate::topology::{self, TopologyError};

/// How a process sets up streams and consumers.
#[derive(Debug, Clone)]
pub struct TopologySettings {
    limits: TopologyLimits,
    replicas: usize,
    manage: bool,
}

impl TopologySettings {
    /// Returns how long `RESULTS` keeps a result.
    pub fn result_ttl(&self) -> Duration {
        self.limits.result_ttl
    }
}

impl From<&Config> for TopologySettings {
    fn from(config: &Config) -> Self {
        Self {
            limits: config.queue.topology_limits(),
            replicas: config.nats.replicas,
            manage: config.nats.manage_topology,
        }
    }
}

/// A durable consumer and the connection it is read through. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DurableConsumer {
    /// The connection.
    pub queue: NatsConnection,
    /// How it is set up.
    pub settings: TopologySettings,
    /// What it is.
    pub spec: ConsumerSpec,
}

impl DurableConsumer {
    /// Returns the consumer, after creating or updating it if Precis manages the topology.
    ///
    /// # Errors
    /// If JetStream rejects the consumer or can't be reached.
    pub async fn open(&self) -> Result<PullConsumer, TopologyError> {
        let TopologySettings { replicas, manage, .. } = self.settings;
        topology::consumer(&self.queue.jetstream, &self.spec, replicas, manage).await
    }

    /// Returns the consumer after a pull failed: someone may have deleted the consumer, or the server lost its streams.
    ///
    /// # Errors
    /// If JetStream rejects the consumer or a stream, or can't be reached.
    pub async fn restore(&self) -> Result<PullConsumer, TopologyError> {
        match self.open().await {
            Ok(consumer) => return Ok(consumer),
            Err(error) => tracing::debug!(consumer = self.spec.name, %error, "checking the streams"),
        }
        let TopologySettings {
            limits,
            replicas,
            manage,
        } = &self.settings;
        topology::apply(&self.queue.jetstream, limits, *replicas, *manage).await?;
        self.open().await
    }
}
