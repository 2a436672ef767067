//! Between 5 and 6: vectors of the text and its summary, where the configuration asks for them.

use std::sync::Arc;

use precis_engine::{Engine, Generated, RowError};
use precis_runtime::config::EmbeddingTexts;
use precis_schemas::embedding::{Embeddings, Vector};

use super::detokenize::summary_of;
use super::infer::{Inferred, RowOutcome};

/// Adds the vectors to a row that has a summary. The text's is a by-product of reading it; the summary has to be read for
/// it, which takes a pass of the encoder.
///
/// A summary without a vector is still a summary: what fails here is logged and left out.
pub async fn embed(engine: &Arc<Engine>, wanted: EmbeddingTexts, inferred: &mut Inferred) {
    let RowOutcome::Done(generated) = &inferred.outcome else {
        return;
    };
    if wanted == EmbeddingTexts::None {
        return;
    }
    let document = vector(&generated.embedding);
    let summary = match wanted {
        EmbeddingTexts::Both => of_summary(engine, generated, inferred).await,
        EmbeddingTexts::None | EmbeddingTexts::Document => None,
    };
    inferred.embeddings = Some(Embeddings { document, summary });
}

async fn of_summary(engine: &Arc<Engine>, generated: &Generated, inferred: &Inferred) -> Option<Vector> {
    let summary = summary_of(&generated.text, &inferred.row.wanted);
    if summary.is_empty() {
        return None;
    }
    let engine = engine.clone();
    let embedded = tokio::task::spawn_blocking(move || -> Result<Vec<f32>, RowError> {
        engine.embed(&engine.tokenize(&summary)?)
    });
    let failed = match embedded.await {
        Ok(Ok(numbers)) => return vector(&numbers),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => panic.to_string(),
    };
    let job = &inferred.row.tokenized.accepted.job.id;
    tracing::warn!(%job, error = failed, "the summary has no vector");
    None
}

/// Nothing when a number is not finite, as half precision may bring about: nobody could use it.
fn vector(numbers: &[f32]) -> Option<Vector> {
    let usable = !numbers.is_empty() && numbers.iter().all(|number| number.is_finite());
    usable.then(|| Vector(numbers.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_that_nobody_could_use_is_none() {
        assert_eq!(vector(&[1.0, -2.0]), Some(Vector(vec![1.0, -2.0])));
        assert_eq!(vector(&[]), None);
        assert_eq!(vector(&[1.0, f32::NAN]), None);
        assert_eq!(vector(&[f32::INFINITY]), None);
    }
}
