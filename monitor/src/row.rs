//! One result, one row of the table `prediction_versions`; a late reference makes a later version of it.

use std::collections::BTreeMap;

use clickhouse::Row;
use jiff::Timestamp;
use precis_schemas::embedding::{Embeddings, Vector};
use precis_schemas::time::millis_between;
use precis_schemas::{JobResult, Outcome};
use serde::{Deserialize, Serialize};

use crate::score::{Scorer, Scores};
use crate::texts::Texts;

/// The table that the rows go to.
pub const TABLE: &str = "prediction_versions";

/// A row, column for column as `schemas/clickhouse/` describes it. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Row, Serialize, Deserialize)]
#[allow(missing_docs)] // the columns are described in the schema
pub struct PredictionRow {
    pub job_id: String,
    pub version: u64,
    pub batch_id: String,
    pub batch_index: u32,
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
    #[serde(rename = "rougeLsum")]
    pub rouge_lsum: Option<f64>,
    pub rouge1_precision: Option<f64>,
    pub rouge1_recall: Option<f64>,
    pub rouge2_precision: Option<f64>,
    pub rouge2_recall: Option<f64>,
    #[serde(rename = "rougeL_precision")]
    pub rouge_l_precision: Option<f64>,
    #[serde(rename = "rougeL_recall")]
    pub rouge_l_recall: Option<f64>,
    #[serde(rename = "rougeLsum_precision")]
    pub rouge_lsum_precision: Option<f64>,
    #[serde(rename = "rougeLsum_recall")]
    pub rouge_lsum_recall: Option<f64>,
    pub rouge1_stemmed: Option<f64>,
    pub rouge2_stemmed: Option<f64>,
    #[serde(rename = "rougeL_stemmed")]
    pub rouge_l_stemmed: Option<f64>,
    #[serde(rename = "rougeLsum_stemmed")]
    pub rouge_lsum_stemmed: Option<f64>,
    pub bleu: Option<f64>,
    pub text_words: Option<u32>,
    pub summary_words: Option<u32>,
    pub compression_ratio: Option<f32>,
    pub coverage: Option<f32>,
    pub density: Option<f32>,
    pub novel_unigrams: Option<f32>,
    pub novel_bigrams: Option<f32>,
    pub novel_trigrams: Option<f32>,
    pub repetition_rate: Option<f32>,
    pub is_empty: Option<bool>,
    pub is_truncated: Option<bool>,
    pub params: String,
    pub metadata: BTreeMap<String, String>,
    pub text_policy: String,
    pub reference_at: Option<i64>,
    pub text: String,
    pub summary: String,
    pub reference: String,
    pub text_embedding: Vec<f32>,
    pub summary_embedding: Vec<f32>,
}

/// Where a result stands in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its sequence in `RESULTS`.
    pub sequence: u64,
    /// When the stream took it.
    pub at: Timestamp,
}

/// The row of a result: scored, and with its texts as the policy wants them.
pub fn build(result: &JobResult, stored: Stored, scorer: &Scorer, texts: Texts) -> PredictionRow {
    let summary = result.summary.as_deref().unwrap_or_default();
    let reference = result.reference.as_deref().unwrap_or_default();
    let error = result.error.as_ref();
    let model = result.model.as_ref();
    let worker = result.worker.as_ref();
    let batch = result.batch.as_ref();
    let (sizes, timings) = (&result.sizes, &result.timings);
    let summarized = result.outcome == Outcome::Succeeded && result.summary.is_some();
    let signals = summarized
        .then(|| scorer.signals(&result.text, summary))
        .flatten();
    let vector = |which: fn(&Embeddings) -> Option<&Vector>| {
        let found = result.embeddings.as_ref().and_then(which);
        found.map_or_else(Vec::new, |vector| vector.0.clone())
    };
    let mut row = PredictionRow {
        job_id: result.id.to_string(),
        version: 0,
        batch_id: batch.map_or_else(String::new, |batch| batch.id.to_string()),
        batch_index: batch.map_or(0, |batch| to_u32(batch.index)),
        job_sequence: result.job_sequence,
        result_sequence: stored.sequence,
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
        publish_ms: millis_between(result.finished_at, stored.at),
        end_to_end_ms: millis_between(result.submitted_at, stored.at),
        text_chars: to_u32(sizes.text_chars),
        text_tokens: to_u32(sizes.text_tokens),
        truncated_tokens: to_u32(sizes.truncated_tokens),
        summary_chars: to_u32(sizes.summary_chars),
        summary_tokens: to_u32(sizes.summary_tokens),
        reference_chars: to_u32(sizes.reference_chars),
        batch_size: to_u16(sizes.batch_size),
        padding_ratio: sizes.padding_ratio as f32,
        rouge1: None,
        rouge2: None,
        rouge_l: None,
        rouge_lsum: None,
        rouge1_precision: None,
        rouge1_recall: None,
        rouge2_precision: None,
        rouge2_recall: None,
        rouge_l_precision: None,
        rouge_l_recall: None,
        rouge_lsum_precision: None,
        rouge_lsum_recall: None,
        rouge1_stemmed: None,
        rouge2_stemmed: None,
        rouge_l_stemmed: None,
        rouge_lsum_stemmed: None,
        bleu: None,
        text_words: signals.map(|signals| to_u32(signals.article_words)),
        summary_words: signals.map(|signals| to_u32(signals.summary_words)),
        compression_ratio: signals.map(|signals| signals.compression_ratio as f32),
        coverage: signals.map(|signals| signals.coverage as f32),
        density: signals.map(|signals| signals.density as f32),
        novel_unigrams: signals.map(|signals| signals.novel_ngrams[0] as f32),
        novel_bigrams: signals.map(|signals| signals.novel_ngrams[1] as f32),
        novel_trigrams: signals.map(|signals| signals.novel_ngrams[2] as f32),
        repetition_rate: signals.map(|signals| signals.repetition_rate as f32),
        is_empty: signals.map(|signals| signals.empty),
        is_truncated: signals.map(|signals| signals.truncated),
        // A struct of numbers and flags always has a JSON form.
        params: serde_json::to_string(&result.params).unwrap_or_default(),
        metadata: result.metadata.clone(),
        text_policy: texts.name().to_owned(),
        reference_at: None,
        text: texts.kept(&result.text),
        summary: texts.kept(summary),
        reference: texts.kept(reference),
        text_embedding: vector(|embeddings| embeddings.document.as_ref()),
        summary_embedding: vector(|embeddings| embeddings.summary.as_ref()),
    };
    if summarized && result.reference.is_some() {
        row.set_scores(scorer.scores(reference, summary));
    }
    row
}

impl PredictionRow {
    /// The row with a reference that came late: a new version of it. `summary` is the whole summary, if it is known;
    /// without it there is nothing to score.
    pub fn with_reference(
        mut self,
        reference: &str,
        stored_at: Timestamp,
        summary: Option<&str>,
        scorer: &Scorer,
        texts: Texts,
    ) -> Self {
        self.version = version_of(stored_at);
        self.reference_at = Some(stored_at.as_millisecond());
        self.reference_chars = to_u32(reference.chars().count() as u64);
        self.reference = texts.kept(reference);
        self.set_scores(summary.and_then(|summary| scorer.scores(reference, summary)));
        self
    }

    fn set_scores(&mut self, scores: Option<Scores>) {
        let of = |part: fn(&Scores) -> f64| scores.as_ref().map(part);
        self.rouge1 = of(|scores| scores.rouge.rouge1.fmeasure);
        self.rouge1_precision = of(|scores| scores.rouge.rouge1.precision);
        self.rouge1_recall = of(|scores| scores.rouge.rouge1.recall);
        self.rouge1_stemmed = of(|scores| scores.stemmed.rouge1.fmeasure);
        self.rouge2 = of(|scores| scores.rouge.rouge2.fmeasure);
        self.rouge2_precision = of(|scores| scores.rouge.rouge2.precision);
        self.rouge2_recall = of(|scores| scores.rouge.rouge2.recall);
        self.rouge2_stemmed = of(|scores| scores.stemmed.rouge2.fmeasure);
        self.rouge_l = of(|scores| scores.rouge.rouge_l.fmeasure);
        self.rouge_l_precision = of(|scores| scores.rouge.rouge_l.precision);
        self.rouge_l_recall = of(|scores| scores.rouge.rouge_l.recall);
        self.rouge_l_stemmed = of(|scores| scores.stemmed.rouge_l.fmeasure);
        self.rouge_lsum = of(|scores| scores.rouge.rouge_lsum.fmeasure);
        self.rouge_lsum_precision = of(|scores| scores.rouge.rouge_lsum.precision);
        self.rouge_lsum_recall = of(|scores| scores.rouge.rouge_lsum.recall);
        self.rouge_lsum_stemmed = of(|scores| scores.stemmed.rouge_lsum.fmeasure);
        self.bleu = of(|scores| scores.bleu);
    }
}

/// The version of a row that a reference makes which the stream took at this time: later references make later versions.
pub fn version_of(stored_at: Timestamp) -> u64 {
    u64::try_from(stored_at.as_microsecond()).unwrap_or(1).max(1)
}

fn to_u32(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn to_u16(value: u64) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use precis_runtime::config::TextPolicy;

    use super::*;

    const SUCCEEDED: &str = include_str!("../../schemas/wire/v1/result.succeeded.json");
    const FAILED: &str = include_str!("../../schemas/wire/v1/result.failed.json");

    fn row(json: &str) -> PredictionRow {
        let result: JobResult = serde_json::from_str(json).unwrap();
        let published_at = "2026-11-23T13:00:00.0755Z".parse().unwrap();
        let stored = Stored {
            sequence: 77,
            at: published_at,
        };
        build(&result, stored, &Scorer::default(), FULL)
    }

    const FULL: Texts = Texts {
        policy: TextPolicy::Full,
        max_chars: 0,
    };

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
        assert_eq!(
            (row.rouge1_precision, row.rouge1_recall),
            (Some(1.0), Some(4.0 / 7.0))
        );
        assert_eq!(row.rouge_lsum, row.rouge_l);
        assert_eq!(row.rouge1_stemmed, row.rouge1);
        assert!(row.bleu.unwrap() > 0.0 && row.coverage.is_some());
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
    fn a_late_reference_makes_a_version_with_the_scores_of_one_that_came_along() {
        let early = row(SUCCEEDED);
        let mut result: JobResult = serde_json::from_str(SUCCEEDED).unwrap();
        let reference = result.reference.take().unwrap();
        let without = row(&serde_json::to_string(&result).unwrap());
        assert_eq!((without.rouge1, without.bleu), (None, None));
        let at: Timestamp = "2026-12-01T00:00:00.5Z".parse().unwrap();
        let summary = result.summary.as_deref();
        let late = without.with_reference(&reference, at, summary, &Scorer::default(), FULL);
        assert_eq!(late.version, 1_796_083_200_500_000);
        let expected = PredictionRow {
            version: late.version,
            reference_at: Some(at.as_millisecond()),
            reference_chars: reference.chars().count() as u32,
            ..early
        };
        assert_eq!(late, expected);
        let other = late.with_reference("Quite another.", at, None, &Scorer::default(), FULL);
        assert_eq!((other.rouge1, other.reference.as_str()), (None, "Quite another."));
    }

    #[test]
    fn a_job_of_a_batch_has_its_place() {
        let mut result: JobResult = serde_json::from_str(SUCCEEDED).unwrap();
        let place = |row: &PredictionRow| (row.batch_id.clone(), row.batch_index);
        assert_eq!(place(&row(SUCCEEDED)), (String::new(), 0));
        result.batch = Some(precis_schemas::batch::BatchRef {
            id: "b7".parse().unwrap(),
            index: 3,
            size: None,
        });
        let row = row(&serde_json::to_string(&result).unwrap());
        assert_eq!(place(&row), ("b7".to_owned(), 3));
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
        let name = |line: &str| Some(line.trim_start().strip_prefix('`')?.split('`').next()?.to_owned());
        let create = precis_schemas::migrations::ALL[1].statements().remove(0);
        let mut columns: Vec<String> = create.lines().filter_map(name).collect();
        // Added later: `ADD COLUMN IF NOT EXISTS `batch_id` … AFTER `version``.
        for migration in precis_schemas::migrations::ALL {
            let added = migration
                .sql
                .split("ADD COLUMN IF NOT EXISTS ")
                .skip(1)
                .filter_map(|rest| Some((name(rest)?, name(rest.split_once("AFTER ")?.1)?)));
            for (column, before) in added {
                let place = columns.iter().position(|known| *known == before).unwrap();
                columns.insert(place + 1, column);
            }
        }
        assert_eq!(<PredictionRow as Row>::COLUMN_NAMES, columns);
    }
}
