//! Attention of many queries to one text: a text to itself in the encoder, a request's beams in the decoder, and a part
//! of a prompt to the prompt so far.

use super::elementwise::softmax;
use super::product::{Epilogue, Rows, Target, bf16_panel, f32_panel, finish};
use super::weights::Lines;
use super::{Isa, PANEL, PackedKeysValues, SlotCache, activations};

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

/// Which keys a query sees in causal attention.
#[derive(Debug, Clone, Copy)]
struct Causal {
    /// Position of the first query. A query sees the keys up to its own position.
    first: usize,
    /// Number of keys that a query sees, including its own, or `None` for all.
    window: Option<usize>,
}

impl Causal {
    /// Returns the first key that query `row` sees, and the end of those it sees.
    fn seen(self, row: usize) -> (usize, usize) {
        let end = self.first + row + 1;
        (self.window.map_or(0, |window| end.saturating_sub(window)), end)
    }
}

/// Changes of the scores before the softmax.
#[derive(Debug, Clone, Copy)]
enum Mask<'a> {
    None,
    Bias(DistanceBias<'a>),
    Causal(Causal),
}

/// Rows of queries, head after head.
#[derive(Debug, Clone, Copy)]
struct Queries<'a> {
    values: &'a [f32],
    /// Elements from one row to the next.
    stride: usize,
    /// First element of a row's queries.
    offset: usize,
    count: usize,
    heads: usize,
}

/// Scratch memory.
#[derive(Debug, Default)]
pub struct AttentionScratch {
    scores: Vec<f32>,
    queries: Lines,
    shares: Lines,
    gathered: Vec<f32>,
    packed: Option<PackedKeysValues>,
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
    let queries = Queries {
        values: queries,
        stride,
        offset,
        count,
        heads: kv.heads,
    };
    attend_rows(
        isa,
        scratch,
        queries,
        kv,
        bias.map_or(Mask::None, Mask::Bias),
        out,
    );
}

/// Computes causal attention of `count` consecutive tokens of a sequence whose tokens so far are in `slots` of the
/// cache, those of the queries included. A row of `queries` begins with the query heads, several of which may share a
/// head of the cache, and has `stride` elements. With a `window`, a query sees only this many tokens, including its
/// own. Its result does not depend on the other queries of the call. `out` is `[count, query heads · d_kv]`.
///
/// # Panics
/// If the lengths do not match.
#[allow(clippy::too_many_arguments)]
pub fn attend_prompt(
    isa: Isa,
    scratch: &mut AttentionScratch,
    queries: &[f32],
    stride: usize,
    count: usize,
    cache: &SlotCache,
    layer: usize,
    slots: &[u32],
    window: Option<usize>,
    out: &mut [f32],
) {
    assert!(
        count > 0 && count <= slots.len(),
        "{count} queries of {} tokens",
        slots.len()
    );
    let (heads, d_kv) = (cache.heads(), cache.d_kv());
    let inner = heads * d_kv;
    let width = out.len() / count;
    assert!(
        out.len() == count * width && width.is_multiple_of(inner),
        "wrong length of the output"
    );
    let mut gathered = std::mem::take(&mut scratch.gathered);
    cache.gather(layer, slots, &mut gathered);
    let shape = (slots.len(), heads, d_kv);
    let kv = match scratch.packed.take() {
        Some(mut kv) => {
            kv.repack(
                isa,
                cache.precision(),
                &gathered,
                2 * inner,
                0,
                inner,
                shape.0,
                shape.1,
                shape.2,
            );
            kv
        }
        None => PackedKeysValues::pack(
            isa,
            cache.precision(),
            &gathered,
            2 * inner,
            0,
            inner,
            shape.0,
            shape.1,
            shape.2,
        ),
    };
    let queries = Queries {
        values: queries,
        stride,
        offset: 0,
        count,
        heads: width / d_kv,
    };
    let causal = Causal {
        first: slots.len() - count,
        window,
    };
    attend_rows(isa, scratch, queries, &kv, Mask::Causal(causal), out);
    (scratch.gathered, scratch.packed) = (gathered, Some(kv));
}

fn attend_rows(
    isa: Isa,
    scratch: &mut AttentionScratch,
    queries: Queries<'_>,
    kv: &PackedKeysValues,
    mask: Mask<'_>,
    out: &mut [f32],
) {
    let Queries {
        values: queries,
        stride,
        offset,
        count,
        heads,
    } = queries;
    let (tokens, d_kv) = (kv.tokens, kv.d_kv);
    let inner = heads * d_kv;
    let shared = heads / kv.heads.max(1);
    assert_eq!(out.len(), count * inner, "wrong length of the output");
    assert!(
        count == 0 || queries.len() >= (count - 1) * stride + offset + inner,
        "too few elements for {count} queries"
    );
    if tokens == 0 {
        out.fill(0.0);
        return;
    }
    let (key_inputs, all_inputs) = (kv.key_inputs(), kv.value_inputs());
    let (keys, values) = (kv.key_length(), kv.value_length());
    for first in (0..count).step_by(BLOCK) {
        let block = (count - first).min(BLOCK);
        // Later keys have no share in any query of the block.
        let seen = match mask {
            Mask::Causal(causal) => causal.seen(first + block - 1).1.min(tokens),
            Mask::None | Mask::Bias(_) => tokens,
        };
        let width = seen.next_multiple_of(PANEL);
        let value_inputs = kv.whole_groups(seen);
        for head in 0..heads {
            let query = |row: usize| &queries[(first + row) * stride + offset + head * d_kv..][..d_kv];
            scratch.scores(BLOCK * width);
            let AttentionScratch {
                scores,
                queries: half_queries,
                shares,
                ..
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
                let keys = &kv.keys.get::<u16>()[head / shared * keys..][..keys];
                let panels = keys.chunks_exact(key_inputs * PANEL).take(width / PANEL);
                for (panel, keys) in panels.enumerate() {
                    bf16_panel(isa, rows, keys, &mut whole(scores, width, panel));
                }
            } else {
                let rows = Rows {
                    values: &queries[first * stride + offset + head * d_kv..],
                    count: block,
                    stride,
                    inputs: d_kv,
                };
                let keys = &kv.keys.get::<f32>()[head / shared * keys..][..keys];
                let panels = keys.chunks_exact(key_inputs * PANEL).take(width / PANEL);
                for (panel, keys) in panels.enumerate() {
                    f32_panel(isa, rows, keys, &mut whole(scores, width, panel));
                }
            }
            for (row, scores) in scores.chunks_exact_mut(width).enumerate() {
                match mask {
                    Mask::None => softmax(isa, scores, tokens, None),
                    Mask::Bias(bias) => {
                        let start = head * bias.length + bias.center - (first + row);
                        softmax(isa, scores, tokens, Some(&bias.values[start..start + tokens]));
                    }
                    Mask::Causal(causal) => {
                        let (start, end) = causal.seen(first + row);
                        let (before, scores) = scores.split_at_mut(start);
                        before.fill(0.0);
                        softmax(isa, scores, end - start, None);
                    }
                }
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
                let values = &kv.values.get::<u16>()[head / shared * values..][..values];
                for (panel, values) in values.chunks_exact(all_inputs * PANEL).enumerate() {
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
                let values = &kv.values.get::<f32>()[head / shared * values..][..values];
                for (panel, values) in values.chunks_exact(all_inputs * PANEL).enumerate() {
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
