//! Results into ClickHouse: collected into a block, inserted, and only then acknowledged.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::{self, AckKind};
use clickhouse::error::Error;
use futures::StreamExt;
use jiff::Timestamp;
use precis_runtime::admin::Readiness;
use precis_runtime::boot::Queue;
use precis_runtime::config;
use precis_runtime::topology::{self, TopologyError};
use precis_schemas::dead::DeadLetter;
use precis_schemas::error_code::Refusal;
use precis_schemas::topology::{ConsumerSpec, clickhouse_sink_consumer};
use precis_schemas::{ErrorCode, JobResult, Token};
use tokio_util::sync::CancellationToken;

use super::block::{Block, Insert, InsertError, Place};
use super::trace::BlockSpans;
use crate::backoff::Backoff;
use crate::database::{Database, TIMEOUT, cut, explain, is_refusal_of_content};
use crate::row::{self, PredictionRow, TABLE};
use crate::score::Scorer;
use crate::time::timestamp;
use crate::{dead, metrics};

/// Most bytes of messages in one block, unless the NATS server takes messages that are nearly as large.
const MAX_BLOCK_BYTES: usize = 16 << 20;
/// Shortest time that a pull stays open, whatever the configuration says: else an idle monitor is busy asking.
const SHORTEST_PULL: Duration = Duration::from_millis(20);
/// How often the lag is looked up.
const LAG_EVERY: Duration = Duration::from_secs(5);
/// After how long a result whose dead letter could not be stored is delivered again.
const RETRY_LETTER_AFTER: Duration = Duration::from_secs(5);
/// How long the open block is waited for after the word to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// The sink.
#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) queue: Queue,
    pub(crate) nats: config::Nats,
    pub(crate) settings: config::Monitor,
    pub(crate) database: Database,
    pub(crate) readiness: Readiness,
    pub(crate) stop: CancellationToken,
}

/// A result as it was delivered, with its place in the stream.
struct Delivered {
    message: jetstream::Message,
    sequence: u64,
    published_at: Timestamp,
    attempts: u64,
}

impl Delivered {
    /// None when the message did not come from a stream, which the consumer rules out.
    fn new(message: jetstream::Message) -> Option<Self> {
        let info = message.info().ok()?;
        let (sequence, published_at) = (info.stream_sequence, timestamp(info.published));
        let attempts = u64::try_from(info.delivered).unwrap_or_default();
        Some(Self {
            message,
            sequence,
            published_at,
            attempts,
        })
    }
}

impl Sink {
    /// Moves results into the table until it is told to stop.
    ///
    /// # Errors
    /// When the consumer can't be set up at the start. Later troubles are waited out.
    pub(crate) async fn run(self) -> Result<(), TopologyError> {
        let spec = clickhouse_sink_consumer();
        let mut consumer = self.consumer(&spec).await?;
        let lag = tokio::spawn(report_lag(consumer.clone(), self.stop.clone()));
        let mut backoff = Backoff::default();
        self.readiness.set(true);
        tracing::info!(clickhouse = self.database.address, "results go to ClickHouse");
        while !self.stop.is_cancelled() {
            let (messages, trouble) = self.collect(&consumer, &spec).await;
            if !messages.is_empty() {
                backoff.reset();
                self.store(messages, &spec).await;
            } else if let Some(trouble) = trouble {
                tracing::warn!(error = trouble, "results can't be pulled; trying again");
                if backoff.wait_or_stop(&self.stop).await {
                    break;
                }
                // The consumer may be gone, with its stream or because somebody has deleted it.
                match self.consumer(&spec).await {
                    Ok(again) => consumer = again,
                    Err(error) => tracing::warn!(%error, "the consumer of results can't be set up"),
                }
            } else {
                backoff.reset();
            }
        }
        lag.abort();
        Ok(())
    }

    async fn consumer(&self, spec: &ConsumerSpec) -> Result<PullConsumer, TopologyError> {
        topology::consumer(
            &self.queue.jetstream,
            spec,
            self.nats.replicas,
            self.nats.manage_topology,
        )
        .await
    }

    /// Messages for one block: as many as fit in it, or as come in the time that it may wait.
    async fn collect(
        &self,
        consumer: &PullConsumer,
        spec: &ConsumerSpec,
    ) -> (Vec<jetstream::Message>, Option<String>) {
        let most = self
            .settings
            .max_block_rows
            .min(usize::try_from(spec.max_ack_pending).unwrap_or(usize::MAX));
        let wait = Duration::from_millis(self.settings.max_block_wait_ms).max(SHORTEST_PULL);
        // Room for two of the largest messages, so that no single result is too large for a pull.
        let largest = self.queue.client.server_info().max_payload;
        let pull = consumer
            .batch()
            .max_messages(most)
            .max_bytes(MAX_BLOCK_BYTES.max(2 * largest))
            .expires(wait);
        let mut batch = match pull.messages().await {
            Ok(batch) => batch,
            Err(error) => return (vec![], Some(error.to_string())),
        };
        let mut messages = Vec::new();
        loop {
            let next = tokio::select! {
                () = self.stop.cancelled() => return (messages, None),
                next = batch.next() => next,
            };
            match next {
                None => return (messages, None),
                Some(Ok(message)) => messages.push(message),
                Some(Err(error)) => return (messages, Some(error.to_string())),
            }
        }
    }

    /// Stores one block and settles its messages. Nothing more is pulled meanwhile, so that memory is bounded
    /// by one block however long ClickHouse is away.
    async fn store(&self, messages: Vec<jetstream::Message>, spec: &ConsumerSpec) {
        let received_at = precis_schemas::time::now();
        let delivered: Vec<Delivered> = messages.into_iter().filter_map(Delivered::new).collect();
        let delivered = Arc::new(delivered);
        let shared = Arc::clone(&delivered);
        // Scores are arithmetic over whole texts: not on the threads that serve the network.
        let Ok((mut block, kept, unreadable)) = tokio::task::spawn_blocking(move || read(&shared)).await
        else {
            tracing::error!("a block could not be made into rows; its results will be delivered again");
            return;
        };
        let headers = delivered.iter().map(|one| one.message.headers.as_ref());
        let spans = BlockSpans::begin(headers, received_at, TABLE);
        let stored = tokio::select! {
            stored = self.insert_all(&mut block) => stored,
            never = hold(&delivered, spec.ack_wait / 4) => match never {},
            () = self.drained() => false,
        };
        spans.end(stored);
        if !stored {
            for one in delivered.iter() {
                let _redelivered_after_the_ack_wait = one.message.ack_with(AckKind::Nak(None)).await;
            }
            let _best_effort = self.queue.client.flush().await;
            tracing::warn!(
                results = delivered.len(),
                "stopped while ClickHouse was away; the open block will be delivered again"
            );
            return;
        }
        let refused_rows = block
            .refused()
            .iter()
            .map(|(index, reason)| (kept[*index], format!("ClickHouse refuses the row: {reason}")));
        let refused: Vec<(usize, String)> = unreadable.into_iter().chain(refused_rows).collect();
        let mut done = vec![true; delivered.len()];
        for (index, reason) in refused {
            done[index] = self.bury(&delivered[index], reason).await;
        }
        self.acknowledge(
            delivered
                .iter()
                .zip(done)
                .filter_map(|(one, done)| done.then_some(one)),
        )
        .await;
    }

    /// Comes when a stopping process can't wait for ClickHouse any longer.
    async fn drained(&self) {
        self.stop.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    }

    /// Inserts the block however often it takes; false when the word to stop came while it could not be.
    async fn insert_all(&self, block: &mut Block) -> bool {
        let mut backoff = Backoff::default();
        loop {
            // Looked at before the try, so that there is one more after the word to stop.
            let last = self.stop.is_cancelled();
            match block.settle(&self.database).await {
                Ok(()) => {
                    if !self.readiness.get() {
                        tracing::info!("ClickHouse takes rows again");
                        self.readiness.set(true);
                    }
                    return true;
                }
                Err(error) => {
                    self.readiness.set(false);
                    if last {
                        return false;
                    }
                    metrics::retry();
                    tracing::warn!(
                        clickhouse = self.database.address,
                        %error,
                        "ClickHouse does not take rows; results wait in the stream"
                    );
                    backoff.wait_or_stop(&self.stop).await;
                }
            }
        }
    }

    /// Puts a result that becomes no row into `DEAD`; false when that failed and it will come again.
    async fn bury(&self, one: &Delivered, reason: String) -> bool {
        tracing::error!(
            subject = %one.message.subject,
            sequence = one.sequence,
            reason,
            "a result becomes no row and goes to DEAD"
        );
        let letter = DeadLetter::new(
            one.sequence,
            one.message.subject.as_str(),
            &one.message.payload,
            Refusal::new(ErrorCode::InvalidRequest, reason),
            one.attempts,
            one.published_at,
        );
        let id = format!(
            "dead-result-{}-{}",
            one.sequence,
            one.published_at.as_nanosecond()
        );
        match dead::publish(&self.queue.jetstream, &Token::sanitized("result"), &id, letter).await {
            Ok(()) => {
                metrics::refused();
                true
            }
            Err(error) => {
                tracing::warn!(%error, sequence = one.sequence, "DEAD does not take a letter; trying again");
                let later = AckKind::Nak(Some(RETRY_LETTER_AFTER));
                let _redelivered_after_the_ack_wait = one.message.ack_with(later).await;
                false
            }
        }
    }

    /// Acknowledges what is stored. The last acknowledgement is confirmed by the server, which takes those of
    /// one connection in order; one that is lost all the same costs a redelivery and no second row.
    async fn acknowledge<'a>(&self, messages: impl Iterator<Item = &'a Delivered>) {
        let mut messages = messages.peekable();
        while let Some(one) = messages.next() {
            let outcome = if messages.peek().is_some() {
                one.message.ack().await
            } else {
                one.message.double_ack().await
            };
            if let Err(error) = outcome {
                tracing::warn!(%error, "an acknowledgement was lost; the result will be delivered again");
            }
        }
    }
}

/// Rows of what can be read, the index of each row's message, and what can't be read with the reason.
fn read(delivered: &[Delivered]) -> (Block, Vec<usize>, Vec<(usize, String)>) {
    let scorer = Scorer::default();
    let (mut rows, mut places, mut kept, mut unreadable) = (vec![], vec![], vec![], vec![]);
    for (index, one) in delivered.iter().enumerate() {
        match serde_json::from_slice::<JobResult>(&one.message.payload) {
            Ok(result) => {
                rows.push(row::build(&result, one.sequence, one.published_at, &scorer));
                places.push(Place {
                    sequence: one.sequence,
                    published_ns: one.published_at.as_nanosecond(),
                });
                kept.push(index);
            }
            Err(error) => unreadable.push((index, cut(format!("not a result of version 1: {error}")))),
        }
    }
    (Block::new(rows, places), kept, unreadable)
}

/// Tells JetStream every so often that the messages are being worked on, so that it doesn't deliver them again.
async fn hold(delivered: &[Delivered], every: Duration) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(every).await;
        for one in delivered {
            // While NATS is away they will be redelivered, which does no harm.
            let _best_effort = one.message.ack_with(AckKind::Progress).await;
        }
    }
}

async fn report_lag(consumer: PullConsumer, stop: CancellationToken) {
    let mut tick = tokio::time::interval(LAG_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        match consumer.get_info().await {
            Ok(info) => metrics::lag(info.num_pending + info.num_ack_pending as u64),
            Err(error) => tracing::debug!(%error, "the lag is not known"),
        }
    }
}

impl Insert for Database {
    async fn insert(&self, rows: &[PredictionRow], token: &str) -> Result<(), InsertError> {
        let begun = Instant::now();
        let outcome = insert(self, rows, token).await;
        metrics::insert(begun.elapsed(), outcome.is_ok().then_some(rows.len()));
        match outcome {
            Ok(()) => Ok(()),
            Err(error) if is_refusal_of_content(&error) => Err(InsertError::Refused(explain(&error))),
            Err(error) => {
                // The table may have been changed: its columns are looked up again.
                self.client.clear_cached_metadata().await;
                Err(InsertError::Unavailable(explain(&error)))
            }
        }
    }
}

async fn insert(database: &Database, rows: &[PredictionRow], token: &str) -> Result<(), Error> {
    let lookup = database.client.insert::<PredictionRow>(TABLE);
    let begun = tokio::time::timeout(TIMEOUT, lookup).await;
    let mut insert = begun
        .map_err(|_| Error::TimedOut)??
        .with_timeouts(Some(TIMEOUT), Some(TIMEOUT))
        .with_setting("insert_deduplication_token", token)
        // Confirmed means stored, whatever the server's default.
        .with_setting("async_insert", "0")
        // A result brings its own time, so one block may touch many months.
        .with_setting("max_partitions_per_insert_block", "0");
    for row in rows {
        insert.write(row).await?;
    }
    insert.end().await
}
