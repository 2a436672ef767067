//! Keeps the texts of jobs that ended in the stream `TEXTS`, so that their results stay small.

use async_nats::jetstream;
use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{DirectGetError, DirectGetErrorKind, RawMessageError, Stream};
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use lz4_flex::block;
use precis_schemas::topology::TEXTS;
use precis_schemas::{JobResult, subject};

use crate::nats::is_missing;
use crate::topology::{self, TopologyError};

/// Texts up to this size stay in the result: a message of their own would take more room.
const MAX_INLINE_BYTES: usize = 256;
/// Bytes that one byte of a compressed text stands for at most.
const MAX_LZ4_RATIO: usize = 255;
/// Texts that are read at a time.
const CONCURRENT_READS: usize = 64;

/// A text that can't be read. A text that is no longer kept is no error.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// The server or the stream is unreachable.
    #[error("can't read texts: {0}")]
    Unavailable(#[from] DirectGetError),
    /// The leader of the stream is unreachable.
    #[error("can't read from the leader of TEXTS: {0}")]
    Leader(#[from] RawMessageError),
    /// The stream does not exist.
    #[error(transparent)]
    Topology(#[from] TopologyError),
}

/// The message on which a result's text is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextMessage {
    /// Its subject.
    pub subject: String,
    /// The compressed text: its length in bytes as four bytes, little-endian, and one LZ4 block.
    pub body: Bytes,
}

impl TextMessage {
    /// Returns the message for a result's text; `None` if the result keeps its text.
    ///
    /// A prediction that no job of the queue made keeps it: it has no sequence, so a second prediction with its id, which
    /// the stream rejects, would replace its text.
    pub fn of(result: &JobResult) -> Option<Self> {
        let is_apart = result.job_sequence != 0 && result.text.len() > MAX_INLINE_BYTES;
        is_apart.then(|| Self {
            subject: subject::text_of(&result.tenant, &result.id, result.job_sequence),
            body: block::compress_prepend_size(result.text.as_bytes()).into(),
        })
    }
}

/// Stores the text of a result, and returns the record to publish: without the text if it was stored.
///
/// Call it before publishing the result, so that no result refers to a missing text. Repeating it replaces the text.
///
/// # Errors
/// If the stream does not confirm the text.
pub async fn store(jetstream: &jetstream::Context, result: &JobResult) -> Result<JobResult, PublishError> {
    let mut record = result.clone();
    if let Some(TextMessage { subject, body }) = TextMessage::of(result) {
        let message = PublishMessage::build().payload(body);
        jetstream.send_publish(subject, message).await?.await?;
        record.detach_text();
    }
    Ok(record)
}

/// Reads texts. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Texts {
    stream: Stream,
}

impl Texts {
    /// Opens the stream.
    ///
    /// # Errors
    /// If the stream does not exist.
    pub async fn open(jetstream: &jetstream::Context) -> Result<Self, TopologyError> {
        Ok(Self {
            stream: topology::stream(jetstream, TEXTS).await?,
        })
    }

    /// Adds the texts to results whose records don't contain them. Returns the number of texts that are no longer kept;
    /// those results stay as they are.
    ///
    /// # Errors
    /// If the stream is unreachable. Repeating the call reads the missing texts only.
    pub async fn attach<'a>(
        &self,
        results: impl IntoIterator<Item = &'a mut JobResult>,
    ) -> Result<usize, TextError> {
        let apart = results.into_iter().filter(|result| result.text_in_stream);
        let reads: Vec<_> = apart.map(|result| self.attach_one(result)).collect();
        let found: Vec<bool> = stream::iter(reads)
            .buffer_unordered(CONCURRENT_READS)
            .try_collect()
            .await?;
        Ok(found.iter().filter(|found| !**found).count())
    }

    /// Adds the text to a result. Returns whether it is kept.
    async fn attach_one(&self, result: &mut JobResult) -> Result<bool, TextError> {
        let text = self.get(result).await?;
        let is_kept = text.is_some();
        if let Some(text) = text {
            result.attach_text(text);
        }
        Ok(is_kept)
    }

    /// Returns the text of a result; `None` if it is no longer kept, or unreadable.
    async fn get(&self, result: &JobResult) -> Result<Option<String>, TextError> {
        let subject = subject::text_of(&result.tenant, &result.id, result.job_sequence);
        let body = match self.stream.direct_get_last_for_subject(subject.as_str()).await {
            Ok(message) => message.payload,
            // A replica may lag behind the leader.
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => {
                match self.stream.get_last_raw_message_by_subject(&subject).await {
                    Ok(message) => message.payload,
                    Err(error) if is_missing(&error) => return Ok(None),
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error.into()),
        };
        let text = decompress(&body);
        if text.is_none() {
            tracing::warn!(subject, "unreadable text ignored");
        }
        Ok(text)
    }
}

fn decompress(body: &[u8]) -> Option<String> {
    let (size, compressed) = block::uncompressed_size(body).ok()?;
    // Nobody may make this process allocate more than the server stores.
    if size > compressed.len().saturating_mul(MAX_LZ4_RATIO) {
        return None;
    }
    String::from_utf8(block::decompress(compressed, size).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(text: &str) -> JobResult {
        let json = include_str!("../../../schemas/wire/v1/result.succeeded.json");
        JobResult {
            text: text.to_owned(),
            ..serde_json::from_str(json).unwrap()
        }
    }

    #[test]
    fn a_long_text_is_stored_compressed_and_read_back() {
        let text = "Rain fell on the coast. ".repeat(200);
        let result = result(&text);
        let message = TextMessage::of(&result).unwrap();
        assert!(message.subject.starts_with("texts.v1."), "{}", message.subject);
        assert!(message.body.len() < text.len() / 4);
        assert_eq!(decompress(&message.body).unwrap(), text);
        assert_eq!(TextMessage::of(&self::result("Rain fell.")), None);
    }

    #[test]
    fn a_prediction_without_a_job_keeps_its_text() {
        let mut result = result(&"Rain fell on the coast. ".repeat(200));
        result.job_sequence = 0;
        assert_eq!(TextMessage::of(&result), None);
    }

    #[test]
    fn a_body_that_is_no_text_is_ignored() {
        let mut huge = u32::MAX.to_le_bytes().to_vec();
        huge.extend([0; 16]);
        let binary = block::compress_prepend_size(&[0xff; 300]);
        for body in [&b""[..], b"text", &huge, &binary] {
            assert_eq!(decompress(body), None);
        }
    }
}
