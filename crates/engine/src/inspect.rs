//! A look inside the model: encoder states, and the first logits. For embeddings and for checks against other
//! implementations.

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
        let states = self.batcher().encode(&encoded.ids)?;
        Ok(states
            .chunks_exact(self.info().d_model)
            .map(<[f32]>::to_vec)
            .collect())
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
        self.batcher().first_logits(&encoded.ids)
    }
}
