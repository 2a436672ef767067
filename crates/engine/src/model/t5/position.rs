//! T5's relative position bias: a learned value per head and distance bucket, added to the attention scores.

/// Returns the bucket of `relative = key position - query position`.
///
/// In the encoder (bidirectional), half of the buckets are for keys after the query. In the decoder, all are for keys
/// at or before it. Per direction, half of the buckets hold one distance each, and the rest grow logarithmically up to
/// `max_distance`. Equals `T5Attention._relative_position_bucket` of transformers.
pub(crate) fn bucket(relative: i64, bidirectional: bool, buckets: usize, max_distance: usize) -> u32 {
    let (buckets, offset, distance) = if bidirectional {
        let half = buckets / 2;
        (half, if relative > 0 { half } else { 0 }, relative.unsigned_abs())
    } else {
        (buckets, 0, (-relative).max(0).unsigned_abs())
    };
    let exact = buckets / 2;
    let distance = usize::try_from(distance).unwrap_or(usize::MAX);
    let within = if distance < exact {
        distance
    } else {
        // In f32, as in transformers, so that bucket edges fall on the same distance.
        let ratio = (distance as f32 / exact as f32).ln() / (max_distance as f64 / exact as f64).ln() as f32;
        (exact + (ratio * (buckets - exact) as f32) as usize).min(buckets - 1)
    };
    (offset + within) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From `T5Attention._relative_position_bucket` with 32 buckets and distance 128.
    #[test]
    fn buckets_equal_those_of_transformers() {
        let both = |relative| bucket(relative, true, 32, 128);
        assert_eq!(
            [0, -1, -7, -8, -15, -16, -127, -128, -5000].map(both),
            [0, 1, 7, 8, 9, 10, 15, 15, 15]
        );
        assert_eq!([1, 7, 8, 500].map(both), [17, 23, 24, 31]);
        let back = |relative| bucket(relative, false, 32, 128);
        assert_eq!(
            [0, -1, -15, -16, -20, -64, -127, -128, -9000].map(back),
            [0, 1, 15, 16, 17, 26, 31, 31, 31]
        );
        assert_eq!([1, 40].map(back), [0, 0]);
    }
}
