//! Aggregates over many pairs: the mean and its confidence interval.
//!
//! `rouge-score`'s own aggregator reports the median of 1,000 resampled means from a global generator, so its result
//! varies from run to run around the mean. This module reports the mean itself, and uses resampling (the percentile
//! bootstrap, Efron 1979) only for the interval, with a seed.

use crate::rouge::{Prf, RougeScores};
use serde::{Deserialize, Serialize};

/// Settings of the bootstrap.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// Number of resamples; more give a steadier interval. 0 is taken as 1.
    pub resamples: u32,
    /// Share of resampled means inside the interval, 0 to 1. Values outside are clamped, and NaN counts as 0.
    pub confidence: f64,
    /// Seed of the generator. Equal scores and seeds give equal intervals on every machine.
    pub seed: u64,
}

impl Default for Bootstrap {
    /// 1,000 resamples and 95 %, like `rouge-score`, with seed 0.
    fn default() -> Self {
        Self {
            resamples: 1_000,
            confidence: 0.95,
            seed: 0,
        }
    }
}

impl Bootstrap {
    /// Returns the share of resampled means beyond each end of the interval.
    fn tail(&self) -> f64 {
        let confidence = if self.confidence.is_nan() {
            0.0
        } else {
            self.confidence.clamp(0.0, 1.0)
        };
        (1.0 - confidence) / 2.0
    }
}

/// Mean scores of many pairs, each with a confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RougeSummary {
    /// Number of pairs.
    pub count: u64,
    /// Mean of every score. The F-measure is the mean of the pairs' F-measures, not the F-measure of the mean precision
    /// and recall.
    pub mean: RougeScores,
    /// Lower end of the interval of each mean.
    pub low: RougeScores,
    /// Upper end of the interval of each mean.
    pub high: RougeScores,
}

/// Mean of one score over many pairs, with a confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Plain mean.
    pub mean: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// Returns the mean of one score with its bootstrap interval, or `None` without values. Draws the same pairs as
/// [`summarize`].
pub fn interval(values: &[f64], bootstrap: &Bootstrap) -> Option<Interval> {
    let count = values.len();
    if count == 0 {
        return None;
    }
    let mean_of = |picked: &mut dyn Iterator<Item = usize>| {
        picked.map(|index| values[index]).sum::<f64>() / count as f64
    };
    let mut random = SplitMix64(bootstrap.seed);
    let mut means: Vec<f64> = (0..bootstrap.resamples.max(1))
        .map(|_| mean_of(&mut (0..count).map(|_| random.below(count))))
        .collect();
    means.sort_by(f64::total_cmp);
    let tail = bootstrap.tail();
    Some(Interval {
        mean: mean_of(&mut (0..count)),
        low: quantile(&means, tail),
        high: quantile(&means, 1.0 - tail),
    })
}

/// Number of values in a [`RougeScores`], in a fixed order.
const FIGURES: usize = 12;

/// Returns the mean of every score, or `None` without scores.
pub fn mean(scores: &[RougeScores]) -> Option<RougeScores> {
    (!scores.is_empty()).then(|| {
        let rows: Vec<_> = scores.iter().map(to_row).collect();
        from_row(&mean_of(&rows, 0..rows.len()))
    })
}

/// Returns the mean of every score with its bootstrap interval, or `None` without scores.
///
/// Draws whole pairs with replacement. The ends of the interval are quantiles of the resampled means, interpolated
/// linearly. Takes `resamples * scores.len()` steps.
pub fn summarize(scores: &[RougeScores], bootstrap: &Bootstrap) -> Option<RougeSummary> {
    let mean = mean(scores)?;
    let rows: Vec<_> = scores.iter().map(to_row).collect();
    let mut random = SplitMix64(bootstrap.seed);
    let mut means: [Vec<f64>; FIGURES] = Default::default();
    for _ in 0..bootstrap.resamples.max(1) {
        let drawn = mean_of(&rows, (0..rows.len()).map(|_| random.below(rows.len())));
        for (column, figure) in means.iter_mut().zip(drawn) {
            column.push(figure);
        }
    }
    let tail = bootstrap.tail();
    let mut low = [0.0; FIGURES];
    let mut high = [0.0; FIGURES];
    for ((column, low), high) in means.iter_mut().zip(&mut low).zip(&mut high) {
        column.sort_by(f64::total_cmp);
        *low = quantile(column, tail);
        *high = quantile(column, 1.0 - tail);
    }
    Some(RougeSummary {
        count: scores.len() as u64,
        mean,
        low: from_row(&low),
        high: from_row(&high),
    })
}

fn mean_of(rows: &[[f64; FIGURES]], picked: impl Iterator<Item = usize>) -> [f64; FIGURES] {
    let mut sums = [0.0; FIGURES];
    for index in picked {
        for (sum, figure) in sums.iter_mut().zip(&rows[index]) {
            *sum += figure;
        }
    }
    sums.map(|sum| sum / rows.len() as f64)
}

/// Returns the quantile of sorted, non-empty values, interpolated linearly (Hyndman and Fan 1996, type 7).
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let position = share * (sorted.len() - 1) as f64;
    let below = (position.floor() as usize).min(sorted.len() - 1);
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}

fn to_row(scores: &RougeScores) -> [f64; FIGURES] {
    let RougeScores {
        rouge1: a,
        rouge2: b,
        rouge_l: c,
        rouge_lsum: d,
    } = scores;
    let mut row = [0.0; FIGURES];
    for (cells, prf) in row.chunks_exact_mut(3).zip([a, b, c, d]) {
        cells.copy_from_slice(&[prf.precision, prf.recall, prf.fmeasure]);
    }
    row
}

fn from_row(row: &[f64; FIGURES]) -> RougeScores {
    let prf = |at: usize| Prf {
        precision: row[at],
        recall: row[at + 1],
        fmeasure: row[at + 2],
    };
    RougeScores {
        rouge1: prf(0),
        rouge2: prf(3),
        rouge_l: prf(6),
        rouge_lsum: prf(9),
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014): small, with a sequence that never changes.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `bound`. The bias is under `bound / 2^64`, far below the width of an interval.
    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_f(fmeasure: f64) -> RougeScores {
        RougeScores {
            rouge1: Prf {
                fmeasure,
                ..Prf::default()
            },
            ..RougeScores::default()
        }
    }

    #[test]
    fn no_scores_have_no_mean() {
        assert_eq!(mean(&[]), None);
        assert_eq!(summarize(&[], &Bootstrap::default()), None);
    }

    #[test]
    fn the_generator_equals_the_published_one() {
        let mut random = SplitMix64(1_234_567);
        assert_eq!(
            [random.next(), random.next()],
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]
        );
    }

    #[test]
    fn intervals_are_reproducible_and_contain_the_mean() {
        let scores: Vec<_> = (0..50).map(|i| with_f(f64::from(i) / 49.0)).collect();
        let summary = summarize(&scores, &Bootstrap::default()).unwrap();
        assert_eq!(summary, summarize(&scores, &Bootstrap::default()).unwrap());
        assert_ne!(
            summary,
            summarize(
                &scores,
                &Bootstrap {
                    seed: 1,
                    ..Bootstrap::default()
                }
            )
            .unwrap()
        );
        let (low, mid, high) = (summary.low.rouge1, summary.mean.rouge1, summary.high.rouge1);
        assert!((mid.fmeasure - 0.5).abs() < 1e-12);
        // The standard error of the mean is 0.0421; 1.96 of them span 0.165.
        assert!(
            (high.fmeasure - low.fmeasure - 0.165).abs() < 0.02,
            "{low:?} {high:?}"
        );
        assert!(low.fmeasure < mid.fmeasure && mid.fmeasure < high.fmeasure);
    }

    #[test]
    fn interval_of_one_score_equals_its_interval_in_the_summary() {
        let scores: Vec<_> = (0..20).map(|i| with_f(f64::from(i) / 19.0)).collect();
        let values: Vec<f64> = scores.iter().map(|scores| scores.rouge1.fmeasure).collect();
        let all = summarize(&scores, &Bootstrap::default()).unwrap();
        let one = interval(&values, &Bootstrap::default()).unwrap();
        let of_all = (
            all.mean.rouge1.fmeasure,
            all.low.rouge1.fmeasure,
            all.high.rouge1.fmeasure,
        );
        assert_eq!((one.mean, one.low, one.high), of_all);
        assert_eq!(interval(&[], &Bootstrap::default()), None);
    }

    #[test]
    fn invalid_settings_are_clamped() {
        for confidence in [f64::NAN, -1.0, 7.0, f64::INFINITY] {
            let bootstrap = Bootstrap {
                resamples: 0,
                confidence,
                seed: 3,
            };
            let summary = summarize(&[with_f(0.25), with_f(0.75)], &bootstrap).unwrap();
            assert!(summary.low.rouge1.fmeasure <= summary.high.rouge1.fmeasure);
        }
    }

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), 3.0);
        assert_eq!(quantile(&[5.0], 0.3), 5.0);
    }
}
