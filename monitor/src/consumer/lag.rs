//! Lag of a sink: how many messages wait for it, and how many its stream dropped before it read them.

use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use precis_runtime::durable::DurableConsumer;
use precis_runtime::topology::{self, TopologyError};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::{metrics, status};

/// Time between two measurements.
const INTERVAL: Duration = Duration::from_secs(5);

/// Creates the consumer, and exports the lag of `sink` every five seconds until `stop`.
///
/// # Errors
/// When JetStream rejects the consumer.
pub(crate) async fn watch(
    consumer: &DurableConsumer,
    sink: &str,
    stop: &CancellationToken,
) -> Result<AbortHandle, TopologyError> {
    consumer.open().await?;
    let mut watch = LagWatch {
        consumer: consumer.clone(),
        sink: sink.to_owned(),
        missed: MissedCounter::default(),
    };
    // Measured once before the first pull, which would hide messages dropped while the monitor was down.
    watch.measure().await;
    let stop = stop.clone();
    let watching = tokio::spawn(async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(INTERVAL) => watch.measure().await,
            }
        }
    });
    Ok(watching.abort_handle())
}

struct LagWatch {
    consumer: DurableConsumer,
    sink: String,
    missed: MissedCounter,
}

impl LagWatch {
    async fn measure(&mut self) {
        if let Err(error) = self.try_measure().await {
            tracing::debug!(sink = self.sink, %error, "lag not measured");
        }
    }

    async fn try_measure(&mut self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let spec = &self.consumer.spec;
        let jetstream = &self.consumer.queue.jetstream;
        // The stream first: a message delivered between the two reads was not dropped.
        let stream = topology::stream(jetstream, spec.stream).await?;
        let first = stream.cached_info().state.first_sequence;
        let consumer: PullConsumer = stream.get_consumer(&spec.name).await?;
        let info = consumer.cached_info();
        let waiting = info.num_pending + info.num_ack_pending as u64;
        metrics::lag(&self.sink, waiting);
        status::measured(&self.sink, waiting, info.ack_floor.stream_sequence);
        let missed = self.missed.update(first, info.delivered.stream_sequence);
        if missed > 0 {
            metrics::missed(&self.sink, missed);
            tracing::error!(
                sink = self.sink,
                stream = spec.stream,
                messages = missed,
                "the stream dropped unread messages: it was full, or they were too old"
            );
        }
        Ok(())
    }
}

/// Counts messages that a stream drops before a consumer reads them.
#[derive(Debug, Default)]
struct MissedCounter {
    /// Sequence up to which messages are accounted for.
    counted_to: u64,
}

impl MissedCounter {
    /// Returns how many messages were missed since the last call. The stream starts at sequence `first`; every message up
    /// to `delivered` was delivered.
    fn update(&mut self, first: u64, delivered: u64) -> u64 {
        let dropped = first.saturating_sub(1);
        let known = self.counted_to.max(delivered);
        self.counted_to = known.max(dropped);
        dropped.saturating_sub(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_dropped_unread_count_once() {
        let mut missed = MissedCounter::default();
        // An empty stream, then one that is read as it fills. Messages that were read may be dropped.
        assert_eq!(missed.update(0, 0), 0);
        assert_eq!(missed.update(1, 10), 0);
        assert_eq!(missed.update(11, 10), 0);
        // The consumer stops reading.
        assert_eq!(missed.update(15, 10), 4);
        assert_eq!(missed.update(15, 10), 0);
        assert_eq!(missed.update(21, 10), 6);
        // It resumes at the start of the stream.
        assert_eq!(missed.update(21, 30), 0);
        assert_eq!(missed.update(40, 30), 9);
    }
}
