//! Keys and values of a text, packed for attention.

use super::lanes::{to_bf16, versions};
use super::weights::Lines;
use super::{Isa, PANEL, Precision};

/// Keys and values of one text in one layer, packed as panels of a product: per head, keys as `[d_kv, tokens]` and
/// values as `[tokens, d_kv]`. Stored as f32, or as bf16 with bf16 and int8 products.
#[derive(Debug)]
pub struct PackedKeysValues {
    pub(super) half: bool,
    /// The tokens of the values are padded to a multiple of this.
    group: usize,
    pub(super) tokens: usize,
    pub(super) heads: usize,
    pub(super) d_kv: usize,
    pub(super) keys: Lines,
    pub(super) values: Lines,
}

/// Position of keys or values in rows of projections.
#[derive(Debug, Clone, Copy)]
struct Source<'a> {
    values: &'a [f32],
    stride: usize,
    offset: usize,
}

impl Source<'_> {
    /// Returns head `head` of a token.
    fn of(&self, token: usize, head: usize, d_kv: usize) -> &[f32] {
        &self.values[token * self.stride + self.offset + head * d_kv..][..d_kv]
    }
}

impl PackedKeysValues {
    /// Packs the keys and values of `tokens` rows of `stride` elements. In each row they start at two offsets, head
    /// after head.
    ///
    /// # Panics
    /// If `source` is too short.
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
            group: 1,
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

    /// [`PackedKeysValues::pack`] that reuses this memory.
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
            "too few elements for the keys and values of {tokens} tokens"
        );
        self.half = precision != Precision::F32;
        self.group = match (self.half, isa.amx) {
            (false, _) => 1,
            (true, false) => 2,
            // A line of an AMX tile.
            (true, true) => 32,
        };
        (self.tokens, self.heads, self.d_kv) = (tokens, heads, d_kv);
        let (keys, values) = (self.key_length(), self.value_length());
        let at = |offset| Source {
            values: source,
            stride,
            offset,
        };
        let (shape, inputs) = ((tokens, d_kv), self.value_inputs());
        for head in 0..heads {
            if self.half {
                self.keys.resize::<u16>(heads * keys);
                self.values.resize::<u16>(heads * values);
                let keys = &mut self.keys.get_mut::<u16>()[head * keys..][..keys];
                half_keys(isa, at(key_offset), head, shape, keys);
                let values = &mut self.values.get_mut::<u16>()[head * values..][..values];
                half_values(isa, at(value_offset), head, inputs, shape, values);
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

    /// Returns the size in bytes.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.keys.bytes() + self.values.bytes()
    }

    /// Returns d_kv, rounded up to whole groups.
    pub(super) fn key_inputs(&self) -> usize {
        self.d_kv.next_multiple_of(if self.half { 2 } else { 1 })
    }

    /// Returns the number of tokens, rounded up to whole groups.
    pub(super) fn value_inputs(&self) -> usize {
        self.whole_groups(self.tokens)
    }

    /// Rounds a number of tokens up to whole groups.
    pub(super) fn whole_groups(&self, tokens: usize) -> usize {
        tokens.next_multiple_of(self.group)
    }

    /// Returns the elements of a head's keys.
    pub(super) fn key_length(&self) -> usize {
        self.key_inputs() * self.tokens.next_multiple_of(PANEL)
    }

    /// Returns the elements of a head's values.
    pub(super) fn value_length(&self) -> usize {
        self.value_inputs() * self.d_kv.next_multiple_of(PANEL)
    }
}

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
    fn half_values(
        source: Source<'_>, head: usize, inputs: usize, shape: (usize, usize), out: &mut [u16]
    ) = half_values_body
}

#[inline(always)]
fn half_values_body(
    source: Source<'_>,
    head: usize,
    inputs: usize,
    (tokens, d_kv): (usize, usize),
    out: &mut [u16],
) {
    for (panel, out) in out.chunks_exact_mut(inputs * PANEL).enumerate() {
        let first = panel * PANEL;
        let count = d_kv.saturating_sub(first).min(PANEL);
        if count < PANEL {
            out.fill(0);
        } else {
            // Zero everything after the last complete pair.
            out[tokens / 2 * 2 * PANEL..].fill(0);
        }
        for (pair, places) in out
            .chunks_exact_mut(2 * PANEL)
            .take(tokens.div_ceil(2))
            .enumerate()
        {
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
