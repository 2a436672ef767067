//! ROUGE of a summary against the human's.

use precis_scoring::{Rouge, RougeFmeasures};

/// Scores summaries as the rows keep them: F-measures without stemming.
#[derive(Debug, Clone, Default)]
pub struct Scorer(Rouge);

impl Scorer {
    /// F-measures of `summary` against `reference`; none when there is nothing to compare with, or the two
    /// are too long to be compared in bounded time.
    pub fn fmeasures(&self, reference: &str, summary: &str) -> Option<RougeFmeasures> {
        if reference.trim().is_empty() {
            return None;
        }
        match self.0.try_score(reference, summary, Rouge::DEFAULT_LIMIT) {
            Ok(scores) => Some(scores.fmeasures()),
            Err(error) => {
                tracing::debug!(%error, "a summary is not scored");
                None
            }
        }
    }
}
