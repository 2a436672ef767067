//! An item: a prediction, or late scores of one that was forwarded earlier.

use jiff::Timestamp;
use precis_schemas::{JobResult, Outcome};

use crate::row::Scorer;

/// Scores of a summary against its reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ItemScores {
    /// BLEU as sacreBLEU computes it for one pair, 0 to 100.
    pub(crate) bleu: f64,
    /// F-measure of ROUGE without stemming, 0 to 1.
    pub(crate) rouge1: f64,
    pub(crate) rouge2: f64,
    pub(crate) rouge_l: f64,
}

impl ItemScores {
    /// Scores the summary of a result against its reference. Returns `None` if either is missing.
    pub(crate) fn of(result: &JobResult, scorer: &Scorer) -> Option<Self> {
        let (summary, reference) = (result.summary.as_ref()?, result.reference.as_ref()?);
        let scores = scorer.scores(reference, summary)?;
        Some(Self {
            bleu: scores.bleu,
            rouge1: scores.rouge.rouge1.fmeasure,
            rouge2: scores.rouge.rouge2.fmeasure,
            rouge_l: scores.rouge.rouge_l.fmeasure,
        })
    }

    /// Returns every score under its name at Arize and Phoenix.
    pub(crate) fn named(&self) -> [(&'static str, f64); 4] {
        [
            ("score_bleu", self.bleu),
            ("score_rouge1", self.rouge1),
            ("score_rouge2", self.rouge2),
            ("score_rougeL", self.rouge_l),
        ]
    }
}

/// The kind of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ItemKind {
    /// A job that a model worked on.
    Prediction,
    /// Scores against a late reference, for a prediction that was forwarded earlier.
    LateScores,
}

/// An item to forward.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) kind: ItemKind,
    /// The result, with the reference that counts now.
    pub(crate) result: JobResult,
    pub(crate) scores: Option<ItemScores>,
    /// Trace id of the job's request, 32 hexadecimal digits.
    pub(crate) trace_id: Option<String>,
    /// Approximate bytes in a request.
    pub(crate) bytes: usize,
}

impl Item {
    /// Creates the item of a result that takes `bytes` in its streams, and scores it.
    pub(crate) fn prediction(
        result: JobResult,
        trace_id: Option<String>,
        bytes: usize,
        scorer: &Scorer,
    ) -> Self {
        Self {
            kind: ItemKind::Prediction,
            scores: ItemScores::of(&result, scorer),
            result,
            trace_id,
            bytes,
        }
    }

    /// Whether the job succeeded.
    pub(crate) fn succeeded(&self) -> bool {
        self.result.outcome == Outcome::Succeeded
    }

    /// Returns when a worker received the job.
    pub(crate) fn began_at(&self) -> Timestamp {
        self.result.started_at.unwrap_or(self.result.submitted_at)
    }

    /// Returns the name of the model, or the name under which it is served.
    pub(crate) fn model_name(&self) -> &str {
        match &self.result.model {
            Some(model) if !model.name.is_empty() => &model.name,
            Some(model) => model.served_as.as_str(),
            None => "unknown",
        }
    }

    /// Returns the revision of the weights, or `""` if no model was involved.
    pub(crate) fn revision(&self) -> &str {
        self.result.model.as_ref().map_or("", |model| &model.revision)
    }

    /// Returns the worker's device (`cpu`, `cuda`, `metal`), or `""` without a worker.
    pub(crate) fn device(&self) -> &str {
        self.result.worker.as_ref().map_or("", |worker| &worker.device)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns an item with every field set.
    pub(crate) fn item() -> Item {
        let json = include_str!("../../../../schemas/wire/v1/result.succeeded.json");
        let mut result: JobResult = serde_json::from_str(json).unwrap();
        let vector = |numbers: &[f32]| Some(precis_schemas::embedding::EmbeddingVector(numbers.to_vec()));
        result.embeddings = Some(precis_schemas::embedding::Embeddings {
            document: vector(&[0.125, -0.5, 0.75, 1.0]),
            summary: vector(&[0.25, 0.5, -0.75, 0.0]),
        });
        let trace_id = Some("4bf92f3577b34da6a3ce929d0e0e4736".to_owned());
        Item::prediction(result, trace_id, 1_000, &Scorer::default())
    }

    #[test]
    fn a_summary_is_scored_against_its_reference() {
        let scores = item().scores.unwrap();
        // "the harbour stayed open" within "the harbour stayed open in the rain".
        assert!((scores.rouge1 - 8.0 / 11.0).abs() < 1e-9);
        assert!(scores.bleu > 10.0 && scores.bleu < 100.0, "{scores:?}");
        let mut without = item().result;
        without.reference = None;
        assert_eq!(ItemScores::of(&without, &Scorer::default()), None);
    }
}
