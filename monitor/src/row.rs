//! One result, one row of the table `prediction_rows`.

use std::collections::BTreeMap;

use clickhouse::Row;
use jiff::Timestamp;
use precis_schemas::time::millis_between;
use precis_schemas::{JobResult, Outcome};
use serde::{Deserialize, Serialize};

use crate::score::Scorer;

/// The table that the rows go to.
pub const TABLE: &str = "prediction_rows";

/// A row, column for column as `schemas/clickhouse/` describes it. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Row, Serialize, Deserialize)]
#[allow(missing_docs)] // the columns are described in the schema
pub struct PredictionRow {
    pub job_id: String,
    pub job_sequence: u64,
    pub result_sequence: u64,
    pub submitted_at: i64,
    pub started_at: Option<i64>,
    pub finished_at: i64,
    pub tenant: String,
    pub channel: String,
    pub task: String,
    pub lane: String,
    pub outcome: String,
    pub error_code: String,
    pub error_message: String,
    pub served_as: String,
    pub model: String,
    pub revision: String,
    pub worker: String,
    pub device: String,
    pub attempt: u16,
    pub queue_ms: f64,
    pub batch_wait_ms: f64,
    pub tokenize_ms: f64,
    pub encode_ms: f64,
    pub decode_ms: f64,
    pub publish_ms: f64,
    pub end_to_end_ms: f64,
    pub text_chars: u32,
    pub text_tokens: u32,
    pub truncated_tokens: u32,
    pub summary_chars: u32,
    pub summary_tokens: u32,
    pub reference_chars: u32,
    pub batch_size: u16,
    pub padding_ratio: f32,
    pub rouge1: Option<f64>,
    pub rouge2: Option<f64>,
    #[serde(rename = "rougeL")]
    pub rouge_l: Option<f64>,
    pub params: String,
    pub metadata: BTreeMap<String, String>,
    pub text: String,
    pub summary: String,
    pub reference: String,
}

/// The row of a result that stands at `result_sequence` of `RESULTS` since `published_at`.
pub fn build(
    result: &JobResult,
    result_sequence: u64,
    published_at: Timestamp,
    scorer: &Scorer,
) -> PredictionRow {
    let text_of = |text: &Option<String>| text.clone().unwrap_or_default();
    let scores = match (&result.summary, &result.reference) {
        (Some(summary), Some(reference)) if result.outcome == Outcome::Succeeded => {
            scorer.fmeasures(reference, summary)
        }
        _ => None,
    };
    let error = result.error.as_ref();
    let model = result.model.as_ref();
    let worker = result.worker.as_ref();
    let (sizes, timings) = (&result.sizes, &result.timings);
    PredictionRow {
        job_id: result.id.to_string(),
        job_sequence: result.job_sequence,
        result_sequence,
        submitted_at: result.submitted_at.as_millisecond(),
        started_at: result.started_at.map(Timestamp::as_millisecond),
        finished_at: result.finished_at.as_millisecond(),
        tenant: result.tenant.to_string(),
        channel: result.channel.to_string(),
        task: result.task.to_string(),
        lane: result.lane.to_string(),
        outcome: result.outcome.to_string(),
        error_code: error.map_or_else(String::new, |refusal| refusal.code.to_string()),
        error_message: error.map_or_else(String::new, |refusal| refusal.message.clone()),
        served_as: model.map_or_else(String::new, |model| model.served_as.to_string()),
        model: model.map_or_else(String::new, |model| model.name.clone()),
        revision: model.map_or_else(String::new, |model| model.revision.clone()),
        worker: worker.map_or_else(String::new, |worker| worker.id.to_string()),
        device: worker.map_or_else(String::new, |worker| worker.device.clone()),
        attempt: to_u16(result.attempt),
        queue_ms: timings.queue_ms,
        batch_wait_ms: timings.batch_wait_ms,
        tokenize_ms: timings.tokenize_ms,
        encode_ms: timings.encode_ms,
        decode_ms: timings.decode_ms,
        publish_ms: millis_between(result.finished_at, published_at),
        end_to_end_ms: millis_between(result.submitted_at, published_at),
        text_chars: to_u32(sizes.text_chars),
        text_tokens: to_u32(sizes.text_tokens),
        truncated_tokens: to_u32(sizes.truncated_tokens),
        summary_chars: to_u32(sizes.summary_chars),
        summary_tokens: to_u32(sizes.summary_tokens),
        reference_chars: to_u32(sizes.reference_chars),
        batch_size: to_u16(sizes.batch_size),
        padding_ratio: sizes.padding_ratio as f32,
        rouge1: scores.map(|scores| scores.rouge1),
        rouge2: scores.map(|scores| scores.rouge2),
        rouge_l: scores.map(|scores| scores.rouge_l),
        // A struct of numbers and flags always has a JSON form.
        params: serde_json::to_string(&result.params).unwrap_or_default(),
        metadata: result.metadata.clone(),
        text: result.text.clone(),
        summary: text_of(&result.summary),
        reference: text_of(&result.reference),
    }
}

fn to_u32(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn to_u16(value: u64) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUCCEEDED: &str = include_str!("../../schemas/wire/v1/result.succeeded.json");
    const FAILED: &str = include_str!("../../schemas/wire/v1/result.failed.json");

    fn row(json: &str) -> PredictionRow {
        let result: JobResult = serde_json::from_str(json).unwrap();
        let published_at = "2026-11-23T13:00:00.0755Z".parse().unwrap();
        build(&result, 77, published_at, &Scorer::default())
    }

    #[test]
    fn a_summary_is_timed_and_scored() {
        let row = row(SUCCEEDED);
        assert_eq!((row.job_sequence, row.result_sequence), (42, 77));
        assert_eq!(row.finished_at - row.submitted_at, 60);
        assert_eq!(row.started_at, Some(row.submitted_at + 2));
        assert!((row.publish_ms - 15.5).abs() < 1e-9, "{}", row.publish_ms);
        assert!((row.end_to_end_ms - 75.5).abs() < 1e-9, "{}", row.end_to_end_ms);
        // "the harbour stayed open" within "the harbour stayed open in the rain": 4 of 4 and 4 of 7.
        assert!((row.rouge1.unwrap() - 8.0 / 11.0).abs() < 1e-9);
        assert!((row.rouge2.unwrap() - 6.0 / 9.0).abs() < 1e-9);
        assert!((row.rouge_l.unwrap() - 8.0 / 11.0).abs() < 1e-9);
        assert_eq!((row.error_code.as_str(), row.error_message.as_str()), ("", ""));
        assert_eq!((row.served_as.as_str(), row.device.as_str()), ("default", "cpu"));
        assert_eq!(row.params, r#"{"num_beams":4,"first_sentence":true}"#);
    }

    #[test]
    fn a_failure_has_its_error_and_no_scores() {
        let mut failed: JobResult = serde_json::from_str(FAILED).unwrap();
        failed.reference = Some("Rain.".into());
        let row = row(&serde_json::to_string(&failed).unwrap());
        assert_eq!(
            (row.outcome.as_str(), row.error_code.as_str()),
            ("failed", "empty_text")
        );
        assert_eq!(
            (row.model.as_str(), row.worker.as_str(), row.summary.as_str()),
            ("", "", "")
        );
        assert_eq!((row.rouge1, row.rouge2, row.rouge_l), (None, None, None));
    }

    #[test]
    fn without_a_reference_there_is_no_score() {
        let mut result: JobResult = serde_json::from_str(SUCCEEDED).unwrap();
        for reference in [None, Some(" ".to_owned())] {
            result.reference = reference;
            assert_eq!(row(&serde_json::to_string(&result).unwrap()).rouge1, None);
        }
    }

    #[test]
    fn sizes_beyond_the_column_are_cut_and_not_wrapped() {
        let mut result: JobResult = serde_json::from_str(SUCCEEDED).unwrap();
        result.sizes.text_chars = u64::MAX;
        result.attempt = 1 << 20;
        let row = row(&serde_json::to_string(&result).unwrap());
        assert_eq!((row.text_chars, row.attempt), (u32::MAX, u16::MAX));
    }

    #[test]
    fn every_field_is_a_column_of_the_schema_and_every_column_a_field() {
        let create = precis_schemas::migrations::ALL[0].statements().remove(0);
        let columns: Vec<&str> = create
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix('`')?.split('`').next())
            .collect();
        assert_eq!(<PredictionRow as Row>::COLUMN_NAMES, &columns[..]);
    }
}
