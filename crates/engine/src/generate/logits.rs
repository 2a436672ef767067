//! What a search looks at of the logits of one decoder row, gathered block by block while the output head computes
//! them: the whole vocabulary is kept only for the few kinds of search that need it.

use crate::kernels::{Isa, LogSumExp, Top};
use crate::model::Highest;

/// What is needed of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The so many highest logits, besides the sum of all exponentials.
    Highest(usize),
    /// All of them.
    All,
}

/// The logits of one row, as far as they were wanted.
pub(crate) struct RowLogits {
    isa: Isa,
    sum: LogSumExp,
    /// The sum where it was computed elsewhere.
    given: Option<f32>,
    highest: Top,
    /// Ids that may not be chosen, ascending.
    banned: Vec<u32>,
    all: Vec<f32>,
    wanted: Wanted,
}

impl RowLogits {
    /// An empty one.
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

    /// Begins a row. Ids in `banned` are left out of the highest.
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

    /// Takes the logits of the ids from `first` on.
    pub(crate) fn feed(&mut self, first: usize, block: &[f32]) {
        self.sum.feed(self.isa, block);
        match self.wanted {
            Wanted::Highest(_) => self.highest.feed(self.isa, block, first as u32, &self.banned),
            Wanted::All => self.all.extend_from_slice(block),
        }
    }

    /// How many of the highest logits it needs, those that are banned included; nothing if it needs all.
    pub(crate) fn count(&self) -> Option<usize> {
        match self.wanted {
            Wanted::Highest(count) => Some(count + self.banned.len()),
            Wanted::All => None,
        }
    }

    /// Takes the highest logits, at least as many as [`RowLogits::count`] says, in the place of all.
    pub(crate) fn take(&mut self, found: &Highest) {
        self.given = Some(found.log_sum_exp);
        // Of equal ones the lower id goes first, and is to be seen first.
        let mut logits = found.logits.clone();
        logits.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (logit, id) in logits {
            self.highest.feed(self.isa, &[logit], id, &self.banned);
        }
    }

    /// ln Σ exp(logit) over the whole vocabulary; not finite if a logit wasn't.
    pub(crate) fn log_sum_exp(&self) -> f32 {
        self.given.unwrap_or_else(|| self.sum.value())
    }

    /// The highest logits with their ids, best first; nothing if all were wanted.
    pub(crate) fn highest(&self) -> Option<&[(f32, u32)]> {
        match self.wanted {
            Wanted::Highest(_) => Some(self.highest.entries()),
            Wanted::All => None,
        }
    }

    /// All logits; empty if they were not wanted.
    pub(crate) fn all(&self) -> &[f32] {
        &self.all
    }
}
