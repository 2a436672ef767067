//! Compares AMX tiles with other instructions, and tests the reuse of memory.

use super::*;

/// Row counts around the boundaries of tile splits, with every epilogue.
#[test]
fn tiles_of_any_height_equal_other_instructions() {
    let (with, without) = (Isa::detect(), Isa::without_amx());
    for inputs in [32, 64, 96, 128, 512] {
        for outputs in [1, 63, 64, 65, 130] {
            let weights = numbers(outputs * inputs, 7);
            for precision in [Precision::Bf16, Precision::Int8] {
                let packed = PackedWeights::pack(precision, inputs, &[&weights]);
                for count in [1, 4, 5, 15, 16, 17, 31, 32, 33, 40, 48, 49, 64, 65, 97] {
                    let rows = numbers(count * inputs, 8);
                    for epilogue in [Epilogue::Store, Epilogue::Add, Epilogue::Relu] {
                        let computed = |isa| {
                            let mut activations = Activations::default();
                            activations.fill(isa, precision, &rows, inputs);
                            let mut out = vec![0.5; count * outputs];
                            product(isa, &activations, &packed, epilogue, &mut out);
                            out
                        };
                        let (found, expected) = (computed(with), computed(without));
                        if precision == Precision::Int8 {
                            assert_eq!(
                                bits(&found),
                                bits(&expected),
                                "{count} rows of {inputs} by {outputs}"
                            );
                        }
                        for (found, expected) in found.iter().zip(&expected) {
                            assert!(
                                (found - expected).abs() <= 2e-6 * inputs as f32,
                                "{found} {expected}"
                            );
                        }
                    }
                }
            }
        }
    }
}

/// Values that an earlier, longer text left in the memory, NaN included, do not affect results.
#[test]
fn attention_ignores_stale_memory() {
    let (heads, d_kv) = (2, 64);
    let inner = heads * d_kv;
    for isa in isas() {
        for precision in [Precision::F32, Precision::Bf16] {
            let (mut scratch, long) = (AttentionScratch::default(), vec![f32::NAN; 90 * 3 * inner]);
            let pack = |source: &[f32], tokens| {
                PackedKeysValues::pack(
                    isa,
                    precision,
                    source,
                    3 * inner,
                    inner,
                    2 * inner,
                    tokens,
                    heads,
                    d_kv,
                )
            };
            let mut kv = pack(&long, 90);
            let mut out = vec![0.0; 90 * inner];
            attend(isa, &mut scratch, &long, 3 * inner, 0, 90, &kv, None, &mut out);
            for tokens in [1, 2, 31, 32, 33, 63, 64, 65] {
                let source = numbers(tokens * 3 * inner, 9);
                kv.repack(
                    isa,
                    precision,
                    &source,
                    3 * inner,
                    inner,
                    2 * inner,
                    tokens,
                    heads,
                    d_kv,
                );
                let (mut found, mut expected) =
                    (vec![f32::NAN; tokens * inner], vec![f32::NAN; tokens * inner]);
                attend(
                    isa,
                    &mut scratch,
                    &source,
                    3 * inner,
                    0,
                    tokens,
                    &kv,
                    None,
                    &mut found,
                );
                let mut fresh = AttentionScratch::default();
                attend(
                    isa,
                    &mut fresh,
                    &source,
                    3 * inner,
                    0,
                    tokens,
                    &pack(&source, tokens),
                    None,
                    &mut expected,
                );
                assert_eq!(bits(&found), bits(&expected), "{precision:?}, {tokens} tokens");
            }
        }
    }
}
