//! Divergence of two distributions.

/// Number of bins of a baseline, divided at its deciles.
pub(super) const BINS: usize = 10;
/// Smallest share of a bin. An empty bin would make the index infinite.
const MIN_SHARE: f64 = 1e-4;
/// Largest shift, which a baseline without variance would otherwise exceed.
const MAX_SHIFT: f64 = 1e3;

/// Returns the share of each bin.
pub(super) fn shares(counts: &[u64]) -> Vec<f64> {
    let total: u64 = counts.iter().sum();
    counts
        .iter()
        .map(|count| *count as f64 / total.max(1) as f64)
        .collect()
}

/// Returns the population stability index (Siddiqi 2006, *Credit Risk Scorecards*).
///
/// It is the sum over all bins of `(current - baseline) * ln(current / baseline)`, so 0 for equal shares. Shares below
/// 0.0001 count as that.
pub(super) fn stability_index(baseline: &[f64], current: &[f64]) -> f64 {
    let bins = baseline.iter().zip(current);
    bins.map(|(baseline, current)| {
        let (baseline, current) = (baseline.max(MIN_SHARE), current.max(MIN_SHARE));
        (current - baseline) * (current / baseline).ln()
    })
    .sum()
}

/// Returns by how many standard deviations of the baseline the mean has moved.
///
/// For a baseline without variance, the scale is the pooled deviation: the day's, divided by √2. A few values that
/// differ from a constant are then no drift.
pub(super) fn mean_shift(baseline: Moments, current: Moments) -> f64 {
    let moved = current.mean - baseline.mean;
    // Means and deviations of equal values differ in the last bits.
    let epsilon = 1e-9 * baseline.mean.abs().max(1e-9);
    if moved.abs() <= epsilon {
        return 0.0;
    }
    let scale = if baseline.deviation > epsilon {
        baseline.deviation
    } else {
        current.deviation / std::f64::consts::SQRT_2
    };
    if scale <= epsilon {
        return MAX_SHIFT.copysign(moved);
    }
    (moved / scale).clamp(-MAX_SHIFT, MAX_SHIFT)
}

/// Mean and standard deviation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Moments {
    pub(super) mean: f64,
    pub(super) deviation: f64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_index_matches_the_textbook() {
        // 0.2 * ln(0.7 / 0.5) and -0.2 * ln(0.3 / 0.5).
        let index = stability_index(&[0.5, 0.5], &[0.7, 0.3]);
        assert!((index - 0.2 * ((1.4_f64).ln() - (0.6_f64).ln())).abs() < 1e-12);
        assert!(stability_index(&[1.0, 0.0], &[0.0, 1.0]).is_finite());
    }

    #[test]
    fn a_shift_is_in_standard_deviations_up_to_a_maximum() {
        let moments = |mean, deviation| Moments { mean, deviation };
        assert_eq!(mean_shift(moments(10.0, 2.0), moments(13.0, 1.0)), 1.5);
        assert_eq!(mean_shift(moments(10.0, 0.0), moments(10.0, 0.0)), 0.0);
        assert_eq!(mean_shift(moments(10.0, 0.0), moments(9.0, 0.0)), -MAX_SHIFT);
    }

    #[test]
    fn one_outlier_against_a_constant_baseline_is_not_drift() {
        let baseline = Moments {
            mean: 1.0,
            deviation: 0.0,
        };
        // 999 values of 1 and one of 0.5.
        let current = Moments {
            mean: 0.9995,
            deviation: (0.25_f64 * 0.001 * 0.999).sqrt(),
        };
        let shift = mean_shift(baseline, current);
        assert!(shift < 0.0 && shift > -0.1, "{shift}");
        // All values moved, and hardly vary.
        let moved = Moments {
            mean: 0.5,
            deviation: 0.001,
        };
        assert!(mean_shift(baseline, moved) < -100.0);
    }

    proptest! {
        #[test]
        fn the_index_is_symmetric_non_negative_and_zero_for_equal_shares(
            baseline in proptest::collection::vec(0_u64..1_000, BINS),
            current in proptest::collection::vec(0_u64..1_000, BINS),
        ) {
            let (baseline, current) = (shares(&baseline), shares(&current));
            prop_assert!(stability_index(&baseline, &current) >= 0.0);
            prop_assert_eq!(stability_index(&baseline, &baseline), 0.0);
            let back = stability_index(&current, &baseline);
            prop_assert!((stability_index(&baseline, &current) - back).abs() < 1e-9);
        }
    }
}
