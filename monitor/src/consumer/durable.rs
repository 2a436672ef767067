//! A durable consumer and the connection it is read through.

use async_nats::jetstream::consumer::PullConsumer;
use precis_runtime::boot::NatsConnection;
use precis_runtime::config::NatsConfig;
use precis_runtime::topology::{self, TopologyError};
use precis_schemas::topology::ConsumerSpec;

/// A durable consumer and the connection it is read through.
#[derive(Debug, Clone)]
pub(crate) struct DurableConsumer {
    pub(crate) queue: NatsConnection,
    pub(crate) nats: NatsConfig,
    pub(crate) spec: ConsumerSpec,
}

impl DurableConsumer {
    /// Returns the consumer, after creating or updating it if Precis manages the topology.
    ///
    /// # Errors
    /// When JetStream rejects the consumer or can't be reached.
    pub(crate) async fn open(&self) -> Result<PullConsumer, TopologyError> {
        topology::consumer(
            &self.queue.jetstream,
            &self.spec,
            self.nats.replicas,
            self.nats.manage_topology,
        )
        .await
    }
}
