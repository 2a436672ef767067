//! Compares every kernel with f64 arithmetic, and every instruction set with the portable code.

use proptest::prelude::*;

use super::*;

mod causal;
mod tiles;

fn isas() -> Vec<Isa> {
    let mut isas = vec![
        Isa::portable(),
        Isa::avx2_or_less(),
        Isa::without_amx(),
        Isa::detect(),
    ];
    isas.dedup();
    isas
}

/// Pseudo-random values in -1..1.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Computes rows · weightsᵀ in f64.
fn exact(rows: &[f32], weights: &[f32], inputs: usize) -> Vec<f64> {
    let dot = |row: &[f32], weights: &[f32]| {
        let products = row.iter().zip(weights);
        products.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
    };
    let weights = || weights.chunks_exact(inputs);
    rows.chunks_exact(inputs)
        .flat_map(|row| weights().map(move |weights| dot(row, weights)))
        .collect()
}

fn computed(isa: Isa, precision: Precision, rows: &[f32], weights: &[f32], inputs: usize) -> Vec<f32> {
    let packed = PackedWeights::pack(precision, inputs, &[weights]);
    let mut activations = Activations::default();
    activations.fill(isa, precision, rows, inputs);
    let mut out = vec![f32::NAN; activations.count() * packed.outputs()];
    product(isa, &activations, &packed, Epilogue::Store, &mut out);
    out
}

/// Row widths, half of which are whole AMX tile lines.
fn widths(most: usize) -> impl Strategy<Value = usize> {
    prop_oneof![1..most, (1..most.div_ceil(64)).prop_map(|lines| 64 * lines)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn products_are_right_whatever_the_shape(
        count in 0usize..70, inputs in widths(1200), outputs in 1usize..140, seed in 0u64..1000,
    ) {
        let (rows, weights) = (numbers(count * inputs, seed), numbers(outputs * inputs, seed + 1));
        let exact = exact(&rows, &weights, inputs);
        let root = (inputs as f64).sqrt();
        for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
            let tolerance = match precision {
                Precision::F32 => 1e-6 * inputs as f64,
                Precision::Bf16 => 8e-3 * root,
                Precision::Int8 => 1.5e-2 * root,
            };
            let all: Vec<Vec<f32>> = isas()
                .into_iter()
                .map(|isa| computed(isa, precision, &rows, &weights, inputs))
                .collect();
            for found in &all {
                for (found, exact) in found.iter().zip(&exact) {
                    prop_assert!((f64::from(*found) - exact).abs() <= tolerance, "{precision:?} {found} {exact}");
                }
                if precision == Precision::Int8 {
                    prop_assert_eq!(bits(found), bits(&all[0]));
                } else {
                    for (found, portable) in found.iter().zip(&all[0]) {
                        prop_assert!((found - portable).abs() <= 2e-6 * inputs as f32);
                    }
                }
            }
        }
    }

    #[test]
    fn non_finite_inputs_stay_non_finite(
        inputs in 1usize..300, place in 0usize..300, infinite in any::<bool>(), seed in 0u64..1000,
    ) {
        let outputs = 70;
        let (mut rows, weights) = (numbers(2 * inputs, seed), numbers(outputs * inputs, seed + 1));
        rows[place % inputs] = if infinite { f32::INFINITY } else { f32::NAN };
        for isa in isas() {
            for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
                let found = computed(isa, precision, &rows, &weights, inputs);
                // A weight may be 0, but infinity times 0 is NaN too.
                prop_assert!(found[..outputs].iter().all(|number| !number.is_finite()), "{precision:?}");
                prop_assert!(found[outputs..].iter().all(|number| number.is_finite()));
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_neighbours(count in 1usize..70, inputs in widths(700), seed in 0u64..1000) {
        let outputs = 100;
        let (rows, weights) = (numbers(count * inputs, seed), numbers(outputs * inputs, seed + 1));
        for isa in isas() {
            for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
                let all = computed(isa, precision, &rows, &weights, inputs);
                for (row, together) in rows.chunks_exact(inputs).zip(all.chunks_exact(outputs)) {
                    let alone = computed(isa, precision, row, &weights, inputs);
                    prop_assert_eq!(bits(&alone), bits(together));
                }
            }
        }
    }

    #[test]
    fn attention_is_right_whatever_the_shape(
        count in 1usize..30, tokens in 1usize..600, heads in 1usize..4, d_kv in 1usize..80, seed in 0u64..1000,
    ) {
        let inner = heads * d_kv;
        let tokens = tokens.max(count);
        let source = numbers(tokens * 3 * inner, seed);
        let length = 2 * tokens - 1;
        let bias = numbers(heads * length, seed + 1);
        let bias = DistanceBias { values: &bias, length, center: tokens - 1 };
        let at = |token: usize, part: usize, head: usize| {
            &source[token * 3 * inner + part * inner + head * d_kv..][..d_kv]
        };
        for precision in [Precision::F32, Precision::Bf16] {
            let mut first: Option<Vec<f32>> = None;
            for isa in isas() {
                let kv = PackedKeysValues::pack(
                    isa, precision, &source, 3 * inner, inner, 2 * inner, tokens, heads, d_kv,
                );
                let mut out = vec![f32::NAN; count * inner];
                let mut scratch = AttentionScratch::default();
                attend(isa, &mut scratch, &source, 3 * inner, 0, count, &kv, Some(bias), &mut out);
                let tolerance = if precision == Precision::F32 { 1e-5 } else { 4e-2 };
                for row in 0..count {
                    for head in 0..heads {
                        let scores: Vec<f64> = (0..tokens).map(|key| {
                            let dot = exact(at(row, 0, head), at(key, 1, head), d_kv)[0];
                            let place = (bias.center + key - row) + head * length;
                            dot + f64::from(bias.values[place])
                        }).collect();
                        let total: f64 = scores.iter().map(|score| score.exp()).sum();
                        for x in 0..d_kv {
                            let expected: f64 = (0..tokens)
                                .map(|key| scores[key].exp() / total * f64::from(at(key, 2, head)[x]))
                                .sum();
                            let found = f64::from(out[row * inner + head * d_kv + x]);
                            prop_assert!((found - expected).abs() < tolerance, "{precision:?} {found} {expected}");
                        }
                    }
                }
                let first = first.get_or_insert_with(|| out.clone());
                for (found, portable) in out.iter().zip(first) {
                    prop_assert!((found - *portable).abs() < 2e-2);
                }
                // The last query on its own.
                if count > 1 {
                    let row = count - 1;
                    let mut alone = vec![0.0; inner];
                    let moved = DistanceBias { center: bias.center - row, ..bias };
                    attend(isa, &mut scratch, &source[row * 3 * inner..], 3 * inner, 0, 1, &kv, Some(moved), &mut alone);
                    prop_assert_eq!(bits(&alone), bits(&out[row * inner..]));
                }
            }
        }
    }

    #[test]
    fn cached_attention_is_right_whatever_the_shape(
        tokens in 1usize..70, heads in 1usize..4, d_kv in 1usize..80, seed in 0u64..1000,
    ) {
        let inner = heads * d_kv;
        let query = numbers(inner, seed);
        let stored = numbers(tokens * 2 * inner, seed + 1);
        let length = tokens + 3;
        let bias = numbers(heads * length, seed + 2);
        let slots: Vec<u32> = (0..tokens as u32).map(|token| (token * 7 + 3) % 101).collect();
        for precision in [Precision::F32, Precision::Int8] {
            let mut first: Option<Vec<u32>> = None;
            for isa in isas() {
                let mut cache = SlotCache::new(precision, 2, heads, d_kv);
                cache.reserve(101);
                for (slot, stored) in slots.iter().zip(stored.chunks_exact(2 * inner)) {
                    let (keys, values) = stored.split_at(inner);
                    cache.store(isa, 1, *slot, keys, values);
                }
                let mut out = vec![f32::NAN; inner];
                let mut scratch = AttentionScratch::default();
                attend_slots(isa, &mut scratch, &query, &cache, 1, &slots, &bias, length, &mut out);
                for head in 0..heads {
                    let part = |token: usize, part: usize| &stored[(2 * token + part) * inner + head * d_kv..][..d_kv];
                    let scores: Vec<f64> = (0..tokens).map(|token| {
                        let bias = bias[head * length + tokens - 1 - token];
                        exact(&query[head * d_kv..][..d_kv], part(token, 0), d_kv)[0] + f64::from(bias)
                    }).collect();
                    let total: f64 = scores.iter().map(|score| score.exp()).sum();
                    for x in 0..d_kv {
                        let expected: f64 = (0..tokens)
                            .map(|token| scores[token].exp() / total * f64::from(part(token, 1)[x]))
                            .sum();
                        let tolerance = if precision == Precision::F32 { 1e-5 } else { 2e-2 };
                        prop_assert!((f64::from(out[head * d_kv + x]) - expected).abs() < tolerance);
                    }
                }
                let first = first.get_or_insert_with(|| bits(&out));
                prop_assert_eq!(&bits(&out), first);
            }
        }
    }

    #[test]
    fn the_highest_and_the_sum_are_right_in_any_blocks(
        count in 1usize..400, block in 1usize..100, top in 1usize..30, seed in 0u64..1000,
        banned in proptest::collection::btree_set(0u32..400, 0..5),
    ) {
        let mut values = numbers(count, seed);
        values.iter_mut().for_each(|value| *value = (*value * 40.0).round() / 2.0);
        let banned: Vec<u32> = banned.into_iter().collect();
        let mut expected: Vec<(f32, u32)> = values.iter().copied().zip(0..).collect();
        expected.retain(|(_, id)| !banned.contains(id));
        // 0 and -0 are equal, and the lower id comes first.
        expected.sort_by(|a, b| (b.0 + 0.0).total_cmp(&(a.0 + 0.0)).then(a.1.cmp(&b.1)));
        expected.truncate(top);
        let exact = values.iter().map(|value| f64::from(*value).exp()).sum::<f64>().ln();
        for isa in isas() {
            let (mut found, mut sum) = (Top::new(top), LogSumExp::new());
            for (index, values) in values.chunks(block).enumerate() {
                found.feed(isa, values, (index * block) as u32, &banned);
                sum.feed(isa, values);
            }
            prop_assert_eq!(found.entries(), expected.as_slice());
            prop_assert!((f64::from(sum.value()) - exact).abs() < 5e-6 * exact.abs().max(1.0));
        }
    }

    #[test]
    fn exponentials_are_exact_to_the_last_bits(x in -90f32..20.0) {
        let (found, exact) = (f64::from(lanes::exp(x)), f64::from(x).exp());
        prop_assert!(x <= -87.0 || ((found - exact) / exact).abs() < 3e-7, "{x} {found} {exact}");
    }

    #[test]
    fn normalization_and_gelu_are_right(count in 1usize..5, width in 1usize..200, seed in 0u64..1000) {
        let rows = numbers(count * width, seed);
        let weight = numbers(width, seed + 1);
        let halves = numbers(count * 2 * width, seed + 2).iter().map(|value| value * 6.0).collect::<Vec<_>>();
        for isa in isas() {
            let mut out = vec![0.0; rows.len()];
            rms_norm(isa, &rows, &weight, 1e-6, &mut out);
            for (row, out) in rows.chunks_exact(width).zip(out.chunks_exact(width)) {
                let squares: f64 = row.iter().map(|value| f64::from(*value).powi(2)).sum();
                let factor = 1.0 / (squares / width as f64 + 1e-6).sqrt();
                for ((value, weight), out) in row.iter().zip(&weight).zip(out) {
                    let exact = f64::from(*value) * factor * f64::from(*weight);
                    prop_assert!((f64::from(*out) - exact).abs() < 1e-5);
                }
            }
            gelu_gate(isa, &halves, width, &mut out);
            for (row, out) in halves.chunks_exact(2 * width).zip(out.chunks_exact(width)) {
                for ((gate, linear), out) in row[..width].iter().zip(&row[width..]).zip(out) {
                    let (x, linear) = (f64::from(*gate), f64::from(*linear));
                    let tanh = ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh();
                    let exact = 0.5 * x * (1.0 + tanh) * linear;
                    prop_assert!((f64::from(*out) - exact).abs() < 1e-5, "{x} {linear} {out} {exact}");
                }
            }
        }
    }
}

#[test]
fn epilogues_store_add_or_clamp_at_zero() {
    let (rows, weights) = (numbers(7 * 33, 1), numbers(70 * 33, 2));
    for isa in isas() {
        for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
            let packed = PackedWeights::pack(precision, 33, &[&weights[..20 * 33], &weights[20 * 33..]]);
            let mut activations = Activations::default();
            activations.fill(isa, precision, &rows, 33);
            let plain = computed(isa, precision, &rows, &weights, 33);
            let mut out = vec![1.0; plain.len()];
            product(isa, &activations, &packed, Epilogue::Add, &mut out);
            assert!(out.iter().zip(&plain).all(|(out, plain)| *out == 1.0 + plain));
            product(isa, &activations, &packed, Epilogue::Relu, &mut out);
            assert!(out.iter().zip(&plain).all(|(out, plain)| *out == plain.max(0.0)));
            let mut last = vec![0.0; 7 * 6];
            product_columns(isa, &activations, &packed, 64..70, &mut last);
            for (last, plain) in last.chunks_exact(6).zip(plain.chunks_exact(70)) {
                assert_eq!(bits(last), bits(&plain[64..]));
            }
        }
    }
}

#[test]
fn fused_normalization_equals_normalization_then_conversion() {
    let (rows, weight) = (numbers(5 * 48, 3), numbers(48, 4));
    let weights = numbers(64 * 48, 5);
    for isa in isas() {
        for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
            let packed = PackedWeights::pack(precision, 48, &[&weights]);
            let mut normed = vec![0.0; rows.len()];
            rms_norm(isa, &rows, &weight, 1e-6, &mut normed);
            let (mut fused, mut apart) = (Activations::default(), Activations::default());
            fused.fill_normed(isa, precision, &rows, &weight, 1e-6, 1.0);
            apart.fill(isa, precision, &normed, 48);
            let mut results = [vec![0.0; 5 * 64], vec![0.0; 5 * 64]];
            product(isa, &fused, &packed, Epilogue::Store, &mut results[0]);
            product(isa, &apart, &packed, Epilogue::Store, &mut results[1]);
            assert_eq!(bits(&results[0]), bits(&results[1]));
        }
    }
}

#[test]
fn nan_and_infinity_are_detected_and_stay_in_their_row() {
    for isa in isas() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = numbers(100, 9);
            values[41] = bad;
            let (mut sum, mut top) = (LogSumExp::new(), Top::new(3));
            sum.feed(isa, &values);
            top.feed(isa, &values, 0, &[]);
            assert!(!sum.value().is_finite());
            assert!(top.entries().iter().all(|(score, _)| !score.is_nan()));
        }
    }
}

#[test]
fn bfloat16_rounds_ties_to_even() {
    for (value, expected) in [
        (1.0, 0x3F80),
        (f32::from_bits(0x3F80_8000), 0x3F80),
        (f32::from_bits(0x3F81_8000), 0x3F82),
        (f32::from_bits(0x3F80_8001), 0x3F81),
        (f32::INFINITY, 0x7F80),
        (f32::MAX, 0x7F80),
    ] {
        assert_eq!(lanes::to_bf16(value), expected, "{value}");
    }
    assert!(lanes::from_bf16(lanes::to_bf16(f32::NAN)).is_nan());
}

#[test]
fn rows_are_split_evenly() {
    let sizes = |count| product::tiles(count, 6).map(|(_, size)| size).collect::<Vec<_>>();
    assert_eq!(sizes(32), [6, 6, 5, 5, 5, 5]);
    assert_eq!((sizes(7), sizes(6), sizes(1)), (vec![4, 3], vec![6], vec![1]));
}
