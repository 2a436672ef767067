//! An engine without a model, for benchmarks of the code around the engine. It answers at once with the first sentence
//! of the text, and its tokens are the text's bytes.

use std::sync::Arc;

use crate::batching::{Batcher, Event, Load, Subscriber};
use crate::error::RowError;
use crate::generate::{
    FinishReason, GenerateRequest, Generated, GenerationDefaults, GenerationParams, Timings,
};
use crate::info::ModelInfo;
use crate::tokenize::{Encoded, Tokenize};

/// Maximum bytes to read of a text.
const MAX_BYTES: usize = 512;
const VOCABULARY: usize = 256;

/// A tokenizer that turns each byte into a token.
pub(crate) struct Bytes;

impl Tokenize for Bytes {
    fn max_input_tokens(&self) -> usize {
        MAX_BYTES
    }

    fn encode(&self, text: &str) -> Result<Encoded, RowError> {
        let ids: Vec<u32> = text.bytes().take(MAX_BYTES).map(u32::from).collect();
        Ok(Encoded {
            tokens: text.len(),
            truncated_tokens: text.len() - ids.len(),
            ids,
        })
    }

    fn decode(&self, ids: &[u32]) -> Result<String, RowError> {
        let byte = |id: &u32| u8::try_from(*id).unwrap_or(b'?');
        let bytes: Vec<u8> = ids.iter().map(byte).collect();
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }
}

/// A batcher that answers within the call, without threads or a queue.
pub(crate) struct FirstSentence;

impl Batcher for FirstSentence {
    fn submit(&self, request: &GenerateRequest, subscriber: Subscriber) {
        let ids = first_sentence(&request.encoded.ids).to_vec();
        let event = match Bytes.decode(&ids) {
            Ok(text) => Event::Finished(Box::new(Generated {
                text,
                ids,
                score: 0.0,
                finish: FinishReason::Stop,
                alternatives: Vec::new(),
                seed: None,
                embedding: Arc::from([]),
                timings: Timings::default(),
                steps: 0,
                reused_encoder: false,
            })),
            Err(error) => Event::Failed(error),
        };
        subscriber.send(event);
    }

    fn encode(&self, ids: &[u32]) -> Result<Vec<f32>, RowError> {
        Ok(vec![0.0; ids.len()])
    }

    fn first_logits(&self, _ids: &[u32]) -> Result<Vec<f32>, RowError> {
        Ok(vec![0.0; VOCABULARY])
    }

    fn load(&self) -> Load {
        Load::default()
    }
}

/// Returns the ids up to the first full stop followed by white space.
fn first_sentence(ids: &[u32]) -> &[u32] {
    let is_end = |pair: &[u32]| pair[0] == u32::from(b'.') && pair[1] <= u32::from(b' ');
    match ids.windows(2).position(is_end) {
        Some(at) => &ids[..=at],
        None => ids,
    }
}

/// Returns the facts of the no-op engine.
pub(crate) fn info() -> ModelInfo {
    ModelInfo {
        name: "no-op".to_owned(),
        revision: "1".to_owned(),
        architecture: "none",
        has_encoder: true,
        parameters: 0,
        vocabulary: VOCABULARY,
        d_model: 1,
        max_input_tokens: MAX_BYTES,
        prompt_prefix: String::new(),
        device: "cpu",
        precision: "none",
        instructions: "none",
        threads: 0,
        max_rows: 0,
        load_time: std::time::Duration::ZERO,
        resident_bytes: None,
    }
}

/// Returns default parameters, which the no-op engine ignores.
pub(crate) fn defaults() -> GenerationDefaults {
    GenerationDefaults {
        params: GenerationParams::default(),
        start: 0,
        eos: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Engine, EngineOptions, ModelSource};

    #[test]
    fn answers_with_the_first_sentence() {
        let engine = Engine::load(&ModelSource::NoOp, &EngineOptions::default()).unwrap();
        for (text, summary) in [
            ("Rain fell. Nobody minded.", "Rain fell."),
            ("It was 3.5 cm.", "It was 3.5 cm."),
            ("Überall Regen.\nDann Sonne.", "Überall Regen."),
        ] {
            let encoded = engine.tokenize(text).unwrap();
            let request = GenerateRequest::new(encoded, engine.default_params().clone());
            assert_eq!(engine.submit(&request).unwrap().wait().unwrap().text, summary);
        }
    }
}
