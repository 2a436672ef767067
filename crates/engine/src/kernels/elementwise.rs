//! Elementwise and rowwise functions.

use super::Isa;
use super::activations::norm_row;
use super::lanes::{exp, fold, larger, largest, sum, versions};

/// Computes x / √(mean(x²) + ε) · weight of each row x: T5's normalization, without mean subtraction and bias.
///
/// # Panics
/// If `rows` and `out` are not the same whole number of rows of `weight.len()` elements.
pub fn rms_norm(isa: Isa, rows: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    assert_eq!(rows.len(), out.len(), "wrong length of the output");
    assert!(
        rows.len().is_multiple_of(weight.len()),
        "not a whole number of rows"
    );
    for (row, out) in rows
        .chunks_exact(weight.len())
        .zip(out.chunks_exact_mut(weight.len()))
    {
        norm_row(isa, row, weight, epsilon, 1.0, out);
    }
}

/// Computes gelu(gate) · linear of rows [gate | linear]: `[count, 2 · width]` → `[count, width]`. Uses the tanh
/// approximation, like transformers' `NewGELUActivation`.
///
/// # Panics
/// If the lengths of `rows` and `out` do not match.
pub fn gelu_gate(isa: Isa, rows: &[f32], width: usize, out: &mut [f32]) {
    assert_eq!(rows.len(), 2 * out.len(), "wrong length of the output");
    for (row, out) in rows.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
        let (gate, linear) = row.split_at(width);
        gelu_gate_row(isa, gate, linear, out);
    }
}

/// Computes silu(gate) · linear of rows [gate | linear]: `[count, 2 · width]` → `[count, width]`.
///
/// # Panics
/// If the lengths of `rows` and `out` do not match.
pub fn silu_gate(isa: Isa, rows: &[f32], width: usize, out: &mut [f32]) {
    assert_eq!(rows.len(), 2 * out.len(), "wrong length of the output");
    for (row, out) in rows.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
        let (gate, linear) = row.split_at(width);
        silu_gate_row(isa, gate, linear, out);
    }
}

versions! {
    fn silu_gate_row(gate: &[f32], linear: &[f32], out: &mut [f32]) = silu_gate_body
}

#[inline(always)]
fn silu_gate_body(gate: &[f32], linear: &[f32], out: &mut [f32]) {
    for ((out, x), linear) in out.iter_mut().zip(gate).zip(linear) {
        // 1 / (1 + exp(-x)), arranged so that exp never overflows.
        let small = exp(-x.abs());
        let upper = 1.0 / (1.0 + small);
        let logistic = if *x > 0.0 { upper } else { small * upper };
        *out = x * logistic * linear;
    }
}

/// Rotates heads of `2 · cos.len()` elements by a position's angles (RoPE) and multiplies them by `scale`. Element `i`
/// is the real part of a pair, and element `cos.len() + i` its imaginary part.
///
/// # Panics
/// If `heads` is not a whole number of heads, or `cos` and `sin` differ in length.
pub fn rotate(isa: Isa, heads: &mut [f32], cos: &[f32], sin: &[f32], scale: f32) {
    assert_eq!(cos.len(), sin.len(), "angles differ in length");
    assert!(
        heads.len().is_multiple_of(2 * cos.len()),
        "not a whole number of heads"
    );
    for head in heads.chunks_exact_mut(2 * cos.len()) {
        rotate_head(isa, head, cos, sin, scale);
    }
}

versions! {
    fn rotate_head(head: &mut [f32], cos: &[f32], sin: &[f32], scale: f32) = rotate_head_body
}

#[inline(always)]
fn rotate_head_body(head: &mut [f32], cos: &[f32], sin: &[f32], scale: f32) {
    let (real, imaginary) = head.split_at_mut(cos.len());
    for (((real, imaginary), cos), sin) in real.iter_mut().zip(imaginary).zip(cos).zip(sin) {
        let (x, y) = (*real, *imaginary);
        *real = (x * cos - y * sin) * scale;
        *imaginary = (y * cos + x * sin) * scale;
    }
}

versions! {
    fn gelu_gate_row(gate: &[f32], linear: &[f32], out: &mut [f32]) = gelu_gate_body
}

#[inline(always)]
fn gelu_gate_body(gate: &[f32], linear: &[f32], out: &mut [f32]) {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    for ((out, x), linear) in out.iter_mut().zip(gate).zip(linear) {
        let inner = SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x);
        // 0.5 · (1 + tanh y) = 1 / (1 + exp(-2y)), arranged so that exp never overflows.
        let small = exp(-2.0 * inner.abs());
        let upper = 1.0 / (1.0 + small);
        let half_plus = if inner > 0.0 { upper } else { small * upper };
        *out = x * half_plus * linear;
    }
}

versions! {
    /// Computes the softmax of the first `count` scores after adding `bias` (`count` values, or none), and zeroes the
    /// rest.
    pub(super) fn softmax(scores: &mut [f32], count: usize, bias: Option<&[f32]>) = softmax_body
}

#[inline(always)]
fn softmax_body(scores: &mut [f32], count: usize, bias: Option<&[f32]>) {
    let (scores, beyond) = scores.split_at_mut(count);
    beyond.fill(0.0);
    if let Some(bias) = bias {
        for (score, bias) in scores.iter_mut().zip(&bias[..count]) {
            *score += bias;
        }
    }
    let most = largest(scores);
    for score in scores.iter_mut() {
        *score = exp(*score - most);
    }
    let total = sum(fold(scores, 0.0, |sum, value| sum + value));
    let factor = 1.0 / larger(total, f32::MIN_POSITIVE);
    for score in scores.iter_mut() {
        *score *= factor;
    }
}
