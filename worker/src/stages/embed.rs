//! Stage 6: computes embeddings of the text and its summary, where `worker.embeddings` asks for them.

use std::sync::Arc;

use precis_engine::{Encoded, Engine, Generated, RowError};
use precis_runtime::config::EmbeddingTexts;
use precis_schemas::embedding::{EmbeddingVector, Embeddings};
use precis_schemas::{GenerationParams, JobId};

use crate::summary::summary_of;

/// Returns the embeddings of a generated summary; none if the configuration asks for none.
///
/// An encoder has already computed the text's embedding. That of a decoder-only model takes another pass, as the
/// summary's does with every model. An embedding that fails is logged and left out: the summary is still good.
pub async fn embed(
    engine: &Arc<Engine>,
    texts: EmbeddingTexts,
    id: &JobId,
    text: &Encoded,
    generated: &Generated,
    params: &GenerationParams,
) -> Option<Embeddings> {
    let summary = match texts {
        EmbeddingTexts::None => return None,
        EmbeddingTexts::Document => None,
        EmbeddingTexts::Both => embed_summary(engine, id, summary_of(&generated.text, params)).await,
    };
    let document = match engine.info().has_encoder {
        true => vector(&generated.embedding),
        false => {
            let text = text.clone();
            compute(engine, id, move |engine| engine.embed(&text)).await
        }
    };
    Some(Embeddings { document, summary })
}

async fn embed_summary(engine: &Arc<Engine>, id: &JobId, summary: String) -> Option<EmbeddingVector> {
    if summary.is_empty() {
        return None;
    }
    compute(engine, id, move |engine| {
        engine.embed(&engine.tokenize(&summary)?)
    })
    .await
}

async fn compute(
    engine: &Arc<Engine>,
    id: &JobId,
    work: impl FnOnce(&Engine) -> Result<Vec<f32>, RowError> + Send + 'static,
) -> Option<EmbeddingVector> {
    let engine = engine.clone();
    let error = match tokio::task::spawn_blocking(move || work(&engine)).await {
        Ok(Ok(numbers)) => return vector(&numbers),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => panic.to_string(),
    };
    tracing::warn!(job = %id, error, "computing an embedding failed");
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
