//! Access to encoder states and first logits, for embeddings and for comparison with other implementations.

use crate::engine::Engine;
use crate::error::RowError;
use crate::tokenize::Encoded;

impl Engine {
    /// Returns the final hidden states of one input, after the last normalization: one vector of `d_model` per token.
    /// They are those of the encoder, or of a decoder-only model.
    ///
    /// # Errors
    /// Ids outside the vocabulary; a failed computation.
    pub fn encoder_states(&self, encoded: &Encoded) -> Result<Vec<Vec<f32>>, RowError> {
        self.check_ids(&encoded.ids)?;
        let states = self.batcher().encode(&encoded.ids)?;
        Ok(states
            .chunks_exact(self.info().d_model)
            .map(<[f32]>::to_vec)
            .collect())
    }

    /// Returns an embedding of the input: the mean of its hidden states, `d_model` wide.
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

    /// Returns the logits of the first generated token, one per vocabulary entry.
    ///
    /// # Errors
    /// As [`Engine::encoder_states`].
    pub fn first_logits(&self, encoded: &Encoded) -> Result<Vec<f32>, RowError> {
        self.check_ids(&encoded.ids)?;
        self.batcher().first_logits(&encoded.ids)
    }
}
