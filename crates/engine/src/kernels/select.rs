//! A look at logits, block by block: the sum of their exponentials, and the highest.

use super::Isa;
use super::lanes::{LANES, exp, fold, larger, largest, sum, versions};

/// ln Σ exp(x) of numbers that come in blocks, without overflow. Not finite if one of them isn't.
#[derive(Debug, Clone, Copy)]
pub struct LogSumExp {
    most: f32,
    /// Σ exp(x - most)
    total: f32,
}

impl LogSumExp {
    /// Of nothing.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self {
            most: f32::NEG_INFINITY,
            total: 0.0,
        }
    }

    /// Takes a block.
    pub fn feed(&mut self, isa: Isa, block: &[f32]) {
        let most = larger(largest_of(isa, block), self.most);
        if most > self.most {
            self.total *= exp(self.most - most);
            self.most = most;
        }
        self.total += sum_of_exponentials(isa, block, most);
    }

    /// The result so far.
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
    // x · 0 is 0, and no number where x is none or infinite.
    sum(fold(values, 0.0, |sum, value| {
        sum + (exp(value - most) + value * 0.0)
    }))
}

/// The highest of numbers that come in blocks, with their ids.
#[derive(Debug)]
pub struct Top {
    count: usize,
    /// Best first; of equal ones the lower id.
    entries: Vec<(f32, u32)>,
}

impl Top {
    /// The `count` highest.
    pub fn new(count: usize) -> Self {
        Self {
            count,
            entries: Vec::with_capacity(count + 1),
        }
    }

    /// Begins anew.
    pub fn reset(&mut self, count: usize) {
        self.count = count;
        self.entries.clear();
    }

    /// Takes the numbers of the ids from `first` on, which must be above all ids so far. Those in `banned`, which is in
    /// order, don't count, and neither does what is no number.
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

    /// What a number must be above to get in.
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

    /// The highest so far.
    pub fn entries(&self) -> &[(f32, u32)] {
        &self.entries
    }
}

versions! {
    /// The first place, in steps of [`LANES`], from which on one of [`LANES`] numbers is above `threshold`.
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
