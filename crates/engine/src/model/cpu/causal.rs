//! Causal self-attention on one CPU thread.

use super::Cpu;
use super::forms::{Norm, Rows};
use crate::kernels::{Isa, SlotCache, attend_prompt, attend_slots, rms_norm, rotate};
use crate::model::backend::{CausalAttention, StepRows};

impl Cpu {
    /// See [`Backend::causal_attention`](crate::model::Backend::causal_attention).
    ///
    /// Tokens of a prompt always go through `attend_prompt`, and all others through `attend_slots`. The two round
    /// differently, so a token's result depends neither on the chunks of its prompt nor on other requests.
    pub(super) fn attend_causally(
        &mut self,
        qkv: &mut Rows,
        cache: &mut SlotCache,
        layer: usize,
        step: StepRows<'_>,
        attention: &CausalAttention<Self>,
        out: &mut Rows,
    ) {
        let (isa, stride) = (self.isa, qkv.width);
        let (inner, kv_inner) = (
            attention.heads * attention.width,
            attention.kv_heads * attention.width,
        );
        let angles = &attention.rotation;
        for (row, (position, slot)) in qkv.values.chunks_exact_mut(stride).zip(step.places()) {
            let (queries, rest) = row.split_at_mut(inner);
            let (keys, values) = rest.split_at_mut(kv_inner);
            if let Some((query_norm, key_norm)) = &attention.query_key_norms {
                norm_heads(isa, queries, query_norm, &mut self.added);
                norm_heads(isa, keys, key_norm, &mut self.added);
            }
            let place = position * angles.half..(position + 1) * angles.half;
            let (cos, sin) = (&angles.cos[place.clone()], &angles.sin[place]);
            rotate(isa, queries, cos, sin, attention.scale);
            rotate(isa, keys, cos, sin, 1.0);
            cache.store(isa, layer, slot, keys, values);
        }
        let out = out.shape(qkv.count(), inner);
        let (rows, prompts) = qkv.values.split_at(step.lengths.len() * stride);
        let (out_rows, mut out_prompts) = out.split_at_mut(step.lengths.len() * inner);
        let each = rows.chunks_exact(stride).zip(step.ancestries());
        for ((row, slots), out) in each.zip(out_rows.chunks_exact_mut(inner)) {
            let hidden = attention
                .window
                .map_or(0, |window| slots.len().saturating_sub(window));
            let (scratch, slots) = (&mut self.attention, &slots[hidden..]);
            attend_slots(isa, scratch, &row[..inner], cache, layer, slots, &[], 0, out);
        }
        let mut first = 0;
        for chunk in step.prompts {
            let (out, others) = out_prompts.split_at_mut(chunk.count * inner);
            out_prompts = others;
            attend_prompt(
                isa,
                &mut self.attention,
                &prompts[first * stride..],
                stride,
                chunk.count,
                cache,
                layer,
                &chunk.slots,
                attention.window,
                out,
            );
            first += chunk.count;
        }
    }
}

/// Normalizes each head in place.
fn norm_heads(isa: Isa, heads: &mut [f32], norm: &Norm, scratch: &mut Vec<f32>) {
    scratch.resize(heads.len(), 0.0);
    rms_norm(isa, heads, &norm.weight, norm.epsilon, scratch);
    heads.copy_from_slice(scratch);
}
