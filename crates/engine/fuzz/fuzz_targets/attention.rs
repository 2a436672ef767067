//! Attention of any shape over any values, to a text and to cache slots. Nothing is read or written out of bounds, and
//! finite inputs of moderate size give finite results.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use precis_engine_fuzz::kernels::{
    AttentionScratch, DistanceBias, PackedKeysValues, Precision, SlotCache, attend, attend_slots,
};
use precis_engine_fuzz::{isas, numbers};

#[derive(Debug, Arbitrary)]
struct Case {
    queries: u8,
    tokens: u8,
    heads: u8,
    width: u8,
    half: bool,
    values: Vec<f32>,
    slots: Vec<u8>,
}

fuzz_target!(|case: Case| {
    let (heads, d_kv) = (1 + usize::from(case.heads % 4), 1 + usize::from(case.width % 80));
    let queries = 1 + usize::from(case.queries % 40);
    let tokens = queries.max(usize::from(case.tokens));
    let inner = heads * d_kv;
    let source = numbers(&case.values, tokens * 3 * inner);
    let tame = source.iter().all(|value| value.abs() < 1e3);
    let precision = if case.half { Precision::Bf16 } else { Precision::F32 };
    let length = 2 * tokens - 1;
    let bias = vec![0.25; heads * length];
    let mut scratch = AttentionScratch::default();
    for isa in isas() {
        let kv = PackedKeysValues::pack(isa, precision, &source, 3 * inner, inner, 2 * inner, tokens, heads, d_kv);
        let bias = DistanceBias {
            values: &bias,
            length,
            center: tokens - 1,
        };
        let mut out = vec![f32::NAN; queries * inner];
        attend(isa, &mut scratch, &source, 3 * inner, 0, queries, &kv, Some(bias), &mut out);
        assert!(!tame || out.iter().all(|value| value.is_finite()));
    }
    let slots: Vec<u32> = case.slots.iter().take(100).map(|slot| u32::from(*slot)).collect();
    if slots.is_empty() {
        return;
    }
    let bias = vec![0.5; heads * slots.len()];
    let mut first: Option<Vec<f32>> = None;
    for isa in isas() {
        let mut cache = SlotCache::new(precision, 1, heads, d_kv);
        cache.reserve(256);
        for (index, slot) in slots.iter().enumerate() {
            let row = &source[index % tokens * 3 * inner..][..3 * inner];
            cache.store(isa, 0, *slot, &row[inner..2 * inner], &row[2 * inner..]);
        }
        let mut out = vec![f32::NAN; inner];
        attend_slots(isa, &mut scratch, &source[..inner], &cache, 0, &slots, &bias, slots.len(), &mut out);
        let first = first.get_or_insert_with(|| out.clone());
        if tame {
            assert!(first.iter().zip(&out).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }
});
