//! How far behind a reader of a stream is, and whether the stream has dropped what it had not read yet.

use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use precis_runtime::topology::{self, TopologyError};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::delivery::Intake;
use crate::metrics;

/// How often one looks.
const EVERY: Duration = Duration::from_secs(5);

/// Sets up the consumer and tells every few seconds how far behind the sink of this name is, until `stop`.
///
/// # Errors
/// When JetStream refuses the consumer.
pub(crate) async fn begin(
    intake: &Intake,
    sink: &str,
    stop: &CancellationToken,
) -> Result<AbortHandle, TopologyError> {
    intake.consumer().await?;
    let mut watch = Watch {
        intake: intake.clone(),
        sink: sink.to_owned(),
        missed: Missed::default(),
    };
    // Before anything is pulled, which would hide what was dropped while nobody was here.
    watch.look().await;
    let stop = stop.clone();
    let looking = tokio::spawn(async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => watch.look().await,
            }
        }
    });
    Ok(looking.abort_handle())
}

struct Watch {
    intake: Intake,
    sink: String,
    missed: Missed,
}

impl Watch {
    async fn look(&mut self) {
        let Err(error) = self.try_look().await else {
            return;
        };
        tracing::debug!(sink = self.sink, %error, "the lag is not known");
    }

    async fn try_look(&mut self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let spec = &self.intake.spec;
        let jetstream = &self.intake.queue.jetstream;
        // First what is kept: what is delivered after that look was not dropped.
        let stream = topology::stream(jetstream, spec.stream).await?;
        let first = stream.cached_info().state.first_sequence;
        let consumer: PullConsumer = stream.get_consumer(&spec.name).await?;
        let info = consumer.cached_info();
        metrics::lag_of(&self.sink, info.num_pending + info.num_ack_pending as u64);
        let missed = self.missed.since_last_look(first, info.delivered.stream_sequence);
        if missed > 0 {
            metrics::missed(&self.sink, missed);
            tracing::error!(
                sink = self.sink,
                stream = spec.stream,
                messages = missed,
                "the stream has dropped messages that were not read yet: it is full, or they were too old"
            );
        }
        Ok(())
    }
}

/// Counts what a stream drops before a consumer reads it.
#[derive(Debug, Default)]
struct Missed {
    /// Up to which sequence it is counted.
    counted: u64,
}

impl Missed {
    /// How many more it is by now: the stream begins at `first`, and everything up to `delivered` has been delivered.
    fn since_last_look(&mut self, first: u64, delivered: u64) -> u64 {
        let dropped = first.saturating_sub(1);
        let known = self.counted.max(delivered);
        self.counted = known.max(dropped);
        dropped.saturating_sub(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_unread_is_counted_once() {
        let mut missed = Missed::default();
        // Empty, and then read as it comes; what was read may be dropped.
        assert_eq!(missed.since_last_look(0, 0), 0);
        assert_eq!(missed.since_last_look(1, 10), 0);
        assert_eq!(missed.since_last_look(11, 10), 0);
        // Nobody reads any more.
        assert_eq!(missed.since_last_look(15, 10), 4);
        assert_eq!(missed.since_last_look(15, 10), 0);
        assert_eq!(missed.since_last_look(21, 10), 6);
        // Read again, from where the stream begins.
        assert_eq!(missed.since_last_look(21, 30), 0);
        assert_eq!(missed.since_last_look(40, 30), 9);
    }
}
