//! A look inside the model: encoder states, and the first logits. For embeddings and for checks against other
//! implementations.

use candle_core::DType;

use crate::engine::Engine;
use crate::error::RowError;
use crate::tokenize::Encoded;

impl Engine {
    /// The encoder's last states of one input, after the final normalization: one vector of `d_model` for each token.
    ///
    /// # Errors
    /// Ids that are not this engine's; a failed computation.
    pub fn encoder_states(&self, encoded: &Encoded) -> Result<Vec<Vec<f32>>, RowError> {
        self.check_ids(&encoded.ids)?;
        let states = self.pools().run(|| {
            let states = self.model().encode(&[&encoded.ids])?;
            states.to_dtype(DType::F32)?.to_vec2()
        });
        states.map_err(|error| RowError::Compute(error.to_string()))
    }

    /// A vector of `d_model` that stands for the meaning of the input: the mean of its encoder states.
    ///
    /// # Errors
    /// As [`Engine::encoder_states`].
    pub fn embed(&self, encoded: &Encoded) -> Result<Vec<f32>, RowError> {
        let states = self.encoder_states(encoded)?;
        let mut mean = vec![0f32; self.info().d_model];
        for state in &states {
            mean.iter_mut().zip(state).for_each(|(sum, value)| *sum += value);
        }
        mean.iter_mut().for_each(|sum| *sum /= states.len() as f32);
        Ok(mean)
    }

    /// The logits of the first token that would be generated: one number for each token of the vocabulary.
    ///
    /// # Errors
    /// As [`Engine::encoder_states`].
    pub fn first_logits(&self, encoded: &Encoded) -> Result<Vec<f32>, RowError> {
        self.check_ids(&encoded.ids)?;
        let logits = self.pools().run(|| {
            let mut prefill = self.model().prefill(&[&encoded.ids], &[1])?;
            self.model().step(&[self.start_token()], &mut prefill.state)
        });
        logits.map_err(|error: candle_core::Error| RowError::Compute(error.to_string()))
    }
}
