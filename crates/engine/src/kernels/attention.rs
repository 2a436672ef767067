//! Attention of many queries to one text: a text to itself in the encoder, and a request's beams in the decoder.

use super::elementwise::softmax;
use super::product::{Epilogue, Rows, Target, bf16_panel, f32_panel, finish};
use super::weights::Lines;
use super::{Isa, PANEL, PackedKeysValues, activations};

/// Queries to score together: their scores fit into the L1 cache.
const BLOCK: usize = 24;

/// Relative position bias: one value per distance between query and key.
#[derive(Debug, Clone, Copy)]
pub struct DistanceBias<'a> {
    /// `[heads, length]`.
    pub values: &'a [f32],
    /// Distances per head.
    pub length: usize,
    /// Index of distance 0. The next key is at the next index.
    pub center: usize,
}

/// Scratch memory.
#[derive(Debug, Default)]
pub struct AttentionScratch {
    scores: Vec<f32>,
    queries: Lines,
    shares: Lines,
}

impl AttentionScratch {
    /// Returns a buffer for `count` scores.
    pub(super) fn scores(&mut self, count: usize) -> &mut [f32] {
        if self.scores.len() < count {
            self.scores.resize(count, 0.0);
        }
        &mut self.scores[..count]
    }
}

/// Computes softmax(q · kᵀ + bias) · v for `count` queries. They start at `offset` in rows of `stride` elements, head
/// after head. With a bias, query `i` is at token `i`. T5 does not scale the scores: its weights include the factor.
/// `out` is `[count, heads · d_kv]`.
///
/// # Panics
/// If the lengths do not match.
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
    assert_eq!(out.len(), count * inner, "wrong length of the output");
    assert!(
        count == 0 || queries.len() >= (count - 1) * stride + offset + inner,
        "too few elements for {count} queries"
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
                half_queries.resize::<u16>(BLOCK * key_inputs);
                let half_queries = &mut half_queries.get_mut::<u16>()[..BLOCK * key_inputs];
                for (row, half) in half_queries.chunks_exact_mut(key_inputs).take(block).enumerate() {
                    activations::bf16_row(isa, query(row), half);
                }
                let rows = Rows {
                    values: half_queries,
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
                shares.resize::<u16>(BLOCK * value_inputs);
                let shares = &mut shares.get_mut::<u16>()[..BLOCK * value_inputs];
                for (half, scores) in shares
                    .chunks_exact_mut(value_inputs)
                    .zip(scores.chunks_exact(width))
                {
                    activations::bf16_row(isa, &scores[..value_inputs], half);
                }
                let rows = Rows {
                    values: shares,
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
    finish(isa);
}

/// Returns all 64 columns of a panel of scores.
fn whole(scores: &mut [f32], width: usize, panel: usize) -> Target<'_> {
    Target {
        out: &mut scores[panel * PANEL..],
        stride: width,
        columns: PANEL,
        epilogue: Epilogue::Store,
    }
}
