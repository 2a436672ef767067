//! Rows of the table `prediction_versions`: one per result, and a later version for a late reference.

use std::collections::BTreeMap;

use async_nats::HeaderMap;
use clickhouse::Row;
use jiff::Timestamp;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::embedding::{EmbeddingVector, Embeddings};
use precis_schemas::time::millis_between;
use precis_schemas::{JobResult, Outcome};
use serde::{Deserialize, Serialize};

use crate::consumer::StreamPosition;

mod score;
mod text_filter;

pub use score::{Scorer, Scores};
pub use text_filter::TextFilter;

/// The table that rows are inserted into.
pub const TABLE: &str = "prediction_versions";

/// A row, with the columns of `schemas/clickhouse/`. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Row, Serialize, Deserialize)]
#[allow(missing_docs)] // the columns are described in the schema
pub struct PredictionRow {
    pub job_id: String,
    pub version: u64,
    pub batch_id: String,
    pub batch_index: u32,
    pub trace_id: String,
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

/// Returns the row of a result: with scores, and with its texts as the policy keeps them.
pub fn build(
    result: &JobResult,
    position: StreamPosition,
    scorer: &Scorer,
    texts: TextFilter,
) -> PredictionRow {
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
    let vector = |which: fn(&Embeddings) -> Option<&EmbeddingVector>| {
        let found = result.embeddings.as_ref().and_then(which);
        let found = found.filter(|_| texts.keeps_embeddings());
        found.map_or_else(Vec::new, |vector| vector.0.clone())
    };
    // A prediction that was made elsewhere and logged here has no known duration.
    let has_durations = result.job_sequence != 0 || result.started_at.is_some() || worker.is_some();
    let until_published = |since| {
        if has_durations {
            millis_between(since, position.published_at)
        } else {
            0.0
        }
    };
    let mut row = PredictionRow {
        job_id: result.id.to_string(),
        version: 0,
        batch_id: batch.map_or_else(String::new, |batch| batch.id.to_string()),
        batch_index: batch.map_or(0, |batch| to_u32(batch.index)),
        // The message carries it, not the result.
        trace_id: String::new(),
        job_sequence: result.job_sequence,
        result_sequence: position.sequence,
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
        publish_ms: until_published(result.finished_at),
        end_to_end_ms: until_published(result.submitted_at),
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
        // Serializing numbers and flags never fails.
        params: serde_json::to_string(&result.params).unwrap_or_default(),
        metadata: result.metadata.clone(),
        text_policy: texts.name().to_owned(),
        reference_at: None,
        text: texts.apply(&result.text),
        summary: texts.apply(summary),
        reference: texts.apply(reference),
        text_embedding: vector(|embeddings| embeddings.document.as_ref()),
        summary_embedding: vector(|embeddings| embeddings.summary.as_ref()),
    };
    if summarized && result.reference.is_some() {
        row.set_scores(scorer.scores(reference, summary));
    }
    row
}

impl PredictionRow {
    /// Returns a new version of the row with a late reference and its scores. Without scores the row keeps its own.
    pub fn with_reference(
        mut self,
        reference: &str,
        published_at: Timestamp,
        scores: Option<Scores>,
        texts: TextFilter,
    ) -> Self {
        self.version = version_of(published_at);
        self.reference_at = Some(published_at.as_millisecond());
        self.reference_chars = to_u32(reference.chars().count() as u64);
        self.reference = texts.apply(reference);
        if scores.is_some() {
            self.set_scores(scores);
        }
        self
    }

    /// Whether the row holds the whole summary: neither truncated, nor hashed, nor expired.
    pub fn has_whole_summary(&self) -> bool {
        let readable = matches!(self.text_policy.as_str(), "full" | "truncated");
        readable && u32::try_from(self.summary.chars().count()) == Ok(self.summary_chars)
    }

    /// Sets the trace that the headers of the result's message name, if they do.
    pub(crate) fn set_trace(&mut self, headers: Option<&HeaderMap>) {
        let trace = TraceContext::from_message(headers);
        self.trace_id = trace.map_or_else(String::new, |trace| trace.trace_id().to_owned());
    }

    fn set_scores(&mut self, scores: Option<Scores>) {
        let score = |part: fn(&Scores) -> f64| scores.as_ref().map(part);
        self.rouge1 = score(|scores| scores.rouge.rouge1.fmeasure);
        self.rouge1_precision = score(|scores| scores.rouge.rouge1.precision);
        self.rouge1_recall = score(|scores| scores.rouge.rouge1.recall);
        self.rouge1_stemmed = score(|scores| scores.stemmed.rouge1.fmeasure);
        self.rouge2 = score(|scores| scores.rouge.rouge2.fmeasure);
        self.rouge2_precision = score(|scores| scores.rouge.rouge2.precision);
        self.rouge2_recall = score(|scores| scores.rouge.rouge2.recall);
        self.rouge2_stemmed = score(|scores| scores.stemmed.rouge2.fmeasure);
        self.rouge_l = score(|scores| scores.rouge.rouge_l.fmeasure);
        self.rouge_l_precision = score(|scores| scores.rouge.rouge_l.precision);
        self.rouge_l_recall = score(|scores| scores.rouge.rouge_l.recall);
        self.rouge_l_stemmed = score(|scores| scores.stemmed.rouge_l.fmeasure);
        self.rouge_lsum = score(|scores| scores.rouge.rouge_lsum.fmeasure);
        self.rouge_lsum_precision = score(|scores| scores.rouge.rouge_lsum.precision);
        self.rouge_lsum_recall = score(|scores| scores.rouge.rouge_lsum.recall);
        self.rouge_lsum_stemmed = score(|scores| scores.stemmed.rouge_lsum.fmeasure);
        self.bleu = score(|scores| scores.bleu);
    }
}

/// Returns the version of a row for a late reference that the stream stored at `published_at`. Later references make
/// later versions.
pub fn version_of(published_at: Timestamp) -> u64 {
    u64::try_from(published_at.as_microsecond()).unwrap_or(1).max(1)
}

fn to_u32(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn to_u16(value: u64) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests;
