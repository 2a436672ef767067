//! Predictions made elsewhere, stored as results.

use std::collections::BTreeMap;

use jiff::Timestamp;
use precis_runtime::nats::{PublishFailure, classify};
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::job::{Channel, JobLimits};
use precis_schemas::result::{ModelRef, Sizes, Timings};
use precis_schemas::{GenerationParams, JobId, JobResult, Lane, Outcome, Task, Token, headers, subject};

use super::state::RestState;

/// Key of [`JobResult::metadata`] that holds the source.
const MODEL_SOURCE: &str = "model_source";
/// Longest name of a source, in characters.
const MAX_SOURCE_CHARS: usize = 64;

/// A prediction made elsewhere.
#[derive(Debug, Clone)]
pub(super) struct ExternalPrediction {
    pub(super) article: String,
    pub(super) summary: String,
    pub(super) target: Option<String>,
    /// The program that made it, such as `Other` or `Lambda`.
    pub(super) source: String,
    /// Whether to forward it to Arize.
    pub(super) send_arize: bool,
}

impl ExternalPrediction {
    /// Validates the prediction. `name` names it in messages.
    ///
    /// # Errors
    /// When a text is empty or too long, or the source is too long.
    pub(super) fn validate(&self, name: &str, limits: &JobLimits) -> Result<(), Refusal> {
        if self.article.trim().is_empty() {
            return Err(Refusal::new(
                ErrorCode::EmptyText,
                format!("{name}: the article is empty or only white space"),
            ));
        }
        let target = self.target.as_deref().unwrap_or_default();
        for (field, text, max) in [
            ("the article", self.article.as_str(), limits.max_text_chars),
            ("the summary", &self.summary, limits.max_reference_chars),
            ("the target", target, limits.max_reference_chars),
        ] {
            let chars = text.chars().count();
            if chars > max {
                return Err(Refusal::new(
                    ErrorCode::TextTooLong,
                    format!("{name}: {field} has {chars} characters; {max} are allowed"),
                ));
            }
        }
        if self.source.chars().count() > MAX_SOURCE_CHARS {
            return Err(Refusal::new(
                ErrorCode::InvalidParameter,
                format!("model_source has more than {MAX_SOURCE_CHARS} characters"),
            ));
        }
        Ok(())
    }

    /// Converts the prediction into the result `id` of `tenant`, finished at `at`.
    pub(super) fn into_result(self, id: JobId, tenant: Token, at: Timestamp) -> JobResult {
        let chars = |text: &str| text.chars().count() as u64;
        let target = self.target.filter(|target| !target.trim().is_empty());
        JobResult {
            id,
            job_sequence: 0,
            task: Task::Summarize,
            lane: Lane::Normal,
            tenant,
            channel: channel_of(&self.source),
            outcome: Outcome::Succeeded,
            error: None,
            sizes: Sizes {
                text_chars: chars(&self.article),
                summary_chars: chars(&self.summary),
                reference_chars: target.as_deref().map_or(0, chars),
                ..Sizes::default()
            },
            text: self.article,
            text_in_stream: false,
            summary: Some(self.summary),
            reference: target,
            model: Some(ModelRef {
                served_as: Token::sanitized(&self.source),
                name: self.source.clone(),
                revision: String::new(),
            }),
            worker: None,
            params: GenerationParams::default(),
            timings: Timings::default(),
            attempt: 1,
            submitted_at: at,
            started_at: None,
            finished_at: at,
            metadata: BTreeMap::from([(MODEL_SOURCE.to_owned(), self.source)]),
            embeddings: None,
            batch: None,
            scores: None,
            send_to_arize: Some(self.send_arize),
            callback: None,
        }
    }
}

/// Returns the channel with this name, ignoring case, or `Other`.
fn channel_of(source: &str) -> Channel {
    source.to_ascii_lowercase().parse().unwrap_or(Channel::Other)
}

/// Publishes a result so that the first one with its id wins. A repeated one is no error.
///
/// # Errors
/// When the queue is unavailable or the result is too large.
pub(super) async fn publish(state: &RestState, result: &JobResult) -> Result<(), Refusal> {
    let body = serde_json::to_vec(result)
        .map_err(|error| Refusal::new(ErrorCode::Internal, format!("result not serialized: {error}")))?;
    let message = async_nats::jetstream::message::PublishMessage::build()
        .header(headers::EXPECTED_LAST_SUBJECT_SEQUENCE, "0")
        .payload(body.into());
    let subject = subject::result_of(&result.id);
    let queue = state.queue.get().ok_or_else(unavailable)?;
    let sent = async { queue.jetstream.send_publish(subject, message).await?.await };
    let Err(error) = sent.await else {
        return Ok(());
    };
    match classify(&error) {
        PublishFailure::Conflict => Ok(()),
        PublishFailure::TooLarge => Err(Refusal::new(
            ErrorCode::BodyTooLarge,
            "the prediction exceeds the queue's maximum message size",
        )),
        _ => {
            tracing::warn!(%error, "logged prediction not stored");
            Err(unavailable())
        }
    }
}

fn unavailable() -> Refusal {
    Refusal::new(
        ErrorCode::QueueUnavailable,
        "the queue is unavailable; try again later",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn external(source: &str) -> ExternalPrediction {
        ExternalPrediction {
            article: "It rained all day.".into(),
            summary: "It rained.".into(),
            target: Some("Rain.".into()),
            source: source.into(),
            send_arize: false,
        }
    }

    #[test]
    fn a_source_named_like_a_channel_sets_the_channel() {
        assert_eq!(channel_of("Local"), Channel::Local);
        let result = external("Other").into_result(
            JobId::generate(),
            Token::sanitized("news"),
            precis_runtime::clock::now(),
        );
        assert_eq!(result.tenant.as_str(), "news");
        assert_eq!((result.channel, result.sizes.summary_chars), (Channel::Other, 10));
        assert_eq!(result.metadata[MODEL_SOURCE], "Other");
    }

    #[test]
    fn empty_and_too_long_texts_are_rejected_by_name() {
        let limits = JobLimits {
            max_text_chars: 20,
            max_reference_chars: 12,
            ..JobLimits::default()
        };
        external("Other").validate("here", &limits).unwrap();
        let mut long = external("Other");
        long.target = Some("x".repeat(13));
        let refusal = long.validate("prediction 3", &limits).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "text_too_long: prediction 3: the target has 13 characters; 12 are allowed"
        );
        let mut empty = external("Other");
        empty.article = " ".into();
        assert_eq!(
            empty.validate("", &limits).unwrap_err().code,
            ErrorCode::EmptyText
        );
        assert!(external(&"x".repeat(65)).validate("", &limits).is_err());
    }
}
