//! Attention and elementwise functions of decoder-only models.

use proptest::prelude::*;

use super::*;

/// Computes causal attention of the last `count` of the tokens in f64. Rows are `[queries | keys | values]`.
fn expected(
    rows: &[f32],
    (heads, shared, d_kv): (usize, usize, usize),
    count: usize,
    window: Option<usize>,
) -> Vec<f64> {
    let kv_inner = heads / shared * d_kv;
    let stride = heads * d_kv + 2 * kv_inner;
    let tokens = rows.len() / stride;
    let mut out = Vec::new();
    for query in tokens - count..tokens {
        let first = window.map_or(0, |window| (query + 1).saturating_sub(window));
        for head in 0..heads {
            let part = |token: usize, offset: usize| &rows[token * stride + offset..][..d_kv];
            let key = |token| part(token, heads * d_kv + head / shared * d_kv);
            let value = |token| part(token, heads * d_kv + kv_inner + head / shared * d_kv);
            let score = |token| exact(part(query, head * d_kv), key(token), d_kv)[0].exp();
            let scores: Vec<f64> = (first..=query).map(score).collect();
            let total: f64 = scores.iter().sum();
            for x in 0..d_kv {
                let seen = scores.iter().zip(first..);
                let sum: f64 = seen
                    .map(|(score, token)| score * f64::from(value(token)[x]))
                    .sum();
                out.push(sum / total);
            }
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn attention_to_a_prompt_is_right_in_any_chunks(
        tokens in 1usize..200, shared in 1usize..4, kv_heads in 1usize..3, d_kv in 1usize..40, cut in 0usize..200,
        window in proptest::option::of(1usize..90), seed in 0u64..1000,
    ) {
        let (heads, kv_inner) = (kv_heads * shared, kv_heads * d_kv);
        let inner = heads * d_kv;
        let stride = inner + 2 * kv_inner;
        let rows = numbers(tokens * stride, seed);
        let expected = expected(&rows, (heads, shared, d_kv), tokens, window);
        let slots: Vec<u32> = (0..tokens as u32).map(|token| (token * 7 + 3) % 211).collect();
        for precision in [Precision::F32, Precision::Int8] {
            let tolerance = if precision == Precision::F32 { 1e-5 } else { 4e-2 };
            for isa in isas() {
                let mut cache = SlotCache::new(precision, 2, kv_heads, d_kv);
                cache.reserve(211);
                for (slot, row) in slots.iter().zip(rows.chunks_exact(stride)) {
                    let (keys, values) = row[inner..].split_at(kv_inner);
                    cache.store(isa, 1, *slot, keys, values);
                }
                let mut scratch = AttentionScratch::default();
                let mut read = |first: usize, end: usize| {
                    let mut out = vec![f32::NAN; (end - first) * inner];
                    let queries = &rows[first * stride..];
                    attend_prompt(
                        isa, &mut scratch, queries, stride, end - first, &cache, 1, &slots[..end], window, &mut out,
                    );
                    out
                };
                let whole = read(0, tokens);
                for (found, expected) in whole.iter().zip(&expected) {
                    prop_assert!((f64::from(*found) - expected).abs() < tolerance, "{found} {expected}");
                }
                let cut = cut % tokens;
                if cut > 0 {
                    prop_assert_eq!(bits(&[read(0, cut), read(cut, tokens)].concat()), bits(&whole));
                }
                // The last token, as a decoding step computes it.
                let mut out = vec![f32::NAN; inner];
                let seen = &slots[window.map_or(0, |window| tokens.saturating_sub(window))..];
                let query = &rows[(tokens - 1) * stride..][..inner];
                attend_slots(isa, &mut scratch, query, &cache, 1, seen, &[], 0, &mut out);
                for (found, expected) in out.iter().zip(&expected[(tokens - 1) * inner..]) {
                    prop_assert!((f64::from(*found) - expected).abs() < tolerance, "{found} {expected}");
                }
            }
        }
    }

    #[test]
    fn silu_gates_and_rotations_are_right(width in 1usize..90, heads in 1usize..4, seed in 0u64..1000) {
        let mut rows = numbers(2 * width * heads, seed);
        rows.iter_mut().for_each(|value| *value *= 20.0);
        let angles = numbers(width, seed + 1);
        let (cos, sin): (Vec<f32>, Vec<f32>) = angles.iter().map(|angle| (angle.cos(), angle.sin())).unzip();
        for isa in isas() {
            let mut out = vec![f32::NAN; width * heads];
            silu_gate(isa, &rows, width, &mut out);
            for (row, out) in rows.chunks_exact(2 * width).zip(out.chunks_exact(width)) {
                for x in 0..width {
                    let gate = f64::from(row[x]);
                    let expected = gate / (1.0 + (-gate).exp()) * f64::from(row[width + x]);
                    prop_assert!((f64::from(out[x]) - expected).abs() < 1e-4, "{} {expected}", out[x]);
                }
            }
            let mut rotated = rows.clone();
            rotate(isa, &mut rotated, &cos, &sin, 0.5);
            for (row, out) in rows.chunks_exact(2 * width).zip(rotated.chunks_exact(2 * width)) {
                for x in 0..width {
                    let expected = 0.5 * (row[x] * cos[x] - row[width + x] * sin[x]);
                    prop_assert!((out[x] - expected).abs() < 1e-4);
                    let expected = 0.5 * (row[width + x] * cos[x] + row[x] * sin[x]);
                    prop_assert!((out[width + x] - expected).abs() < 1e-4);
                }
            }
        }
    }
}
