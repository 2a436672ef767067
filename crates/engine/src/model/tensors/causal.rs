//! Causal self-attention on candle's tensors.

use candle_core::{DType, Device, Result, Tensor};

use super::cache::Cache;
use super::{HIDDEN, HIDDEN_F16, Tensors, attend as attend_heads};
use crate::model::backend::{Angles, CausalAttention, StepRows};

/// The angles of rotary positions, `[positions, half]` each.
#[derive(Debug)]
pub(crate) struct Rotation {
    cos: Tensor,
    sin: Tensor,
}

impl Rotation {
    pub(super) fn new(backend: &Tensors, angles: Angles) -> Result<Self> {
        let shape = (angles.cos.len() / angles.half.max(1), angles.half);
        let put = |values: Vec<f32>| backend.put(&Tensor::from_vec(values, shape, &Device::Cpu)?);
        Ok(Self {
            cos: put(angles.cos)?,
            sin: put(angles.sin)?,
        })
    }

    /// Rotates `[tokens, heads, width]`.
    fn rotate(&self, heads: &Tensor, positions: &Tensor) -> Result<Tensor> {
        let half = self.cos.dim(1)?;
        let of = |table: &Tensor| table.index_select(positions, 0)?.unsqueeze(1);
        let (cos, sin) = (of(&self.cos)?, of(&self.sin)?);
        let (real, imaginary) = (heads.narrow(2, 0, half)?, heads.narrow(2, half, half)?);
        let rotated = [
            (real.broadcast_mul(&cos)? - imaginary.broadcast_mul(&sin)?)?,
            (imaginary.broadcast_mul(&cos)? + real.broadcast_mul(&sin)?)?,
        ];
        Tensor::cat(&rotated, 2)
    }
}

/// Stores the keys and values of every token of `qkv`, `[tokens, (heads + 2 · kv_heads) · width]`, and attends every
/// query to its tokens so far: `[tokens, heads · width]`.
pub(super) fn attend(
    backend: &Tensors,
    qkv: &Tensor,
    cache: &mut Cache,
    layer: usize,
    step: StepRows<'_>,
    attention: &CausalAttention<Tensors>,
) -> Result<Tensor> {
    let CausalAttention {
        heads,
        kv_heads,
        width,
        ..
    } = *attention;
    let count = qkv.dim(0)?;
    let part = |first: usize, heads: usize| {
        qkv.narrow(1, first * width, heads * width)?
            .contiguous()?
            .reshape((count, heads, width))
    };
    let (mut queries, mut keys) = (part(0, heads)?, part(heads, kv_heads)?);
    let values = part(heads + kv_heads, kv_heads)?;
    if let Some((query_norm, key_norm)) = &attention.query_key_norms {
        queries = query_norm.forward(&queries)?;
        keys = key_norm.forward(&keys)?;
    }
    let (positions, slots): (Vec<u32>, Vec<u32>) = step
        .places()
        .map(|(position, slot)| (position as u32, slot))
        .unzip();
    let positions = backend.index(&positions)?;
    let queries = (attention.rotation.rotate(&queries, &positions)? * f64::from(attention.scale))?;
    let keys = attention.rotation.rotate(&keys, &positions)?;
    let places = backend
        .index(&slots)?
        .reshape((count, 1, 1))?
        .broadcast_as((count, kv_heads, width))?
        .contiguous()?;
    let (all_keys, all_values) = cache.layer(layer);
    all_keys.scatter_set(&places, &keys.contiguous()?, 0)?;
    all_values.scatter_set(&places, &values, 0)?;

    let rows = step.lengths.len();
    let mut attended = Vec::with_capacity(1 + step.prompts.len());
    if rows > 0 {
        // All rows together, padded to the longest past.
        let window = attention.window.unwrap_or(usize::MAX);
        let pasts: Vec<&[u32]> = step
            .ancestries()
            .map(|slots| &slots[slots.len().saturating_sub(window)..])
            .collect();
        let lengths: Vec<usize> = pasts.iter().map(|past| past.len()).collect();
        let most = lengths.iter().copied().max().unwrap_or(0);
        let mut past = Vec::with_capacity(rows * most);
        for own in pasts {
            past.extend_from_slice(own);
            past.resize(past.len() + most - own.len(), slots[0]);
        }
        let past = backend.index(&past)?;
        let of = |all: &Tensor| {
            all.index_select(&past, 0)?
                .reshape((rows, most, kv_heads, width))?
                .transpose(1, 2)?
                .contiguous()
        };
        let queries =
            queries
                .narrow(0, 0, rows)?
                .contiguous()?
                .reshape((rows, kv_heads, heads / kv_heads, width))?;
        let mask = backend.mask(&lengths, most)?;
        let out = attend_heads(&queries, &of(all_keys)?, &of(all_values)?, mask.as_ref())?;
        attended.push(out.reshape((rows, heads * width))?);
    }
    let mut first = rows;
    for chunk in step.prompts {
        let (tokens, own) = (chunk.slots.len(), chunk.count);
        let past = backend.index(&chunk.slots)?;
        let of = |all: &Tensor| {
            all.index_select(&past, 0)?
                .transpose(0, 1)?
                .contiguous()?
                .unsqueeze(0)
        };
        // The queries of a key head are adjacent: `[1, kv_heads, queries per key head · tokens, width]`.
        let shared = heads / kv_heads;
        let queries = queries
            .narrow(0, first, own)?
            .transpose(0, 1)?
            .contiguous()?
            .reshape((1, kv_heads, shared * own, width))?;
        let mask = causal_mask(backend, tokens, own, shared, attention.window)?;
        let out = attend_heads(&queries, &of(all_keys)?, &of(all_values)?, Some(&mask))?;
        let out = out.reshape((heads, own, width))?.transpose(0, 1)?.contiguous()?;
        attended.push(out.reshape((own, heads * width))?);
        first += own;
    }
    Tensor::cat(&attended, 0)
}

/// Returns `[1, 1, copies · queries, tokens]`: 0 for the tokens that each of the last `queries` tokens sees, a very low
/// value for the others.
fn causal_mask(
    backend: &Tensors,
    tokens: usize,
    queries: usize,
    copies: usize,
    window: Option<usize>,
) -> Result<Tensor> {
    let hidden = match backend.dtype {
        DType::F16 => HIDDEN_F16,
        _ => HIDDEN,
    };
    let mut mask = vec![hidden; queries * tokens];
    for (row, mask) in mask.chunks_exact_mut(tokens).enumerate() {
        let end = tokens - queries + row + 1;
        let start = window.map_or(0, |window| end.saturating_sub(window));
        mask[start..end].fill(0.0);
    }
    let mask = Tensor::from_vec(
        mask.repeat(copies),
        (1, 1, copies * queries, tokens),
        &backend.device,
    )?;
    mask.to_dtype(backend.dtype)
}
