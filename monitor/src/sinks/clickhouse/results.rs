//! The sink for results: collects them into blocks, inserts each block, and acknowledges it only then.
//!
//! While one block is inserted, other threads pull and score the next ones, and the previous one is acknowledged. At most
//! [`BLOCKS_AHEAD`] blocks wait, so memory is bounded however long ClickHouse is down.
//!
//! No row is stored twice. A block that is retried by the same process keeps its deduplication token. After a restart
//! JetStream redelivers results only after the ack wait. An insert is abandoned after half of it, so it has ended by then,
//! and a lookup in the table finds the rows it stored.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use jiff::Timestamp;
use precis_runtime::clock;
use precis_runtime::topology::TopologyError;
use precis_schemas::JobResult;
use precis_schemas::decode_error::describe;
use precis_schemas::topology::clickhouse_sink_consumer;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

use super::block::Block;
use super::context::SinkContext;
use super::settle::{DeliveryOutcome, settle};
use super::spans::BlockSpans;
use crate::consumer::{Delivery, InFlight};
use crate::row::{self, Scorer, TABLE, TextFilter};
use crate::sinks::dead_letters::SinkDeadLetters;

/// Name of the sink in metrics.
pub(super) const SINK: &str = "clickhouse";
/// Blocks that are being built or wait for their insert.
const BLOCKS_AHEAD: usize = 2;

/// A block that was pulled and whose rows are being built.
struct PulledBlock {
    in_flight: InFlight,
    received_at: Timestamp,
    building: JoinHandle<Option<BuiltBlock>>,
}

/// The rows of a block.
struct BuiltBlock {
    block: Block,
    /// Index of each row's delivery.
    deliveries: Vec<usize>,
    /// Outcome of each delivery, provided that its row is stored.
    outcomes: Vec<DeliveryOutcome>,
}

/// A block whose rows are stored or rejected.
struct StoredBlock {
    in_flight: InFlight,
    outcomes: Vec<DeliveryOutcome>,
}

/// Stores results until shutdown.
///
/// # Errors
/// When the consumer can't be created at the start. Later failures are retried.
pub(crate) async fn run(context: SinkContext) -> Result<(), TopologyError> {
    let consumer = context.consumer(clickhouse_sink_consumer());
    let dead_letters = SinkDeadLetters::new(&consumer, SINK, context.settings.texts);
    let mut pull = context.pull(consumer, context.settings.max_block_rows).await?;
    context.readiness.set(true);
    tracing::info!(
        clickhouse = context.table.address(),
        "storing results in ClickHouse"
    );
    let (filter, building) = (TextFilter::new(&context.settings), context.clone());
    let (pulled, mut to_store) = mpsc::channel::<PulledBlock>(BLOCKS_AHEAD);
    let (stored, mut to_settle) = mpsc::channel::<StoredBlock>(1);
    let pulling = async move {
        // Wait for room before pulling, so that a block that can't be taken yet stays in the stream.
        while let Ok(room) = pulled.reserve().await
            && let Some(in_flight) = pull.next().await
        {
            room.send(PulledBlock::new(in_flight, building.clone(), filter));
        }
    };
    let storing = async move {
        while let Some(pulled) = to_store.recv().await {
            if let Some(block) = store(&context, pulled).await {
                // The receiver lives as long as this sender.
                let _always = stored.send(block).await;
            }
        }
    };
    let settling = async move {
        while let Some(block) = to_settle.recv().await {
            settle(block.in_flight.deliveries(), block.outcomes, &dead_letters).await;
        }
    };
    tokio::join!(pulling, storing, settling);
    Ok(())
}

/// Stores a block. Returns `None` if that failed and its results will be redelivered.
async fn store(context: &SinkContext, pulled: PulledBlock) -> Option<StoredBlock> {
    let PulledBlock {
        in_flight,
        received_at,
        building,
    } = pulled;
    let Ok(Some(BuiltBlock {
        mut block,
        deliveries: delivery_of_row,
        mut outcomes,
    })) = building.await
    else {
        if !context.stop.is_cancelled() {
            tracing::error!("a block's rows could not be built; its results will be redelivered");
        }
        return None;
    };
    let deliveries = in_flight.deliveries();
    let headers = deliveries
        .iter()
        .map(|delivery| delivery.message.headers.as_ref());
    let spans = BlockSpans::start(headers, received_at, TABLE);
    let stored = context
        .table
        .store(&mut block, &context.readiness, &context.stop)
        .await;
    spans.end(stored);
    if !stored {
        tracing::warn!(
            results = deliveries.len(),
            "stopped while ClickHouse was unavailable; the open block will be redelivered"
        );
        return None;
    }
    for (row, reason) in block.rejected() {
        let reason = format!("ClickHouse rejects the row: {reason}");
        outcomes[delivery_of_row[*row]] = DeliveryOutcome::DeadLetter(reason);
    }
    Some(StoredBlock { in_flight, outcomes })
}

impl PulledBlock {
    /// Starts to build the rows.
    fn new(in_flight: InFlight, context: SinkContext, filter: TextFilter) -> Self {
        let shared = in_flight.shared();
        Self {
            received_at: clock::now(),
            building: tokio::spawn(read_and_build(context, shared, filter)),
            in_flight,
        }
    }
}

/// Reads the results and their texts, and builds the rows. Returns `None` on shutdown.
///
/// Decoding and scoring are CPU-bound, so they run off the threads that serve the network.
async fn read_and_build(
    context: SinkContext,
    pulled: Arc<Vec<Delivery>>,
    filter: TextFilter,
) -> Option<BuiltBlock> {
    let deliveries = Arc::clone(&pulled);
    let mut results = spawn_blocking(move || decode(&deliveries)).await.ok()?;
    context.attach_texts(SINK, &mut results).await?;
    spawn_blocking(move || build(&pulled, &results, filter))
        .await
        .ok()
}

fn decode(pulled: &[Delivery]) -> Vec<Result<JobResult, String>> {
    let decode = |delivery: &Delivery| {
        serde_json::from_slice(&delivery.message.payload)
            .map_err(|error| format!("not a result of version 1: {}", describe(&error)))
    };
    pulled.iter().map(decode).collect()
}

fn build(pulled: &[Delivery], results: &[Result<JobResult, String>], texts: TextFilter) -> BuiltBlock {
    let scorer = Scorer::default();
    let (mut rows, mut positions, mut deliveries, mut outcomes) = (vec![], vec![], vec![], vec![]);
    for (index, (delivery, result)) in pulled.iter().zip(results).enumerate() {
        let outcome = match result {
            Ok(result) => {
                let position = delivery.position;
                // Without this, a result that makes scoring panic would be redelivered forever.
                let row = || {
                    let mut row = row::build(result, position, &scorer, texts);
                    row.set_trace(delivery.message.headers.as_ref());
                    row
                };
                match catch_unwind(AssertUnwindSafe(row)) {
                    Ok(row) => {
                        rows.push(row);
                        positions.push(position);
                        deliveries.push(index);
                        DeliveryOutcome::Done
                    }
                    Err(_) => {
                        DeliveryOutcome::DeadLetter("bug: this result could not be made into a row".into())
                    }
                }
            }
            Err(reason) => DeliveryOutcome::DeadLetter(reason.clone()),
        };
        outcomes.push(outcome);
    }
    BuiltBlock {
        block: Block::new("results", rows, positions),
        deliveries,
        outcomes,
    }
}
