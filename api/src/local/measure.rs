//! Metrics of the results: with a queue the monitor measures them, here nobody else sees them.

use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};
use precis_schemas::scores::Scores;
use precis_schemas::{JobResult, Outcome};
use precis_worker::stages::score::score;

const SUMMARIES: &str = "precis_api_local_summaries_total";
const TEXT_CHARS: &str = "precis_api_local_text_chars_total";
const SUMMARY_CHARS: &str = "precis_api_local_summary_chars_total";
const STAGES: &str = "precis_api_local_stage_seconds";
const ROUGE: &str = "precis_api_local_rouge_ratio";
const BLEU: &str = "precis_api_local_bleu_ratio";

/// Describes the metrics; called once at the start.
pub(crate) fn describe() {
    describe_counter!(
        SUMMARIES,
        Unit::Count,
        "Summaries written, by channel (api.engine = local)"
    );
    describe_counter!(
        TEXT_CHARS,
        Unit::Count,
        "Characters of the texts that were summarized, by channel (api.engine = local)"
    );
    describe_counter!(
        SUMMARY_CHARS,
        Unit::Count,
        "Characters of the summaries, by channel (api.engine = local)"
    );
    describe_histogram!(
        STAGES,
        Unit::Seconds,
        "Time of a summary in each stage, and from its submission to its end, by stage (api.engine = local)"
    );
    describe_histogram!(
        ROUGE,
        "F-measure of summaries that came with a reference, without stemming, by measure (api.engine = local)"
    );
    describe_histogram!(
        BLEU,
        "BLEU of summaries that came with a reference, 0 to 1 (api.engine = local)"
    );
}

/// Measures a result.
pub(super) async fn result(result: &JobResult) {
    if result.outcome != Outcome::Succeeded {
        return;
    }
    if let Some(scores) = scores(result).await {
        for (measure, prf) in [
            ("rouge1", scores.rouge1),
            ("rouge2", scores.rouge2),
            ("rougeL", scores.rouge_l),
            ("rougeLsum", scores.rouge_lsum),
        ] {
            histogram!(ROUGE, "measure" => measure).record(prf.fmeasure);
        }
        histogram!(BLEU).record(scores.bleu / 100.0);
    }
    // A summary that came with its job was not written here.
    if result.model.is_none() {
        return;
    }
    let channel = result.channel.as_str();
    counter!(SUMMARIES, "channel" => channel).increment(1);
    counter!(TEXT_CHARS, "channel" => channel).increment(result.sizes.text_chars);
    counter!(SUMMARY_CHARS, "channel" => channel).increment(result.sizes.summary_chars);
    let timings = &result.timings;
    for (stage, milliseconds) in [
        ("queue", timings.queue_ms),
        ("batch_wait", timings.batch_wait_ms),
        ("tokenize", timings.tokenize_ms),
        ("encode", timings.encode_ms),
        ("decode", timings.decode_ms),
        ("total", timings.total_ms),
    ] {
        histogram!(STAGES, "stage" => stage).record(milliseconds / 1e3);
    }
}

/// Scores without stemming, if there is something to compare with.
async fn scores(result: &JobResult) -> Option<Scores> {
    if let Some(scores) = result.scores.filter(|scores| !scores.stemmed) {
        return Some(scores);
    }
    let (summary, reference) = (result.summary.clone()?, result.reference.clone()?);
    if reference.trim().is_empty() {
        return None;
    }
    // Arithmetic over whole texts: not on the threads that serve the network. Texts that are too long are not scored.
    let scored = tokio::task::spawn_blocking(move || score(&summary, &reference, false)).await;
    scored.ok()?.ok()
}
