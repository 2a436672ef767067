//! Multi-head attention on candle's tensors.

use candle_core::{D, Result, Tensor};

/// Computes softmax(Q · Kᵀ + bias) · V. T5 does not scale the scores: its weights include the factor.
///
/// `query` is `[batch, heads, queries, d_kv]`, `key` and `value` are `[batch, heads, keys, d_kv]`, and `bias`
/// broadcasts to `[batch, heads, queries, keys]`. The result has the shape of `query`.
pub(super) fn attend(query: &Tensor, key: &Tensor, value: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let scores = query.matmul(&key.transpose(D::Minus2, D::Minus1)?)?;
    let scores = match bias {
        Some(bias) => scores.broadcast_add(bias)?,
        None => scores,
    };
    candle_nn::ops::softmax_last_dim(&scores)?.matmul(value)
}

/// `[batch · tokens, heads · d_kv]` → `[batch, heads, tokens, d_kv]`, contiguous.
pub(super) fn split_heads(rows: &Tensor, batch: usize, heads: usize) -> Result<Tensor> {
    let (count, width) = rows.dims2()?;
    rows.contiguous()?
        .reshape((batch, count / batch, heads, width / heads))?
        .transpose(1, 2)?
        .contiguous()
}

/// `[batch, heads, tokens, d_kv]` → `[batch · tokens, heads · d_kv]`.
pub(super) fn join_heads(heads: &Tensor) -> Result<Tensor> {
    let (batch, count, tokens, width) = heads.dims4()?;
    heads.transpose(1, 2)?.reshape((batch * tokens, count * width))
}
