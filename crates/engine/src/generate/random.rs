//! The random numbers of one request. Each request has its own generator, so the rest of the batch has no influence.

use super::scores::log_sum_exp;

/// SplitMix64 (Steele, Lea and Flood 2014): small, and identical on every platform and in every version.
#[derive(Debug, Clone)]
pub(crate) struct RowRng(u64);

impl RowRng {
    /// Creates a generator from a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number in (0, 1), exclusive at both ends so that its logarithm is finite.
    fn uniform(&mut self) -> f64 {
        ((self.next() >> 12) as f64 + 0.5) / (1u64 << 52) as f64
    }

    /// Draws an index with probability softmax(scores).
    pub(crate) fn draw(&mut self, scores: &[f32]) -> usize {
        let total = f64::from(log_sum_exp(scores));
        let mut left = self.uniform();
        let mut last = 0;
        for (index, score) in scores
            .iter()
            .enumerate()
            .filter(|(_, score)| **score > f32::NEG_INFINITY)
        {
            left -= (f64::from(*score) - total).exp();
            last = index;
            if left < 0.0 {
                break;
            }
        }
        // Rounding can leave a remainder, which belongs to the last index.
        last
    }

    /// Draws `count` distinct indices, in drawing order, each with probability softmax(scores) among those not yet
    /// drawn. Impossible ones come last, and only if there are not enough others.
    ///
    /// Uses the Gumbel-top-k trick: the highest values of score + Gumbel noise are such a draw (Kool, van Hoof and
    /// Welling 2019).
    pub(crate) fn draw_several(&mut self, scores: &[f32], count: usize) -> Vec<(usize, f32)> {
        let mut keys: Vec<(usize, f64)> = Vec::with_capacity(scores.len());
        for (index, score) in scores.iter().enumerate() {
            let key = match *score > f32::NEG_INFINITY {
                true => f64::from(*score) - (-self.uniform().ln()).ln(),
                false => f64::NEG_INFINITY,
            };
            keys.push((index, key));
        }
        let count = count.min(keys.len());
        let order = |a: &(usize, f64), b: &(usize, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if count < keys.len() {
            keys.select_nth_unstable_by(count, order);
            keys.truncate(count);
        }
        keys.sort_by(order);
        keys.into_iter()
            .map(|(index, _)| (index, scores[index]))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First outputs for seed 1234567, from the reference implementation by Sebastiano Vigna.
    #[test]
    fn the_generator_is_splitmix64() {
        let mut rng = RowRng::new(1_234_567);
        assert_eq!(
            [rng.next(), rng.next(), rng.next()],
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    /// Σ (observed - expected)² / expected.
    fn chi_square(counts: &[usize], probabilities: &[f64]) -> f64 {
        let total: usize = counts.iter().sum();
        let term =
            |(count, p): (&usize, &f64)| (*count as f64 - p * total as f64).powi(2) / (p * total as f64);
        counts.iter().zip(probabilities).map(term).sum()
    }

    #[test]
    fn single_draws_follow_the_distribution() {
        let p = [0.5, 0.25, 0.15, 0.07, 0.03];
        let scores = p.map(|p: f64| p.ln() as f32 + 3.0);
        let (mut rng, mut counts) = (RowRng::new(7), [0; 5]);
        (0..50_000).for_each(|_| counts[rng.draw(&scores)] += 1);
        // Above 18.5 with probability 0.001 at 4 degrees of freedom.
        assert!(chi_square(&counts, &p) < 18.5, "{counts:?}");
    }

    #[test]
    fn several_draws_are_successive_draws_without_replacement() {
        let p = [0.5f64, 0.3, 0.15, 0.05];
        let scores = [
            p[0].ln() as f32,
            f32::NEG_INFINITY,
            p[1].ln() as f32,
            p[2].ln() as f32,
            p[3].ln() as f32,
        ];
        let place = [0, 4, 1, 2, 3];
        let (mut rng, mut counts) = (RowRng::new(11), vec![0; 16]);
        for _ in 0..60_000 {
            let drawn = rng.draw_several(&scores, 2);
            counts[place[drawn[0].0] * 4 + place[drawn[1].0]] += 1;
        }
        let (mut seen, mut expected) = (Vec::new(), Vec::new());
        for first in 0..4 {
            for second in (0..4).filter(|second| *second != first) {
                seen.push(counts[first * 4 + second]);
                expected.push(p[first] * p[second] / (1.0 - p[first]));
            }
        }
        // Above 31.3 with probability 0.001 at 11 degrees of freedom.
        assert!(chi_square(&seen, &expected) < 31.3, "{seen:?}");
        assert_eq!(rng.draw_several(&scores, 9).len(), 5);
        assert_eq!(rng.draw_several(&scores, 9)[4].0, 1);
    }
}
