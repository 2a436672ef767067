//! Metrics of summaries. With a queue the monitor measures results; without one, only this process sees them.

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
const REPORTS: &str = "precis_api_monitor_reports_total";

/// Describes the metrics of this crate. Call it once, at start.
pub fn describe() {
    describe_counter!(
        SUMMARIES,
        Unit::Count,
        "Summaries generated, by channel (api.engine = local)"
    );
    describe_counter!(
        TEXT_CHARS,
        Unit::Count,
        "Characters of the summarized texts, by channel (api.engine = local)"
    );
    describe_counter!(
        SUMMARY_CHARS,
        Unit::Count,
        "Characters of the summaries, by channel (api.engine = local)"
    );
    describe_histogram!(
        STAGES,
        Unit::Seconds,
        "Time of a summary in each stage, and in total from submission to result, by stage (api.engine = local)"
    );
    describe_histogram!(
        ROUGE,
        "ROUGE F-measure of summaries that came with a reference, without stemming, by measure (api.engine = local)"
    );
    describe_histogram!(
        BLEU,
        "BLEU of summaries that came with a reference, 0 to 1 (api.engine = local)"
    );
    describe_counter!(
        REPORTS,
        Unit::Count,
        "Summaries reported to a monitor, by outcome: accepted, refused, dropped (api.engine = local)"
    );
}

/// Counts a report to the monitor: `accepted`, `refused` or `dropped`.
pub(crate) fn record_report(outcome: &'static str) {
    counter!(REPORTS, "outcome" => outcome).increment(1);
}

/// Measures a result.
pub(crate) async fn record_result(result: &JobResult) {
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
    // Without a model, the summary came with the job and was only scored.
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

/// Returns scores without stemming, if the result has a reference and the texts are short enough to score.
async fn scores(result: &JobResult) -> Option<Scores> {
    if let Some(scores) = result.scores.filter(|scores| !scores.stemmed) {
        return Some(scores);
    }
    let (summary, reference) = (result.summary.clone()?, result.reference.clone()?);
    if reference.trim().is_empty() {
        return None;
    }
    // Scoring whole texts is CPU work, so it must not block the threads that serve the network.
    let scored = tokio::task::spawn_blocking(move || score(&summary, &reference, false)).await;
    scored.ok()?.ok()
}
