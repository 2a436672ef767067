//! Reduces logits block by block to their log-sum-exp and the highest ones.

use super::Isa;
use super::lanes::{LANES, exp, fold, larger, largest, sum, versions};

/// ln Σ exp(x) of values in blocks, without overflow. Not finite if any value is not finite.
#[derive(Debug, Clone, Copy)]
pub struct LogSumExp {
    most: f32,
    /// Σ exp(x - most).
    total: f32,
}

impl LogSumExp {
    /// Creates the sum of no values.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self {
            most: f32::NEG_INFINITY,
            total: 0.0,
        }
    }

    /// Adds a block.
    pub fn feed(&mut self, isa: Isa, block: &[f32]) {
        let most = larger(largest_of(isa, block), self.most);
        if most > self.most {
            self.total *= exp(self.most - most);
            self.most = most;
        }
        self.total += sum_of_exponentials(isa, block, most);
    }

    /// Returns the result so far.
    pub fn value(&self) -> f32 {
        self.most + self.total.ln()
    }
}

versions! {
    fn largest_of(values: &[f32]) -> f32 = largest
}

versions! {
    fn sum_of_exponentials(values: &[f32], most: f32) -> f32 = sum_of_exponentials_body
}

#[inline(always)]
fn sum_of_exponentials_body(values: &[f32], most: f32) -> f32 {
    // x · 0 is 0, or NaN if x is NaN or infinite.
    sum(fold(values, 0.0, |sum, value| {
        sum + (exp(value - most) + value * 0.0)
    }))
}

/// The highest of values in blocks, with their ids.
#[derive(Debug)]
pub struct Top {
    count: usize,
    /// Best first. Of equal values the lower id comes first.
    entries: Vec<(f32, u32)>,
}

impl Top {
    /// Creates a selection of the `count` highest.
    pub fn new(count: usize) -> Self {
        Self {
            count,
            entries: Vec::with_capacity(count + 1),
        }
    }

    /// Starts over.
    pub fn reset(&mut self, count: usize) {
        self.count = count;
        self.entries.clear();
    }

    /// Adds the values of the ids from `first` on, which must exceed all ids so far. Ignores NaN and the ids in
    /// `banned`, which is sorted.
    pub fn feed(&mut self, isa: Isa, block: &[f32], first: u32, banned: &[u32]) {
        let mut start = 0;
        while let Some(found) = first_above(isa, &block[start..], self.threshold()) {
            let place = start + found;
            let end = block.len().min(place + LANES);
            for (id, score) in (first + place as u32..).zip(&block[place..end]) {
                self.offer(*score, id, banned);
            }
            start = end;
        }
    }

    /// Returns the value that a new one must exceed.
    fn threshold(&self) -> f32 {
        match self.entries.last() {
            Some((score, _)) if self.entries.len() == self.count => *score,
            _ => f32::NEG_INFINITY,
        }
    }

    fn offer(&mut self, score: f32, id: u32, banned: &[u32]) {
        if score > self.threshold() && banned.binary_search(&id).is_err() {
            let place = self.entries.partition_point(|(other, _)| *other >= score);
            self.entries.insert(place, (score, id));
            self.entries.truncate(self.count);
        }
    }

    /// Returns the highest values so far.
    pub fn entries(&self) -> &[(f32, u32)] {
        &self.entries
    }
}

versions! {
    /// Returns the first index, in steps of [`LANES`], where one of [`LANES`] values exceeds `threshold`.
    fn first_above(values: &[f32], threshold: f32) -> Option<usize> = first_above_body
}

#[inline(always)]
fn first_above_body(values: &[f32], threshold: f32) -> Option<usize> {
    const WIDE: usize = 4 * LANES;
    let above = |values: &[f32]| values.iter().fold(false, |any, value| any | (*value > threshold));
    let mut start = 0;
    for chunk in values.chunks(WIDE) {
        if above(chunk) {
            let inside = chunk.chunks(LANES).position(above)?;
            return Some(start + inside * LANES);
        }
        start += chunk.len();
    }
    None
}
