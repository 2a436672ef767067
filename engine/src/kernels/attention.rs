//! Attention of many queries to one text: in the encoder of a text to itself, in the decoder of the beams of a request.

use super::elementwise::softmax;
use super::lanes::to_bf16;
use super::product::{Epilogue, Rows, Target, bf16_panel, f32_panel};
use super::weights::Lines;
use super::{Isa, PANEL, Precision, activations};

/// Queries whose scores are worked on together: they stay in the first-level cache.
const BLOCK: usize = 24;

/// Keys and values of one text in one layer, laid out as the panels of a product: of each head the keys as
/// [d_kv, tokens], the values as [tokens, d_kv]. In f32 or, where products are less exact, in bf16.
#[derive(Debug)]
pub struct PackedKeysValues {
    half: bool,
    tokens: usize,
    heads: usize,
    d_kv: usize,
    keys: Lines,
    values: Lines,
}

/// Where keys and values stand in rows of numbers.
#[derive(Debug, Clone, Copy)]
struct Source<'a> {
    values: &'a [f32],
    stride: usize,
    offset: usize,
}

impl Source<'_> {
    /// Head `head` of a token.
    fn of(&self, token: usize, head: usize, d_kv: usize) -> &[f32] {
        &self.values[token * self.stride + self.offset + head * d_kv..][..d_kv]
    }
}

impl PackedKeysValues {
    /// Packs the keys and values of `tokens` rows of `stride` numbers, in which they begin at two offsets and stand
    /// head after head.
    ///
    /// # Panics
    /// If `source` is too short for them.
    #[allow(clippy::too_many_arguments)]
    pub fn pack(
        isa: Isa,
        precision: Precision,
        source: &[f32],
        stride: usize,
        key_offset: usize,
        value_offset: usize,
        tokens: usize,
        heads: usize,
        d_kv: usize,
    ) -> Self {
        let mut packed = Self {
            half: precision != Precision::F32,
            tokens: 0,
            heads: 0,
            d_kv: 0,
            keys: Lines::default(),
            values: Lines::default(),
        };
        packed.repack(
            isa,
            precision,
            source,
            stride,
            key_offset,
            value_offset,
            tokens,
            heads,
            d_kv,
        );
        packed
    }

    /// [`PackedKeysValues::pack`] into the same memory.
    ///
    /// # Panics
    /// As `pack`.
    #[allow(clippy::too_many_arguments)]
    pub fn repack(
        &mut self,
        isa: Isa,
        precision: Precision,
        source: &[f32],
        stride: usize,
        key_offset: usize,
        value_offset: usize,
        tokens: usize,
        heads: usize,
        d_kv: usize,
    ) {
        let last = tokens.saturating_sub(1) * stride + key_offset.max(value_offset) + heads * d_kv;
        assert!(
            tokens == 0 || source.len() >= last,
            "keys and values of {tokens} tokens"
        );
        self.half = precision != Precision::F32;
        (self.tokens, self.heads, self.d_kv) = (tokens, heads, d_kv);
        let (keys, values) = (self.key_length(), self.value_length());
        let at = |offset| Source {
            values: source,
            stride,
            offset,
        };
        let shape = (tokens, d_kv);
        for head in 0..heads {
            if self.half {
                self.keys.resize::<u16>(heads * keys);
                self.values.resize::<u16>(heads * values);
                let keys = &mut self.keys.get_mut::<u16>()[head * keys..][..keys];
                half_keys(isa, at(key_offset), head, shape, keys);
                let values = &mut self.values.get_mut::<u16>()[head * values..][..values];
                half_values(isa, at(value_offset), head, shape, values);
            } else {
                self.keys.resize::<f32>(heads * keys);
                self.values.resize::<f32>(heads * values);
                let keys = &mut self.keys.get_mut::<f32>()[head * keys..][..keys];
                single_keys(isa, at(key_offset), head, shape, keys);
                let values = &mut self.values.get_mut::<f32>()[head * values..][..values];
                single_values(isa, at(value_offset), head, shape, values);
            }
        }
    }

    /// Memory that it takes.
    pub fn bytes(&self) -> usize {
        self.keys.bytes() + self.values.bytes()
    }

    /// Tokens of the text.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// d_kv, in whole groups.
    fn key_inputs(&self) -> usize {
        self.d_kv.next_multiple_of(if self.half { 2 } else { 1 })
    }

    /// Tokens, in whole groups.
    fn value_inputs(&self) -> usize {
        self.tokens.next_multiple_of(if self.half { 2 } else { 1 })
    }

    /// Numbers of a head's keys.
    fn key_length(&self) -> usize {
        self.key_inputs() * self.tokens.next_multiple_of(PANEL)
    }

    /// Numbers of a head's values.
    fn value_length(&self) -> usize {
        self.value_inputs() * self.d_kv.next_multiple_of(PANEL)
    }
}

use super::lanes::versions;

versions! {
    fn half_keys(source: Source<'_>, head: usize, shape: (usize, usize), out: &mut [u16]) = half_keys_body
}

#[inline(always)]
fn half_keys_body(source: Source<'_>, head: usize, (tokens, d_kv): (usize, usize), out: &mut [u16]) {
    let inputs = d_kv.next_multiple_of(2);
    for (panel, out) in out.chunks_exact_mut(inputs * PANEL).enumerate() {
        let first = panel * PANEL;
        let count = tokens.saturating_sub(first).min(PANEL);
        if count < PANEL || inputs > d_kv {
            out.fill(0);
        }
        for column in 0..count {
            let key = source.of(first + column, head, d_kv);
            for (pair, places) in key.chunks(2).zip(out.chunks_exact_mut(2 * PANEL)) {
                places[2 * column] = to_bf16(pair[0]);
                if let Some(second) = pair.get(1) {
                    places[2 * column + 1] = to_bf16(*second);
                }
            }
        }
    }
}

versions! {
    fn half_values(source: Source<'_>, head: usize, shape: (usize, usize), out: &mut [u16]) = half_values_body
}

#[inline(always)]
fn half_values_body(source: Source<'_>, head: usize, (tokens, d_kv): (usize, usize), out: &mut [u16]) {
    let inputs = tokens.next_multiple_of(2);
    for (panel, out) in out.chunks_exact_mut(inputs * PANEL).enumerate() {
        let first = panel * PANEL;
        let count = d_kv.saturating_sub(first).min(PANEL);
        if count < PANEL || inputs > tokens {
            out.fill(0);
        }
        for (pair, places) in out.chunks_exact_mut(2 * PANEL).enumerate() {
            let one = &source.of(2 * pair, head, d_kv)[first..first + count];
            if 2 * pair + 1 < tokens {
                let other = &source.of(2 * pair + 1, head, d_kv)[first..first + count];
                for ((places, one), other) in places.chunks_exact_mut(2).zip(one).zip(other) {
                    (places[0], places[1]) = (to_bf16(*one), to_bf16(*other));
                }
            } else {
                for (places, one) in places.chunks_exact_mut(2).zip(one) {
                    places[0] = to_bf16(*one);
                }
            }
        }
    }
}

versions! {
    fn single_keys(source: Source<'_>, head: usize, shape: (usize, usize), out: &mut [f32]) = single_keys_body
}

#[inline(always)]
fn single_keys_body(source: Source<'_>, head: usize, (tokens, d_kv): (usize, usize), out: &mut [f32]) {
    for (panel, out) in out.chunks_exact_mut(d_kv * PANEL).enumerate() {
        let first = panel * PANEL;
        let count = tokens.saturating_sub(first).min(PANEL);
        if count < PANEL {
            out.fill(0.0);
        }
        for column in 0..count {
            let key = source.of(first + column, head, d_kv);
            for (value, places) in key.iter().zip(out.chunks_exact_mut(PANEL)) {
                places[column] = *value;
            }
        }
    }
}

versions! {
    fn single_values(source: Source<'_>, head: usize, shape: (usize, usize), out: &mut [f32]) = single_values_body
}

#[inline(always)]
fn single_values_body(source: Source<'_>, head: usize, (tokens, d_kv): (usize, usize), out: &mut [f32]) {
    for (panel, out) in out.chunks_exact_mut(tokens * PANEL).enumerate() {
        let first = panel * PANEL;
        let count = d_kv.saturating_sub(first).min(PANEL);
        for (token, places) in out.chunks_exact_mut(PANEL).enumerate() {
            places[..count].copy_from_slice(&source.of(token, head, d_kv)[first..first + count]);
            places[count..].fill(0.0);
        }
    }
}

/// A number for each distance between a query and a key.
#[derive(Debug, Clone, Copy)]
pub struct DistanceBias<'a> {
    /// [heads, length]
    pub values: &'a [f32],
    /// Distances of a head.
    pub length: usize,
    /// Place of distance 0; a key one further on is at the next place.
    pub center: usize,
}

/// Memory that attention works in.
#[derive(Debug, Default)]
pub struct AttentionScratch {
    scores: Vec<f32>,
    queries: Vec<u16>,
    shares: Vec<u16>,
}

impl AttentionScratch {
    /// Room for so many scores.
    pub(super) fn scores(&mut self, count: usize) -> &mut [f32] {
        if self.scores.len() < count {
            self.scores.resize(count, 0.0);
        }
        &mut self.scores[..count]
    }
}

/// softmax(q · kᵀ + bias) · v for `count` queries, which stand at `offset` in rows of `stride` numbers, head after head.
/// With a bias, query `i` stands at token `i`. T5 doesn't scale the scores: that is in its weights. `out` is
/// [count, heads · d_kv].
///
/// # Panics
/// If the numbers do not fit together.
#[allow(clippy::too_many_arguments)]
pub fn attend(
    isa: Isa,
    scratch: &mut AttentionScratch,
    queries: &[f32],
    stride: usize,
    offset: usize,
    count: usize,
    kv: &PackedKeysValues,
    bias: Option<DistanceBias<'_>>,
    out: &mut [f32],
) {
    let (tokens, heads, d_kv) = (kv.tokens, kv.heads, kv.d_kv);
    let inner = heads * d_kv;
    assert_eq!(out.len(), count * inner, "a place of another size");
    assert!(
        count == 0 || queries.len() >= (count - 1) * stride + offset + inner,
        "fewer numbers than {count} queries"
    );
    if tokens == 0 {
        out.fill(0.0);
        return;
    }
    let width = tokens.next_multiple_of(PANEL);
    let (key_inputs, value_inputs) = (kv.key_inputs(), kv.value_inputs());
    let (keys, values) = (kv.key_length(), kv.value_length());
    for first in (0..count).step_by(BLOCK) {
        let block = (count - first).min(BLOCK);
        for head in 0..heads {
            let query = |row: usize| &queries[(first + row) * stride + offset + head * d_kv..][..d_kv];
            scratch.scores(BLOCK * width);
            let AttentionScratch {
                scores,
                queries: half_queries,
                shares,
            } = scratch;
            let scores = &mut scores[..block * width];
            if kv.half {
                half_queries.resize(BLOCK * key_inputs, 0);
                for (row, half) in half_queries.chunks_exact_mut(key_inputs).take(block).enumerate() {
                    activations::bf16_row(isa, query(row), half);
                }
                let rows = Rows {
                    values: half_queries.as_slice(),
                    count: block,
                    stride: key_inputs,
                    inputs: key_inputs,
                };
                let keys = &kv.keys.get::<u16>()[head * keys..][..keys];
                for (panel, keys) in keys.chunks_exact(key_inputs * PANEL).enumerate() {
                    bf16_panel(isa, rows, keys, &mut whole(scores, width, panel));
                }
            } else {
                let rows = Rows {
                    values: &queries[first * stride + offset + head * d_kv..],
                    count: block,
                    stride,
                    inputs: d_kv,
                };
                let keys = &kv.keys.get::<f32>()[head * keys..][..keys];
                for (panel, keys) in keys.chunks_exact(key_inputs * PANEL).enumerate() {
                    f32_panel(isa, rows, keys, &mut whole(scores, width, panel));
                }
            }
            for (row, scores) in scores.chunks_exact_mut(width).enumerate() {
                let bias = bias.map(|bias| {
                    let start = head * bias.length + bias.center - (first + row);
                    &bias.values[start..start + tokens]
                });
                softmax(isa, scores, tokens, bias);
            }
            let place = |panel: usize| first * inner + head * d_kv + panel * PANEL;
            let columns = |panel: usize| (d_kv - panel * PANEL).min(PANEL);
            if kv.half {
                shares.resize(BLOCK * value_inputs, 0);
                for (half, scores) in shares
                    .chunks_exact_mut(value_inputs)
                    .zip(scores.chunks_exact(width))
                {
                    activations::bf16_row(isa, &scores[..value_inputs], half);
                }
                let rows = Rows {
                    values: shares.as_slice(),
                    count: block,
                    stride: value_inputs,
                    inputs: value_inputs,
                };
                let values = &kv.values.get::<u16>()[head * values..][..values];
                for (panel, values) in values.chunks_exact(value_inputs * PANEL).enumerate() {
                    let mut target = Target {
                        out: &mut out[place(panel)..],
                        stride: inner,
                        columns: columns(panel),
                        epilogue: Epilogue::Store,
                    };
                    bf16_panel(isa, rows, values, &mut target);
                }
            } else {
                let rows = Rows {
                    values: &*scores,
                    count: block,
                    stride: width,
                    inputs: value_inputs,
                };
                let values = &kv.values.get::<f32>()[head * values..][..values];
                for (panel, values) in values.chunks_exact(value_inputs * PANEL).enumerate() {
                    let mut target = Target {
                        out: &mut out[place(panel)..],
                        stride: inner,
                        columns: columns(panel),
                        epilogue: Epilogue::Store,
                    };
                    f32_panel(isa, rows, values, &mut target);
                }
            }
        }
    }
}

/// All 64 columns of a panel of scores.
fn whole(scores: &mut [f32], width: usize, panel: usize) -> Target<'_> {
    Target {
        out: &mut scores[panel * PANEL..],
        stride: width,
        columns: PANEL,
        epilogue: Epilogue::Store,
    }
}
