//! KV cache of a decoder's tokens, and attention to it.

use super::attention::AttentionScratch;
use super::elementwise::softmax;
use super::lanes::{LANES, from_bf16, sum, to_bf16, versions};
use super::weights::Lines;
use super::{Isa, Precision};

/// Slots per chunk of memory.
const CHUNK: usize = 64;
/// Elements of a head that are summed side by side.
const WIDE: usize = 64;

/// Keys and values of a decoder's tokens in all layers, one slot per token. Stored as f32, or as bf16 with bf16 and
/// int8 products. Grows by chunks that never move.
#[derive(Debug)]
pub struct SlotCache {
    half: bool,
    layers: usize,
    heads: usize,
    d_kv: usize,
    /// `[layers, CHUNK, keys | values]` each.
    chunks: Vec<Lines>,
}

impl SlotCache {
    /// Creates an empty cache.
    pub fn new(precision: Precision, layers: usize, heads: usize, d_kv: usize) -> Self {
        Self {
            half: precision != Precision::F32,
            layers,
            heads,
            d_kv,
            chunks: Vec::new(),
        }
    }

    /// Grows the cache to `slots` slots.
    pub fn reserve(&mut self, slots: usize) {
        let numbers = self.layers * CHUNK * 2 * self.heads * self.d_kv;
        while self.chunks.len() * CHUNK < slots {
            self.chunks.push(match self.half {
                true => Lines::zeros::<u16>(numbers),
                false => Lines::zeros::<f32>(numbers),
            });
        }
    }

    /// Returns a slot's chunk, its first element there, and the length of its keys and values.
    fn place(&self, layer: usize, slot: u32) -> (usize, usize, usize) {
        let length = 2 * self.heads * self.d_kv;
        let (chunk, slot) = (slot as usize / CHUNK, slot as usize % CHUNK);
        (chunk, (layer * CHUNK + slot) * length, length)
    }

    fn slot<T: bytemuck::Pod>(&self, layer: usize, slot: u32) -> &[T] {
        let (chunk, first, length) = self.place(layer, slot);
        &self.chunks[chunk].get::<T>()[first..first + length]
    }

    /// Returns a precision of products that stores numbers as this cache does.
    pub(super) fn precision(&self) -> Precision {
        match self.half {
            true => Precision::Bf16,
            false => Precision::F32,
        }
    }

    /// Returns the number of key and value heads.
    pub(super) fn heads(&self) -> usize {
        self.heads
    }

    /// Returns the width of a head.
    pub(super) fn d_kv(&self) -> usize {
        self.d_kv
    }

    /// Copies the tokens in `slots` to `out`, in their order: `[slots, keys | values]`.
    ///
    /// # Panics
    /// If a slot is out of range.
    pub(super) fn gather(&self, layer: usize, slots: &[u32], out: &mut Vec<f32>) {
        out.clear();
        for slot in slots {
            match self.half {
                true => out.extend(self.slot::<u16>(layer, *slot).iter().map(|bits| from_bf16(*bits))),
                false => out.extend_from_slice(self.slot::<f32>(layer, *slot)),
            }
        }
    }

    /// Stores a token's keys and values, `[heads · d_kv]` each.
    ///
    /// # Panics
    /// If the slot is out of range or the lengths do not match.
    pub fn store(&mut self, isa: Isa, layer: usize, slot: u32, keys: &[f32], values: &[f32]) {
        let (chunk, first, length) = self.place(layer, slot);
        assert_eq!(2 * keys.len(), length, "wrong width of the keys");
        assert_eq!(2 * values.len(), length, "wrong width of the values");
        let chunk = &mut self.chunks[chunk];
        if self.half {
            store_half(
                isa,
                keys,
                values,
                &mut chunk.get_mut::<u16>()[first..first + length],
            );
        } else {
            let (to_keys, to_values) = chunk.get_mut::<f32>()[first..first + length].split_at_mut(keys.len());
            to_keys.copy_from_slice(keys);
            to_values.copy_from_slice(values);
        }
    }
}

versions! {
    fn store_half(keys: &[f32], values: &[f32], out: &mut [u16]) = store_half_body
}

#[inline(always)]
fn store_half_body(keys: &[f32], values: &[f32], out: &mut [u16]) {
    let (to_keys, to_values) = out.split_at_mut(keys.len());
    for (out, number) in to_keys.iter_mut().zip(keys) {
        *out = to_bf16(*number);
    }
    for (out, number) in to_values.iter_mut().zip(values) {
        *out = to_bf16(*number);
    }
}

/// Computes attention of one query, `[heads · d_kv]`, to the cached tokens in `slots`, in their order. A head's bias is
/// at `bias[head · length + distance]`; the last token has distance 0. An empty `bias` adds nothing. Several adjacent
/// query heads may share a head of the cache (grouped-query attention). `out` is `[heads · d_kv]`.
///
/// # Panics
/// If the lengths do not match, or there are more slots than biases.
#[allow(clippy::too_many_arguments)]
pub fn attend_slots(
    isa: Isa,
    scratch: &mut AttentionScratch,
    query: &[f32],
    cache: &SlotCache,
    layer: usize,
    slots: &[u32],
    bias: &[f32],
    length: usize,
    out: &mut [f32],
) {
    let inner = cache.heads * cache.d_kv;
    assert!(
        query.len().is_multiple_of(inner) && out.len() == query.len(),
        "wrong width of the query or the output"
    );
    let heads = query.len() / cache.d_kv;
    assert!(
        bias.is_empty() || slots.len() <= length && bias.len() >= heads * length,
        "too few biases for the tokens"
    );
    let scores = scratch.scores(heads * slots.len());
    let shape = Shape {
        heads,
        shared: query.len() / inner,
        d_kv: cache.d_kv,
    };
    if cache.half {
        let slots: Vec<&[u16]> = slots.iter().map(|slot| cache.slot(layer, *slot)).collect();
        half_scores(isa, query, &slots, shape, bias, length, scores);
        shares(isa, scores, slots.len());
        half_values(isa, &slots, shape, scores, out);
    } else {
        let slots: Vec<&[f32]> = slots.iter().map(|slot| cache.slot(layer, *slot)).collect();
        single_scores(isa, query, &slots, shape, bias, length, scores);
        shares(isa, scores, slots.len());
        single_values(isa, &slots, shape, scores, out);
    }
}

/// Shape of the queries.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// Query heads.
    heads: usize,
    /// Query heads per head of the cache.
    shared: usize,
    /// Width of a head.
    d_kv: usize,
}

impl Shape {
    /// Returns the width of a token's keys in the cache.
    fn inner(self) -> usize {
        self.heads / self.shared * self.d_kv
    }
}

fn shares(isa: Isa, scores: &mut [f32], tokens: usize) {
    for scores in scores.chunks_exact_mut(tokens.max(1)) {
        softmax(isa, scores, tokens, None);
    }
}

versions! {
    fn half_scores(query: &[f32], slots: &[&[u16]], shape: Shape, bias: &[f32], length: usize, scores: &mut [f32])
        = half_scores_body
}

#[inline(always)]
fn half_scores_body(
    query: &[f32],
    slots: &[&[u16]],
    shape: Shape,
    bias: &[f32],
    length: usize,
    scores: &mut [f32],
) {
    scores_body(query, slots, shape, bias, length, scores, from_bf16);
}

versions! {
    fn single_scores(query: &[f32], slots: &[&[f32]], shape: Shape, bias: &[f32], length: usize, scores: &mut [f32])
        = single_scores_body
}

#[inline(always)]
fn single_scores_body(
    query: &[f32],
    slots: &[&[f32]],
    shape: Shape,
    bias: &[f32],
    length: usize,
    scores: &mut [f32],
) {
    scores_body(query, slots, shape, bias, length, scores, |number| number);
}

/// Token after token, because a token's keys of all heads are adjacent.
#[inline(always)]
fn scores_body<T: Copy>(
    query: &[f32],
    slots: &[&[T]],
    Shape { heads, shared, d_kv }: Shape,
    bias: &[f32],
    length: usize,
    scores: &mut [f32],
    number: impl Fn(T) -> f32,
) {
    let tokens = slots.len();
    for (token, slot) in slots.iter().enumerate() {
        let distance = tokens - 1 - token;
        for head in 0..heads {
            let query = &query[head * d_kv..(head + 1) * d_kv];
            let key = &slot[head / shared * d_kv..][..d_kv];
            let lanes = match (<&[f32; WIDE]>::try_from(query), <&[T; WIDE]>::try_from(key)) {
                // The usual width, as a compile-time constant.
                (Ok(query), Ok(key)) => products(query, key, &number),
                _ => products(query, key, &number),
            };
            let bias = match bias.is_empty() {
                true => 0.0,
                false => bias[head * length + distance],
            };
            scores[head * tokens + token] = sum(lanes) + bias;
        }
    }
}

/// Multiplies a head's elements and folds the products into lanes.
#[inline(always)]
fn products<T: Copy>(query: &[f32], key: &[T], number: &impl Fn(T) -> f32) -> [f32; LANES] {
    let mut lanes = [0f32; LANES];
    for (query, key) in query.chunks(LANES).zip(key.chunks(LANES)) {
        match (<&[f32; LANES]>::try_from(query), <&[T; LANES]>::try_from(key)) {
            (Ok(query), Ok(key)) => {
                for index in 0..LANES {
                    lanes[index] += query[index] * number(key[index]);
                }
            }
            _ => {
                for ((lane, query), key) in lanes.iter_mut().zip(query).zip(key) {
                    *lane += query * number(*key);
                }
            }
        }
    }
    lanes
}

versions! {
    fn half_values(slots: &[&[u16]], shape: Shape, shares: &[f32], out: &mut [f32]) = half_values_body
}

#[inline(always)]
fn half_values_body(slots: &[&[u16]], shape: Shape, shares: &[f32], out: &mut [f32]) {
    values_body(slots, shape, shares, out, from_bf16);
}

versions! {
    fn single_values(slots: &[&[f32]], shape: Shape, shares: &[f32], out: &mut [f32]) = single_values_body
}

#[inline(always)]
fn single_values_body(slots: &[&[f32]], shape: Shape, shares: &[f32], out: &mut [f32]) {
    values_body(slots, shape, shares, out, |number| number);
}

/// Head after head, because a head's sums then stay in registers.
#[inline(always)]
fn values_body<T: Copy>(
    slots: &[&[T]],
    shape: Shape,
    shares: &[f32],
    out: &mut [f32],
    number: impl Fn(T) -> f32,
) {
    let Shape { heads, shared, d_kv } = shape;
    let (tokens, inner) = (slots.len(), shape.inner());
    for head in 0..heads {
        let shares = &shares[head * tokens..(head + 1) * tokens];
        for first in (0..d_kv).step_by(WIDE) {
            let (place, source) = (head * d_kv + first, head / shared * d_kv + first);
            let width = (d_kv - first).min(WIDE);
            let mut sums = [0f32; WIDE];
            for (share, slot) in shares.iter().zip(slots) {
                let values = &slot[inner + source..][..width];
                if let Ok(values) = <&[T; WIDE]>::try_from(values) {
                    for (sum, value) in sums.iter_mut().zip(values) {
                        *sum += share * number(*value);
                    }
                } else {
                    for (sum, value) in sums.iter_mut().zip(values) {
                        *sum += share * number(*value);
                    }
                }
            }
            out[place..place + width].copy_from_slice(&sums[..width]);
        }
    }
}
