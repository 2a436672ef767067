//! Scores of summaries against references, and their means.

use precis_scoring::{Bootstrap, Interval, Rouge, bleu, interval};
use serde::{Deserialize, Serialize};

/// Pairs up to which an interval is resampled. With more, the normal approximation is as good and needs no memory.
const MAX_RESAMPLED: usize = 10_000;
/// Quantile of the normal distribution for an interval of 95 %.
const Z: f64 = 1.959_963_985;

/// F-measures of ROUGE, 0 to 1, and BLEU, 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figures {
    rouge1: f64,
    rouge2: f64,
    #[serde(rename = "rougeL")]
    rouge_l: f64,
    #[serde(rename = "rougeLsum")]
    rouge_lsum: f64,
    bleu: f64,
}

impl Figures {
    /// Names of the figures, in the order of [`values`](Self::values).
    pub(crate) const NAMES: [&'static str; 5] = ["rouge1", "rouge2", "rougeL", "rougeLsum", "bleu"];

    /// Returns the figures.
    pub(crate) fn values(&self) -> [f64; 5] {
        [self.rouge1, self.rouge2, self.rouge_l, self.rouge_lsum, self.bleu]
    }
}

/// Scores pairs.
#[derive(Debug, Default)]
pub(crate) struct Scorer(Rouge);

impl Scorer {
    /// Creates a scorer that compares stems instead of words if `stemmed`.
    pub(crate) fn new(stemmed: bool) -> Self {
        Self(Rouge::new(stemmed))
    }

    /// Scores a summary against its reference.
    ///
    /// # Errors
    /// If the texts are too long to compare.
    pub(crate) fn score(&self, reference: &str, summary: &str) -> Result<Figures, String> {
        let rouge = self
            .0
            .try_score(reference, summary, Rouge::DEFAULT_LIMIT)
            .map_err(|error| error.to_string())?;
        Ok(Figures {
            rouge1: rouge.rouge1.fmeasure,
            rouge2: rouge.rouge2.fmeasure,
            rouge_l: rouge.rouge_l.fmeasure,
            rouge_lsum: rouge.rouge_lsum.fmeasure,
            bleu: bleu(reference, summary).score,
        })
    }
}

/// The mean of a figure, with its interval of 95 %.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Mean {
    #[serde(skip)]
    name: &'static str,
    mean: f64,
    low: f64,
    high: f64,
}

/// Adds up figures. Takes the same memory for any number of pairs.
#[derive(Debug, Default)]
pub(crate) struct Statistics {
    count: u64,
    means: [f64; 5],
    /// Sums of squared deviations from the means.
    squares: [f64; 5],
    /// The first pairs.
    first: Vec<[f64; 5]>,
}

impl Statistics {
    /// Adds a pair.
    pub(crate) fn add(&mut self, figures: &Figures) {
        self.count += 1;
        let values = figures.values();
        for ((mean, squares), value) in self.means.iter_mut().zip(&mut self.squares).zip(values) {
            let deviation = value - *mean;
            *mean += deviation / self.count as f64;
            *squares += deviation * (value - *mean);
        }
        if self.first.len() <= MAX_RESAMPLED {
            self.first.push(values);
        }
    }

    /// Returns the number of pairs.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Returns the means; none without pairs.
    pub(crate) fn means(&self) -> Vec<Mean> {
        let of = |(index, name): (usize, &&'static str)| {
            let found = self.interval(index)?;
            Some(Mean {
                name,
                mean: found.mean,
                low: found.low,
                high: found.high,
            })
        };
        Figures::NAMES.iter().enumerate().filter_map(of).collect()
    }

    fn interval(&self, index: usize) -> Option<Interval> {
        if self.first.len() <= MAX_RESAMPLED {
            let values: Vec<f64> = self.first.iter().map(|pair| pair[index]).collect();
            return interval(&values, &Bootstrap::default());
        }
        let count = self.count as f64;
        let mean = self.means[index];
        let half = Z * (self.squares[index] / (count - 1.0) / count).sqrt();
        Some(Interval {
            mean,
            low: mean - half,
            high: mean + half,
        })
    }
}

/// Writes means as a table.
pub(crate) fn table(means: &[Mean]) -> String {
    let mut text = format!("{:<10} {:>9}   {}\n", "score", "mean", "95 % interval");
    for Mean {
        name,
        mean,
        low,
        high,
    } in means
    {
        text.push_str(&format!("{name:<10} {mean:>9.4}   {low:.4} to {high:.4}\n"));
    }
    text
}

/// Returns means as a JSON object.
pub(crate) fn object(means: &[Mean]) -> serde_json::Value {
    means
        .iter()
        .map(|mean| (mean.name.to_owned(), serde_json::json!(mean)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_hardly_changes_where_resampling_ends() {
        let scorer = Scorer::default();
        let pairs = [("a b c d", "a b c d"), ("a b c d", "a x c"), ("a b", "c d")];
        let figures: Vec<Figures> = pairs
            .iter()
            .map(|(reference, summary)| scorer.score(reference, summary).unwrap())
            .collect();
        assert_eq!((figures[0].rouge1, figures[2].rouge1), (1.0, 0.0));
        let of = |count: usize| {
            let mut statistics = Statistics::default();
            (0..count).for_each(|n| statistics.add(&figures[n % 3]));
            assert_eq!(statistics.count(), count as u64);
            statistics.means().swap_remove(0)
        };
        let (resampled, computed) = (of(9_999), of(10_002));
        assert!(resampled.low < resampled.mean && resampled.mean < resampled.high);
        for (one, other) in [
            (resampled.mean, computed.mean),
            (resampled.low, computed.low),
            (resampled.high, computed.high),
        ] {
            assert!((one - other).abs() < 1e-3, "{resampled:?} {computed:?}");
        }
        assert!(Statistics::default().means().is_empty());
    }
}
