//! Stage 6: what the model wrote becomes the summary, and the row becomes a result.

use precis_engine::{Generated, StopRule};
use precis_runtime::clock;
use precis_schemas::result::{ModelRef, ReportedDelivery, WorkerRef};
use precis_schemas::{GenerationParams, Job, JobId, JobResult, JobSubject, Outcome, time};
use precis_scoring::sentence::{Rules, first_sentence_by, sentence_ranges};

use super::batch::Row;
use super::decode::{Accepted, Answered, Delivery};
use super::infer::Inferred;
use crate::model::params_as_used;

/// Who this worker is, as results show it.
#[derive(Debug, Clone)]
pub struct Signature {
    /// The model.
    pub model: ModelRef,
    /// The worker.
    pub worker: WorkerRef,
}

fn chars(text: &str) -> u64 {
    text.chars().count() as u64
}

/// The summary that a client gets: trimmed, and only the first sentence unless it asked for all.
pub fn summary_of(text: &str, params: &GenerationParams) -> String {
    let text = text.trim();
    if params.first_sentence.unwrap_or(true) {
        first_sentence_by(text, Rules::Extended).trim().to_owned()
    } else {
        text.to_owned()
    }
}

/// Ends a text as soon as [`summary_of`] of it, with its first sentence only, is what it will be: when a third word
/// of the second sentence has begun, since where the first one ends is told by the words behind it.
pub fn first_sentence_rule() -> StopRule {
    StopRule::new(|text| {
        let sentences = sentence_ranges(text, Rules::Extended);
        let second = sentences.get(1).map(|range| &text[range.clone()]);
        second.is_some_and(|second| second.split_whitespace().count() > 2)
    })
}

/// A result that repeats the job and its subject, as far as they could be read.
fn result_of(
    id: &JobId,
    job: Option<&Job>,
    subject: Option<&JobSubject>,
    delivery: &Delivery,
    signature: &Signature,
) -> JobResult {
    let delivery = ReportedDelivery {
        sequence: delivery.sequence,
        attempt: delivery.attempt,
        submitted_at: delivery.submitted_at,
        started_at: Some(delivery.received_at),
    };
    let mut result = JobResult::new(id.clone(), delivery, clock::now());
    if let Some(subject) = subject {
        result = result.with_subject(subject);
    }
    if let Some(job) = job {
        result = result.with_job(job);
    }
    result.model = Some(signature.model.clone());
    result.worker = Some(signature.worker.clone());
    result
}

/// The result of a job that the model has nothing to do with; none when it has no id to answer to.
pub fn result_of_answered(answered: &Answered, signature: &Signature) -> Option<JobResult> {
    let (job, subject) = (answered.job.as_ref(), answered.subject.as_ref());
    let mut result = result_of(answered.id.as_ref()?, job, subject, &answered.delivery, signature);
    result.outcome = answered.outcome;
    result.error = Some(answered.reason.clone());
    Some(result)
}

fn result_of_accepted(accepted: &Accepted, signature: &Signature) -> JobResult {
    let job = &accepted.job;
    result_of(
        &job.id,
        Some(job),
        Some(&accepted.subject),
        &accepted.delivery,
        signature,
    )
}

/// The result of a job that brings its summary; no model is involved.
pub fn result_of_given(accepted: &Accepted, signature: &Signature) -> JobResult {
    let mut result = result_of_accepted(accepted, signature);
    result.outcome = Outcome::Succeeded;
    result.model = None;
    result.params = GenerationParams::default();
    result.summary.clone_from(&accepted.job.summary);
    result.sizes.summary_chars = result.summary.as_deref().map_or(0, chars);
    result
}

/// The result of a row that was in a batch: `summary` or `error`, by `outcome`.
pub fn result_of_row(
    inferred: &Inferred,
    outcome: Outcome,
    generated: Option<&Generated>,
    signature: &Signature,
) -> JobResult {
    let Row {
        tokenized,
        request,
        wanted,
        long: _,
    } = &inferred.row;
    let accepted = &tokenized.accepted;
    let mut result = result_of_accepted(accepted, signature);
    result.outcome = outcome;
    result.embeddings.clone_from(&inferred.embeddings);
    let seed = generated.and_then(|generated| generated.seed);
    result.params = params_as_used(wanted, &request.params, seed);
    result.sizes.text_tokens = tokenized.encoded.tokens as u64;
    result.sizes.truncated_tokens = tokenized.encoded.truncated_tokens as u64;
    result.sizes.batch_size = inferred.batch_size as u64;
    if let Some(reading) = inferred.reading {
        result.sizes.parts = reading.parts as u64;
        result.sizes.truncated_tokens = reading.truncated_tokens as u64;
    }
    result.timings.batch_wait_ms =
        time::millis_between(accepted.delivery.received_at, inferred.batch_began_at);
    result.timings.tokenize_ms = tokenized.tokenize_ms;
    if let Some(generated) = generated {
        let summary = summary_of(&generated.text, wanted);
        result.sizes.summary_chars = chars(&summary);
        result.sizes.summary_tokens = generated.ids.len() as u64;
        result.timings.batch_wait_ms += generated.timings.wait.as_secs_f64() * 1e3;
        result.timings.encode_ms = generated.timings.encode.as_secs_f64() * 1e3;
        result.timings.decode_ms = generated.timings.decode.as_secs_f64() * 1e3;
        result.summary = Some(summary);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_early_ends_as_it_would_have_ended() {
        let articles = include_str!("../../../samples/articles.jsonl");
        let texts = articles.lines().flat_map(|line| {
            let article: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = article["text"]
                .as_str()
                .or(article["article"].as_str())
                .unwrap()
                .to_owned();
            // Beginning at any of its sentences: many first sentences out of few articles.
            let starts: Vec<usize> = sentence_ranges(&text, Rules::Extended)
                .into_iter()
                .map(|range| range.start)
                .collect();
            starts
                .into_iter()
                .map(move |start| text[start..].to_owned())
                .collect::<Vec<_>>()
        });
        let (rule, params) = (first_sentence_rule(), GenerationParams::default());
        let mut stopped = 0;
        for text in texts {
            let whole = summary_of(&text, &params);
            let most = text.len().min(2 * whole.len() + 200);
            let ends = (1..most).filter(|end| text.is_char_boundary(*end));
            let mut prefixes = ends.map(|end| &text[..end]);
            // The engine asks after every token, and the first yes counts.
            if let Some(prefix) = prefixes.find(|prefix| rule.is_end(prefix)) {
                assert_eq!(summary_of(prefix, &params), whole, "{prefix:?}");
                stopped += 1;
            }
        }
        assert!(stopped > 100, "only {stopped} texts ended early");
    }

    #[test]
    fn only_the_first_sentence_is_kept_unless_all_was_asked_for() {
        let text = " It rained 3.5 cm on No. 5 Wharf. Nobody minded. ";
        let all = GenerationParams {
            first_sentence: Some(false),
            ..Default::default()
        };
        assert_eq!(
            summary_of(text, &GenerationParams::default()),
            "It rained 3.5 cm on No. 5 Wharf."
        );
        assert_eq!(
            summary_of(text, &all),
            "It rained 3.5 cm on No. 5 Wharf. Nobody minded."
        );
        assert_eq!(summary_of("  ", &all), "");
    }
}
