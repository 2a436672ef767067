//! Results into ClickHouse: collected into a block, inserted, and only then acknowledged.
//!
//! While one block is stored the next is collected and scored; nothing more is pulled then, so that memory is bounded by
//! two blocks however long ClickHouse is away.
//!
//! No row is stored twice, whenever this process dies: a block that is tried again by the same process has the same
//! deduplication token, and after a restart results come again only when the insert that was on its way has ended (it is
//! given up after half the time after which they do), so that a look into the table tells which of them are there.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use precis_runtime::admin::Readiness;
use precis_runtime::boot::Queue;
use precis_runtime::config;
use precis_runtime::topology::TopologyError;
use precis_schemas::topology::clickhouse_sink_consumer;
use precis_schemas::{JobResult, time};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::block::{Block, Place};
use super::in_hand::{Blocks, InHand, bury};
use super::intake::{Delivered, Intake, acknowledge};
use super::store::Store;
use super::trace::BlockSpans;
use crate::database::cut;
use crate::row::{self, Stored, TABLE};
use crate::score::Scorer;
use crate::texts::Texts;

/// Name of the sink in metrics.
const SINK: &str = "clickhouse";
/// How long the open block is waited for after the word to stop.
pub(super) const DRAIN: Duration = Duration::from_secs(10);

/// The sink.
#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) queue: Queue,
    pub(crate) nats: config::Nats,
    pub(crate) settings: config::Monitor,
    pub(crate) store: Store,
    pub(crate) readiness: Readiness,
    pub(crate) stop: CancellationToken,
}

/// A block that is ready to be stored.
struct Prepared {
    in_hand: InHand,
    received_at: Timestamp,
    block: Block,
    /// For each row the index of its message.
    kept: Vec<usize>,
    /// Messages that can't be read, with the reason.
    unreadable: Vec<(usize, String)>,
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
        let lag = blocks.report_lag(SINK);
        let intake = blocks.intake().clone();
        self.readiness.set(true);
        tracing::info!(clickhouse = self.store.address(), "results go to ClickHouse");
        let (sender, mut receiver) = mpsc::channel::<Prepared>(1);
        let texts = Texts::of(&self.settings);
        let take = async move {
            // Room first: a block that nobody can take yet is left in the stream.
            while let Ok(room) = sender.reserve().await
                && let Some(in_hand) = blocks.next().await
            {
                if let Some(prepared) = prepare(in_hand, texts).await {
                    room.send(prepared);
                }
            }
        };
        let store = async {
            while let Some(prepared) = receiver.recv().await {
                self.keep(prepared, &intake).await;
            }
        };
        tokio::join!(take, store);
        lag.abort();
        Ok(())
    }

    /// Stores one block and settles its messages.
    async fn keep(&self, prepared: Prepared, intake: &Intake) {
        let Prepared {
            in_hand,
            received_at,
            mut block,
            kept,
            unreadable,
        } = prepared;
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
            return;
        }
        let refused_rows = block
            .refused()
            .iter()
            .map(|(index, reason)| (kept[*index], format!("ClickHouse refuses the row: {reason}")));
        let refused: Vec<(usize, String)> = unreadable.into_iter().chain(refused_rows).collect();
        let mut done = vec![true; messages.len()];
        for (index, reason) in refused {
            done[index] = bury(intake, SINK, &messages[index], reason).await;
        }
        let settled = messages
            .iter()
            .zip(done)
            .filter_map(|(one, done)| done.then_some(one));
        acknowledge(settled).await;
    }
}

/// Messages into scored rows, which is arithmetic over whole texts: not on the threads that serve the network.
async fn prepare(in_hand: InHand, texts: Texts) -> Option<Prepared> {
    let received_at = time::now();
    let shared = in_hand.shared();
    let Ok((block, kept, unreadable)) = tokio::task::spawn_blocking(move || read(&shared, texts)).await
    else {
        tracing::error!("a block could not be made into rows; its results will be delivered again");
        return None;
    };
    Some(Prepared {
        in_hand,
        received_at,
        block,
        kept,
        unreadable,
    })
}

/// Rows of what can be read, the index of each row's message, and what can't be read with the reason.
fn read(delivered: &Arc<Vec<Delivered>>, texts: Texts) -> (Block, Vec<usize>, Vec<(usize, String)>) {
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
            Err(error) => unreadable.push((index, cut(format!("not a result of version 1: {error}")))),
        }
    }
    (Block::new("results", rows, places), kept, unreadable)
}
