//! The part of a row's logits that a search needs, collected block by block while the output head computes them. Only a
//! few kinds of search need the whole vocabulary.

use crate::kernels::{Isa, LogSumExp, Top};
use crate::model::Highest;

/// The logits of a row that a search needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The given number of highest logits, and the sum of all exponentials.
    Highest(usize),
    /// All logits.
    All,
}

/// The requested logits of one row.
pub(crate) struct RowLogits {
    isa: Isa,
    sum: LogSumExp,
    /// The log-sum-exp, if the device computed it.
    given: Option<f32>,
    highest: Top,
    /// Banned ids, ascending.
    banned: Vec<u32>,
    all: Vec<f32>,
    wanted: Wanted,
}

impl RowLogits {
    /// Creates an empty collector.
    pub(crate) fn new(isa: Isa) -> Self {
        Self {
            isa,
            sum: LogSumExp::new(),
            given: None,
            highest: Top::new(1),
            banned: Vec::new(),
            all: Vec::new(),
            wanted: Wanted::All,
        }
    }

    /// Starts a row. The highest logits exclude the ids in `banned`.
    pub(crate) fn begin(&mut self, wanted: Wanted, mut banned: Vec<u32>) {
        banned.sort_unstable();
        banned.dedup();
        self.sum = LogSumExp::new();
        self.given = None;
        self.banned = banned;
        self.all.clear();
        self.wanted = wanted;
        if let Wanted::Highest(count) = wanted {
            self.highest.reset(count);
        }
    }

    /// Adds the logits of the ids from `first` on.
    pub(crate) fn feed(&mut self, first: usize, block: &[f32]) {
        self.sum.feed(self.isa, block);
        match self.wanted {
            Wanted::Highest(_) => self.highest.feed(self.isa, block, first as u32, &self.banned),
            Wanted::All => self.all.extend_from_slice(block),
        }
    }

    /// Returns how many of the highest logits the row needs, including banned ones, or `None` for all.
    pub(crate) fn count(&self) -> Option<usize> {
        match self.wanted {
            Wanted::Highest(count) => Some(count + self.banned.len()),
            Wanted::All => None,
        }
    }

    /// Takes the highest logits from the device: at least as many as [`RowLogits::count`] says.
    pub(crate) fn take(&mut self, found: &Highest) {
        self.given = Some(found.log_sum_exp);
        // Of equal logits the lower id must come first.
        let mut logits = found.logits.clone();
        logits.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (logit, id) in logits {
            self.highest.feed(self.isa, &[logit], id, &self.banned);
        }
    }

    /// Returns ln Σ exp(logit) over the vocabulary. Not finite if a logit is not finite.
    pub(crate) fn log_sum_exp(&self) -> f32 {
        self.given.unwrap_or_else(|| self.sum.value())
    }

    /// Returns the highest logits with their ids, best first, or `None` if all were requested.
    pub(crate) fn highest(&self) -> Option<&[(f32, u32)]> {
        match self.wanted {
            Wanted::Highest(_) => Some(self.highest.entries()),
            Wanted::All => None,
        }
    }

    /// Returns all logits, or an empty slice if they were not requested.
    pub(crate) fn all(&self) -> &[f32] {
        &self.all
    }
}
