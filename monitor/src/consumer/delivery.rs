//! Messages out of a stream, and what becomes of them: the part that every sink has in common.

use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::{self, AckKind};
use futures::StreamExt;
use jiff::Timestamp;
use precis_runtime::boot::NatsConnection;
use precis_runtime::config::{NatsConfig, TextPolicy};

use precis_runtime::topology::{self, TopologyError};
use precis_runtime::trace_context::TraceContext;
use precis_schemas::dead::DeadLetter;
use precis_schemas::error_code::Refusal;
use precis_schemas::topology::{ConsumerSpec, REFERENCES};
use precis_schemas::{ErrorCode, Token};
use tokio_util::sync::CancellationToken;

use super::time::timestamp;
use crate::dead_letter;

/// Most bytes of messages that are pulled at a time, unless the NATS server takes messages that are nearly as large. Rows are
/// about as large, and of a block of more than 10 MB ClickHouse makes a file for each column, which costs more than the rows.
const MAX_PULL_BYTES: usize = 8 << 20;
/// After how long a message whose dead letter could not be stored is delivered again.
const RETRY_LETTER_AFTER: Duration = Duration::from_secs(5);

/// A message as it was delivered, with its place in the stream.
pub(crate) struct Delivered {
    pub(crate) message: jetstream::Message,
    pub(crate) sequence: u64,
    pub(crate) published_at: Timestamp,
    pub(crate) attempts: u64,
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

    /// Gives it back: it is delivered again, here or elsewhere, at once or after `delay`.
    pub(crate) async fn hand_back(&self, delay: Option<Duration>) {
        let _redelivered_after_the_ack_wait = self.message.ack_with(AckKind::Nak(delay)).await;
    }

    /// Says that it is still being worked on.
    pub(crate) async fn hold(&self) {
        // While NATS is away it will be redelivered, which does no harm.
        let _best_effort = self.message.ack_with(AckKind::Progress).await;
    }
}

/// Takes messages off the consumer's list. The last acknowledgement is confirmed by the server, which takes those of one
/// connection in order; one that is lost all the same costs a redelivery.
pub(crate) async fn acknowledge(messages: impl IntoIterator<Item = &Delivered>) {
    let mut messages = messages.into_iter().peekable();
    while let Some(one) = messages.next() {
        let outcome = if messages.peek().is_some() {
            one.message.ack().await
        } else {
            one.message.double_ack().await
        };
        if let Err(error) = outcome {
            tracing::warn!(%error, "an acknowledgement was lost; the message will be delivered again");
        }
    }
}

/// A durable consumer and the connection that it is read by.
#[derive(Debug, Clone)]
pub(crate) struct Intake {
    pub(crate) queue: NatsConnection,
    pub(crate) nats: NatsConfig,
    pub(crate) spec: ConsumerSpec,
    /// What is kept of texts, and so of messages that nobody can take.
    pub(crate) texts: TextPolicy,
}

impl Intake {
    /// The consumer, set up if needed.
    ///
    /// # Errors
    /// When JetStream refuses it.
    pub(crate) async fn consumer(&self) -> Result<PullConsumer, TopologyError> {
        topology::consumer(
            &self.queue.jetstream,
            &self.spec,
            self.nats.replicas,
            self.nats.manage_topology,
        )
        .await
    }

    /// Up to `most` messages, as many as come within `wait`; and what was wrong, if something was.
    pub(crate) async fn pull(
        &self,
        consumer: &PullConsumer,
        most: usize,
        wait: Duration,
        stop: &CancellationToken,
    ) -> (Vec<Delivered>, Option<String>) {
        // Room for two of the largest messages, so that no single one is too large for a pull.
        let largest = self.queue.client.server_info().max_payload;
        let pull = consumer
            .batch()
            .max_messages(most)
            .max_bytes(MAX_PULL_BYTES.max(2 * largest))
            .expires(wait);
        let mut batch = match pull.messages().await {
            Ok(batch) => batch,
            Err(error) => return (vec![], Some(error.to_string())),
        };
        let mut messages = Vec::new();
        loop {
            let next = tokio::select! {
                () = stop.cancelled() => return (messages, None),
                next = batch.next() => next,
            };
            match next {
                None => return (messages, None),
                Some(Ok(message)) => messages.extend(Delivered::new(message)),
                Some(Err(error)) => return (messages, Some(error.to_string())),
            }
        }
    }

    /// Puts a message that a sink can't take into `DEAD`; false when that failed and it will come again.
    pub(crate) async fn bury(&self, sink: &str, one: &Delivered, reason: String) -> bool {
        let trace = TraceContext::from_message(one.message.headers.as_ref());
        tracing::error!(
            trace_id = trace.as_ref().map(TraceContext::trace_id),
            sink,
            subject = %one.message.subject,
            sequence = one.sequence,
            reason,
            "a record is refused for ever and goes to DEAD"
        );
        let mut letter = DeadLetter::new(
            one.sequence,
            one.message.subject.as_str(),
            &one.message.payload,
            Refusal::new(ErrorCode::InvalidRequest, format!("{sink}: {reason}")),
            one.attempts,
            one.published_at,
            precis_runtime::clock::now(),
        );
        if matches!(self.texts, TextPolicy::Hash | TextPolicy::None) {
            letter.withhold_body();
        }
        let place = one.published_at.as_nanosecond();
        let id = format!("dead-{sink}-{}-{place}", one.sequence);
        let kind = match self.spec.stream {
            REFERENCES => "reference",
            _ => "result",
        };
        match dead_letter::publish(&self.queue.jetstream, &Token::sanitized(kind), &id, letter).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, sequence = one.sequence, "DEAD does not take a letter; trying again");
                let later = AckKind::Nak(Some(RETRY_LETTER_AFTER));
                let _redelivered_after_the_ack_wait = one.message.ack_with(later).await;
                false
            }
        }
    }
}
