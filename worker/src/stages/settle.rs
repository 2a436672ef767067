//! Stage 8: take the job off the queue, after its result is stored and not before.

use std::time::Duration;

use precis_runtime::clock;
use precis_schemas::dead::DeadLetter;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::topology::LAST_FAILURE;
use precis_schemas::{JobResult, Outcome, time};

use super::decode::{Accepted, Answered, Delivery};
use super::detokenize::{Signature, result_of_answered, result_of_row};
use super::infer::{Inferred, RowOutcome};
use super::publish_result::{Published, Publisher};
use super::score::scored;
use crate::lease::Lease;
use crate::trace::JobSpan;

/// Longest pause before a failed job is delivered again.
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// Pause before the next delivery: 1, 2, 4, … seconds.
fn retry_after(attempt: u64) -> Duration {
    let doubled = 1_u64 << attempt.saturating_sub(1).min(10);
    Duration::from_secs(doubled).min(LONGEST_RETRY)
}

/// Takes a job off the queue that another delivery has answered already.
pub async fn already_answered(accepted: Accepted) {
    acknowledge(accepted.lease, &accepted.delivery).await;
}

async fn acknowledge(lease: Lease, delivery: &Delivery) {
    if let Err(error) = lease.settle().await {
        // The result is stored: if the job comes again, that is seen and it is only acknowledged.
        tracing::warn!(sequence = delivery.sequence, %error, "a job could not be acknowledged");
    }
}

/// Answers a job that the model has nothing to do with.
pub async fn answered(answered: Answered, publisher: &Publisher, signature: &Signature) {
    let result = result_of_answered(&answered, signature);
    let mut span = JobSpan::begin(&answered.delivery);
    if let Some(result) = &result
        && publish(result, &mut span, publisher).await == Published::GivenUp
    {
        return answered
            .lease
            .hand_back(retry_after(answered.delivery.attempt))
            .await;
    }
    // What could not be read is kept for whoever looks into it; what was refused has its answer.
    if answered.job.is_none() {
        tracing::warn!(sequence = answered.delivery.sequence, reason = %answered.reason, "a message that is no job");
        let delivery = &answered.delivery;
        let letter = DeadLetter::new(
            delivery.sequence,
            answered.raw.0.as_str(),
            &answered.raw.1,
            answered.reason.clone(),
            delivery.attempt,
            delivery.submitted_at,
            clock::now(),
        );
        if publisher.dead_letter(letter).await == Published::GivenUp {
            return answered
                .lease
                .hand_back(retry_after(answered.delivery.attempt))
                .await;
        }
    }
    acknowledge(answered.lease, &answered.delivery).await;
}

/// Answers a job whose text the tokenizer refused.
pub async fn untokenized(accepted: Accepted, reason: String, publisher: &Publisher, signature: &Signature) {
    let Accepted {
        job,
        subject,
        delivery,
        lease,
    } = accepted;
    let raw = (subject.to_string(), bytes::Bytes::new());
    let refused = Answered {
        id: Some(job.id.clone()),
        job: Some(job),
        subject: Some(subject),
        outcome: Outcome::Failed,
        reason: Refusal::new(
            ErrorCode::InferenceFailed,
            format!("the tokenizer refused the text: {reason}"),
        ),
        raw,
        delivery,
        lease,
    };
    answered(refused, publisher, signature).await;
}

/// Publishes what became of a row and takes its job off the queue, or hands it back.
pub async fn inferred(mut inferred: Inferred, publisher: &Publisher, signature: &Signature) {
    let outcome = std::mem::replace(&mut inferred.outcome, RowOutcome::HandBack);
    let attempt = inferred.row.tokenized.accepted.delivery.attempt;
    let (result, keep_copy) = match outcome {
        RowOutcome::HandBack => {
            return inferred
                .row
                .tokenized
                .accepted
                .lease
                .hand_back(Duration::ZERO)
                .await;
        }
        RowOutcome::Failed(refusal) if attempt < LAST_FAILURE => {
            let accepted = inferred.row.tokenized.accepted;
            JobSpan::begin(&accepted.delivery).handed_back(&refusal.message);
            tracing::warn!(attempt, reason = %refusal, "a job failed; it is tried again");
            return accepted.lease.hand_back(retry_after(attempt)).await;
        }
        RowOutcome::Done(generated) => {
            let result = result_of_row(&inferred, Outcome::Succeeded, Some(&generated), signature);
            let stemmed = inferred.row.tokenized.accepted.job.stemmed;
            (scored(result, stemmed).await, None)
        }
        RowOutcome::Expired(refusal) => (with_error(&inferred, Outcome::Expired, refusal, signature), None),
        RowOutcome::Cancelled(refusal) => (
            with_error(&inferred, Outcome::Cancelled, refusal, signature),
            None,
        ),
        RowOutcome::Refused(refusal) => (with_error(&inferred, Outcome::Failed, refusal, signature), None),
        RowOutcome::Failed(refusal) => (
            with_error(&inferred, Outcome::Failed, refusal.clone(), signature),
            Some(refusal),
        ),
    };
    finished(inferred.row.tokenized.accepted, &result, keep_copy, publisher).await;
}

/// Publishes the result of a job and takes it off the queue, or hands it back. `keep_copy` is why it goes to `DEAD` too.
pub async fn finished(
    accepted: Accepted,
    result: &JobResult,
    keep_copy: Option<Refusal>,
    publisher: &Publisher,
) {
    let delivery = &accepted.delivery;
    let attempt = delivery.attempt;
    let mut span = JobSpan::begin(delivery);
    if publish(result, &mut span, publisher).await == Published::GivenUp {
        return accepted.lease.hand_back(retry_after(attempt)).await;
    }
    if let Some(reason) = keep_copy {
        let body = serde_json::to_vec(&accepted.job).unwrap_or_default();
        let subject = accepted.subject.to_string();
        let (sequence, submitted_at) = (delivery.sequence, delivery.submitted_at);
        let letter = DeadLetter::new(
            sequence,
            subject,
            &body,
            reason,
            delivery.attempt,
            submitted_at,
            clock::now(),
        );
        if publisher.dead_letter(letter).await == Published::GivenUp {
            return accepted.lease.hand_back(retry_after(attempt)).await;
        }
    }
    tracing::info!(
        outcome = %result.outcome,
        attempt,
        batch = result.sizes.batch_size,
        total_ms = time::millis_between(result.submitted_at, result.finished_at),
        "job done"
    );
    acknowledge(accepted.lease, delivery).await;
}

/// Publishes a result, with the context of its span.
async fn publish(result: &JobResult, span: &mut JobSpan, publisher: &Publisher) -> Published {
    span.describe(result);
    let publish = span.publishing();
    publisher.result(result, span.handed_on(publish.as_ref())).await
}

fn with_error(inferred: &Inferred, outcome: Outcome, refusal: Refusal, signature: &Signature) -> JobResult {
    let mut result = result_of_row(inferred, outcome, None, signature);
    result.error = Some(refusal);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_before_a_retry_doubles_up_to_half_a_minute() {
        let seconds: Vec<u64> = (1..=8).map(|attempt| retry_after(attempt).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30, 30]);
    }
}
