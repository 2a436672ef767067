//! Results into ClickHouse: collected into a block, inserted, and only then acknowledged.
//!
//! While one block is stored the next ones are pulled and scored, on other threads, and the one before is acknowledged. No
//! more than [`AHEAD`] wait for their turn, so that memory is bounded however long ClickHouse is away.
//!
//! No row is stored twice, whenever this process dies: a block that is tried again by the same process has the same
//! deduplication token, and after a restart results come again only when the insert that was on its way has ended (it is
//! given up after half the time after which they do), so that a look into the table tells which of them are there.

use std::panic::{AssertUnwindSafe, catch_unwind};

use jiff::Timestamp;
use precis_runtime::admin::Readiness;
use precis_runtime::boot::NatsConnection;
use precis_runtime::clock;
use precis_runtime::config;
use precis_runtime::topology::TopologyError;
use precis_schemas::JobResult;
use precis_schemas::topology::clickhouse_sink_consumer;
use precis_schemas::unreadable::why;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::block::{Block, Place};
use super::spans::BlockSpans;
use super::table::Store;
use crate::consumer::{Blocks, InHand, bury};
use crate::consumer::{Delivered, Intake, acknowledge};
use crate::row::Scorer;
use crate::row::Texts;
use crate::row::{self, Stored, TABLE};

/// Name of the sink in metrics.
pub(super) const SINK: &str = "clickhouse";
/// Blocks that are being made into rows, or wait to be stored.
const AHEAD: usize = 2;

/// The sink.
#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) queue: NatsConnection,
    pub(crate) nats: config::NatsConfig,
    pub(crate) settings: config::MonitorConfig,
    pub(crate) store: Store,
    pub(crate) readiness: Readiness,
    pub(crate) stop: CancellationToken,
}

/// Rows of what can be read of a block, the index of each row's message, and what can't be read with the reason.
type Rows = (Block, Vec<usize>, Vec<(usize, String)>);

/// A block whose rows are being made.
struct Pulled {
    in_hand: InHand,
    received_at: Timestamp,
    reading: JoinHandle<Rows>,
}

/// A block whose rows are stored, or refused for ever.
struct Kept {
    in_hand: InHand,
    /// The index of each message that becomes no row, with the reason.
    refused: Vec<(usize, String)>,
}

impl Sink {
    /// Moves results into the table until it is told to stop.
    ///
    /// # Errors
    /// When the consumer can't be set up at the start. Later troubles are waited out.
    pub(crate) async fn run(self) -> Result<(), TopologyError> {
        let mut blocks = Blocks::open(
            self.queue.clone(),
            self.nats.clone(),
            &self.settings,
            clickhouse_sink_consumer(),
            self.stop.clone(),
        )
        .await?;
        let intake = blocks.intake().clone();
        self.readiness.set(true);
        tracing::info!(clickhouse = self.store.address(), "results go to ClickHouse");
        let texts = Texts::of(&self.settings);
        let (pulled, mut to_store) = mpsc::channel::<Pulled>(AHEAD);
        let (kept, mut to_settle) = mpsc::channel::<Kept>(1);
        let pull = async move {
            // Room first: a block that nobody can take yet is left in the stream.
            while let Ok(room) = pulled.reserve().await
                && let Some(in_hand) = blocks.next().await
            {
                room.send(Pulled::begin(in_hand, texts));
            }
        };
        let store = async move {
            while let Some(pulled) = to_store.recv().await {
                let Some(stored) = self.store(pulled).await else {
                    continue;
                };
                // The other end is read for as long as this one is written.
                let _always = kept.send(stored).await;
            }
        };
        let settle = async move {
            while let Some(kept) = to_settle.recv().await {
                settle(kept, &intake).await;
            }
        };
        tokio::join!(pull, store, settle);
        Ok(())
    }

    /// Stores one block; none when that could not be done, and its messages are left to come again.
    async fn store(&self, pulled: Pulled) -> Option<Kept> {
        let Pulled {
            in_hand,
            received_at,
            reading,
        } = pulled;
        let Ok((mut block, of_row, unreadable)) = reading.await else {
            tracing::error!("a block could not be made into rows; its results will be delivered again");
            return None;
        };
        let messages = in_hand.messages();
        let headers = messages.iter().map(|one| one.message.headers.as_ref());
        let spans = BlockSpans::begin(headers, received_at, TABLE);
        let stored = self
            .store
            .until_stored(&mut block, &self.readiness, &self.stop)
            .await;
        spans.end(stored);
        if !stored {
            tracing::warn!(
                results = messages.len(),
                "stopped while ClickHouse was away; the open block will be delivered again"
            );
            return None;
        }
        let refused_rows = block
            .refused()
            .iter()
            .map(|(index, reason)| (of_row[*index], format!("ClickHouse refuses the row: {reason}")));
        let refused = unreadable.into_iter().chain(refused_rows).collect();
        Some(Kept { in_hand, refused })
    }
}

impl Pulled {
    /// Has the rows made: that is arithmetic over whole texts, and not for the threads that serve the network.
    fn begin(in_hand: InHand, texts: Texts) -> Self {
        let shared = in_hand.shared();
        Self {
            received_at: clock::now(),
            reading: tokio::task::spawn_blocking(move || read(&shared, texts)),
            in_hand,
        }
    }
}

/// Takes the messages off the consumer's list; those that become no row once their dead letters are stored.
async fn settle(kept: Kept, intake: &Intake) {
    let messages = kept.in_hand.messages();
    let mut done = vec![true; messages.len()];
    for (index, reason) in kept.refused {
        done[index] = bury(intake, SINK, &messages[index], reason).await;
    }
    let settled = messages
        .iter()
        .zip(done)
        .filter_map(|(one, done)| done.then_some(one));
    acknowledge(settled).await;
}

fn read(delivered: &[Delivered], texts: Texts) -> Rows {
    let scorer = Scorer::default();
    let (mut rows, mut places, mut kept, mut unreadable) = (vec![], vec![], vec![], vec![]);
    for (index, one) in delivered.iter().enumerate() {
        match serde_json::from_slice::<JobResult>(&one.message.payload) {
            Ok(result) => {
                let stored = Stored {
                    sequence: one.sequence,
                    at: one.published_at,
                };
                // A result over which scoring breaks would come again for ever.
                let built = catch_unwind(AssertUnwindSafe(|| row::build(&result, stored, &scorer, texts)));
                let Ok(row) = built else {
                    unreadable.push((index, "a defect: no row could be made of this result".into()));
                    continue;
                };
                rows.push(row);
                places.push(Place {
                    sequence: one.sequence,
                    published_ns: one.published_at.as_nanosecond(),
                });
                kept.push(index);
            }
            Err(error) => unreadable.push((index, format!("not a result of version 1: {}", why(&error)))),
        }
    }
    (Block::new("results", rows, places), kept, unreadable)
}
