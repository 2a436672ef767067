//! Stage 6: computes embeddings of the text and its summary, where `worker.embeddings` asks for them.

use std::sync::Arc;

use precis_engine::{Engine, Generated, RowError};
use precis_runtime::config::EmbeddingTexts;
use precis_schemas::embedding::{EmbeddingVector, Embeddings};
use precis_schemas::{GenerationParams, JobId};

use crate::summary::summary_of;

/// Returns the embeddings of a generated summary; none if the configuration asks for none.
///
/// The encoder has already computed the text's embedding. The summary's takes another pass. An embedding that fails is
/// logged and left out: the summary is still good.
pub async fn embed(
    engine: &Arc<Engine>,
    texts: EmbeddingTexts,
    id: &JobId,
    generated: &Generated,
    params: &GenerationParams,
) -> Option<Embeddings> {
    let summary = match texts {
        EmbeddingTexts::None => return None,
        EmbeddingTexts::Document => None,
        EmbeddingTexts::Both => embed_summary(engine, id, summary_of(&generated.text, params)).await,
    };
    let document = vector(&generated.embedding);
    Some(Embeddings { document, summary })
}

async fn embed_summary(engine: &Arc<Engine>, id: &JobId, summary: String) -> Option<EmbeddingVector> {
    if summary.is_empty() {
        return None;
    }
    let engine = engine.clone();
    let embedded = tokio::task::spawn_blocking(move || -> Result<Vec<f32>, RowError> {
        engine.embed(&engine.tokenize(&summary)?)
    });
    let error = match embedded.await {
        Ok(Ok(numbers)) => return vector(&numbers),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => panic.to_string(),
    };
    tracing::warn!(job = %id, error, "embedding the summary failed");
    None
}

/// Returns none for a vector with numbers that are not finite, which half precision can produce.
fn vector(numbers: &[f32]) -> Option<EmbeddingVector> {
    let usable = !numbers.is_empty() && numbers.iter().all(|number| number.is_finite());
    usable.then(|| EmbeddingVector(numbers.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_that_are_empty_or_not_finite_are_left_out() {
        assert_eq!(vector(&[1.0, -2.0]), Some(EmbeddingVector(vec![1.0, -2.0])));
        assert_eq!(vector(&[]), None);
        assert_eq!(vector(&[1.0, f32::NAN]), None);
        assert_eq!(vector(&[f32::INFINITY]), None);
    }
}
