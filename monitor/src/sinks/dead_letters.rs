//! Dead letters of a sink: deliveries that it can't store.

use std::time::Duration;

use async_nats::jetstream;
use precis_runtime::clock;
use precis_runtime::config::TextPolicy;
use precis_runtime::durable::DurableConsumer;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::dead::DeadLetter;
use precis_schemas::error_code::Refusal;
use precis_schemas::topology::REFERENCES;
use precis_schemas::{ErrorCode, Token};

use crate::consumer::Delivery;
use crate::dead_letter;

/// Delay before redelivery if the dead letter could not be stored.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// Stores the dead letters of one sink.
#[derive(Debug, Clone)]
pub(crate) struct SinkDeadLetters {
    jetstream: jetstream::Context,
    sink: &'static str,
    /// The task in the letter's subject: `result` or `reference`.
    task: Token,
    texts: TextPolicy,
}

impl SinkDeadLetters {
    /// Creates the dead letters of `sink`, which reads `consumer`. Under the policies `hash` and `none` letters have no
    /// body.
    pub(crate) fn new(consumer: &DurableConsumer, sink: &'static str, texts: TextPolicy) -> Self {
        let task = match consumer.spec.stream {
            REFERENCES => "reference",
            _ => "result",
        };
        Self {
            jetstream: consumer.queue.jetstream.clone(),
            sink,
            task: Token::sanitized(task),
            texts,
        }
    }

    /// Stores a dead letter for a delivery. Returns `false` if that failed and the delivery was handed back.
    pub(crate) async fn store(&self, delivery: &Delivery, reason: String) -> bool {
        let (message, position) = (&delivery.message, delivery.position);
        let trace = TraceContext::from_message(message.headers.as_ref());
        tracing::error!(
            trace_id = trace.as_ref().map(TraceContext::trace_id),
            sink = self.sink,
            subject = %message.subject,
            sequence = position.sequence,
            reason,
            "record rejected; moving it to DEAD"
        );
        let mut letter = DeadLetter::new(
            position.sequence,
            message.subject.as_str(),
            &message.payload,
            Refusal::new(ErrorCode::InvalidRequest, format!("{}: {reason}", self.sink)),
            delivery.attempt,
            position.published_at,
            clock::now(),
        );
        if matches!(self.texts, TextPolicy::Hash | TextPolicy::None) {
            letter.withhold_body();
        }
        let published_ns = position.published_at.as_nanosecond();
        let id = format!("dead-{}-{}-{published_ns}", self.sink, position.sequence);
        match dead_letter::publish(&self.jetstream, &self.task, &id, letter).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, sequence = position.sequence, "dead letter not stored; retrying");
                delivery.retry(Some(RETRY_DELAY)).await;
                false
            }
        }
    }
}
