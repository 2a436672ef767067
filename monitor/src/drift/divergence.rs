//! How far two distributions are apart: pure arithmetic.

/// Bins into which a baseline is divided, at its deciles.
pub(super) const BINS: usize = 10;
/// Least share of a bin: an empty one would make the index infinite.
const LEAST_SHARE: f64 = 1e-4;
/// Largest shift that is shown, for a baseline that does not vary at all.
const MOST_SHIFT: f64 = 1e3;

/// Shares of bins with these counts.
pub(super) fn shares(counts: &[u64]) -> Vec<f64> {
    let total: u64 = counts.iter().sum();
    counts
        .iter()
        .map(|count| *count as f64 / total.max(1) as f64)
        .collect()
}

/// Population stability index (Siddiqi 2006, *Credit Risk Scorecards*): the sum over all bins of
/// `(now - then) * ln(now / then)`. 0 for equal shares; what is below one in ten thousand counts as that.
pub(super) fn stability_index(then: &[f64], now: &[f64]) -> f64 {
    let bins = then.iter().zip(now);
    bins.map(|(then, now)| {
        let (then, now) = (then.max(LEAST_SHARE), now.max(LEAST_SHARE));
        (now - then) * (now / then).ln()
    })
    .sum()
}

/// By how many standard deviations of the baseline the mean has moved. A baseline that does not vary has none to measure
/// by: then it is half the variance of the day (what the two have together), so that a few that differ are no drift.
pub(super) fn mean_shift(then: Moments, now: Moments) -> f64 {
    let moved = now.mean - then.mean;
    // Means, and deviations, of equal numbers differ in the last bits.
    let noise = 1e-9 * then.mean.abs().max(1e-9);
    if moved.abs() <= noise {
        return 0.0;
    }
    let scale = if then.deviation > noise {
        then.deviation
    } else {
        now.deviation / std::f64::consts::SQRT_2
    };
    if scale <= noise {
        return MOST_SHIFT.copysign(moved);
    }
    (moved / scale).clamp(-MOST_SHIFT, MOST_SHIFT)
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
    fn the_index_is_that_of_the_textbook() {
        // 0.2 * ln(0.7 / 0.5) and -0.2 * ln(0.3 / 0.5).
        let index = stability_index(&[0.5, 0.5], &[0.7, 0.3]);
        assert!((index - 0.2 * ((1.4_f64).ln() - (0.6_f64).ln())).abs() < 1e-12);
        assert!(stability_index(&[1.0, 0.0], &[0.0, 1.0]).is_finite());
    }

    #[test]
    fn a_shift_is_in_deviations_and_bounded() {
        let of = |mean, deviation| Moments { mean, deviation };
        assert_eq!(mean_shift(of(10.0, 2.0), of(13.0, 1.0)), 1.5);
        assert_eq!(mean_shift(of(10.0, 0.0), of(10.0, 0.0)), 0.0);
        assert_eq!(mean_shift(of(10.0, 0.0), of(9.0, 0.0)), -MOST_SHIFT);
    }

    #[test]
    fn one_of_a_thousand_that_differs_from_a_constant_baseline_is_no_drift() {
        let then = Moments {
            mean: 1.0,
            deviation: 0.0,
        };
        // 999 times 1 and once 0.5.
        let now = Moments {
            mean: 0.9995,
            deviation: (0.25_f64 * 0.001 * 0.999).sqrt(),
        };
        let shift = mean_shift(then, now);
        assert!(shift < 0.0 && shift > -0.1, "{shift}");
        // All of them moved, and hardly vary.
        let moved = Moments {
            mean: 0.5,
            deviation: 0.001,
        };
        assert!(mean_shift(then, moved) < -100.0);
    }

    proptest! {
        #[test]
        fn the_index_is_never_negative_and_zero_only_for_equal_shares(
            then in proptest::collection::vec(0_u64..1_000, BINS),
            now in proptest::collection::vec(0_u64..1_000, BINS),
        ) {
            let (then, now) = (shares(&then), shares(&now));
            prop_assert!(stability_index(&then, &now) >= 0.0);
            prop_assert_eq!(stability_index(&then, &then), 0.0);
            let back = stability_index(&now, &then);
            prop_assert!((stability_index(&then, &now) - back).abs() < 1e-9);
        }
    }
}
