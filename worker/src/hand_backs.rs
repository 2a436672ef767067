//! Counts how often stopping workers handed back a job.
//!
//! JetStream counts deliveries, whatever became of them. A job that was handed back did nothing wrong, so its failures
//! are the deliveries minus the hand-backs. The count is a request record, so that it outlives the worker. It is only
//! read for jobs that were delivered several times.

use std::time::Duration;

use async_nats::jetstream::stream::{DirectGetErrorKind, Stream};
use async_nats::jetstream::{self};
use precis_runtime::topology::{self, TopologyError};
use precis_schemas::topology::CALLS;
use precis_schemas::worker_consumers::hand_backs_of;
use serde::{Deserialize, Serialize};

use crate::delivery::Delivery;
use crate::lease::Lease;

/// How long a record may take to be read or stored.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The record of a job.
#[derive(Debug, Default, Serialize, Deserialize)]
struct HandBackRecord {
    count: u64,
}

/// The records of all jobs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HandBacks {
    jetstream: jetstream::Context,
    calls: Stream,
}

impl HandBacks {
    /// Looks up the stream of request records.
    ///
    /// # Errors
    /// When the stream is unavailable.
    pub async fn open(jetstream: &jetstream::Context) -> Result<Self, TopologyError> {
        Ok(Self {
            jetstream: jetstream.clone(),
            calls: topology::stream(jetstream, CALLS).await?,
        })
    }

    /// Returns how often the job of a delivery was handed back. Returns 0 if the record can't be read: the job is then
    /// treated with more care than it needs.
    pub async fn count(&self, delivery: &Delivery) -> u64 {
        // The first delivery follows no hand-back.
        if delivery.attempt == 1 {
            return 0;
        }
        let subject = hand_backs_of(delivery.sequence);
        let read = self.calls.direct_get_last_for_subject(subject);
        match tokio::time::timeout(TIMEOUT, read).await {
            Ok(Ok(message)) => {
                let record: HandBackRecord = serde_json::from_slice(&message.payload).unwrap_or_default();
                // A stream that was created again numbers its jobs from 1.
                record.count.min(delivery.attempt - 1)
            }
            Ok(Err(error)) if error.kind() == DirectGetErrorKind::NotFound => 0,
            Ok(Err(error)) => {
                tracing::debug!(%error, "reading the record of hand-backs failed");
                0
            }
            Err(_) => 0,
        }
    }

    /// Returns a job that this worker did not finish, to be delivered again after `delay`. The delivery does not count.
    pub async fn hand_back(&self, delivery: &Delivery, lease: Lease, delay: Duration) {
        if let Err(error) = self.add(delivery).await {
            tracing::debug!(sequence = delivery.sequence, %error, "hand-back not recorded; the delivery counts");
        }
        lease.hand_back(delay).await;
    }

    async fn add(&self, delivery: &Delivery) -> Result<(), async_nats::Error> {
        let record = HandBackRecord {
            count: self.count(delivery).await + 1,
        };
        let body = serde_json::to_vec(&record)?;
        let subject = hand_backs_of(delivery.sequence);
        let store = async {
            let stored = self.jetstream.publish(subject, body.into()).await?;
            stored.await?;
            Ok(())
        };
        tokio::time::timeout(TIMEOUT, store).await?
    }
}
