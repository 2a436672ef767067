//! The graph's operations with this crate's kernels, on one CPU thread.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use self::feed_forward::add_product;
use self::forms::{Bias, Embedding, Linear, Norm, Rows, Vectors, head_width, numbers};
use super::backend::{Angles, Backend, CausalAttention, DistanceTable, FeedForward, StepRows};
use crate::kernels::{
    Activations, AttentionScratch, Epilogue, Isa, PackedKeysValues, PackedWeights, Precision, SlotCache,
    attend, attend_slots, product, product_columns, rms_norm,
};

mod causal;
mod encoder;
mod feed_forward;
mod forms;

/// Columns per block of the output head: the logits stay in the processor's cache.
const HEAD_COLUMNS: usize = 1024;

/// The kernels' backend.
#[derive(Debug)]
pub(crate) struct Cpu {
    isa: Isa,
    precision: Precision,
    activations: Activations,
    inner: Activations,
    wide: Vec<f32>,
    gated: Vec<f32>,
    added: Vec<f32>,
    attention: AttentionScratch,
    keys_values: Option<PackedKeysValues>,
}

impl Cpu {
    /// Creates a backend that computes products in `precision` with the instructions of `isa`.
    pub(crate) fn new(isa: Isa, precision: Precision) -> Self {
        Self {
            isa,
            precision,
            activations: Activations::default(),
            inner: Activations::default(),
            wide: Vec::new(),
            gated: Vec::new(),
            added: Vec::new(),
            attention: AttentionScratch::default(),
            keys_values: None,
        }
    }
}

impl Backend for Cpu {
    type Rows = Rows;
    type Linear = Linear;
    type Norm = Norm;
    type Embedding = Embedding;
    type Bias = Bias;
    type Rotation = Angles;
    type KeysValues = PackedKeysValues;
    type CrossBatch = Vec<Arc<Vec<PackedKeysValues>>>;
    type Cache = (SlotCache, usize);

    fn fork(&self) -> Self {
        Self::new(self.isa, self.precision)
    }

    fn device(&self) -> &'static str {
        "cpu"
    }

    fn precision(&self) -> &'static str {
        match self.precision {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::Int8 => "int8",
        }
    }

    fn linear(&self, parts: &[Tensor], bias: Option<&Tensor>) -> Result<Linear> {
        let inputs = match parts.first() {
            Some(part) => part.dim(1)?,
            None => candle_core::bail!("a projection of nothing"),
        };
        let values: Result<Vec<Vec<f32>>> = parts.iter().map(numbers).collect();
        let values = values?;
        let parts: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
        Ok(Linear {
            weights: PackedWeights::pack(self.precision, inputs, &parts),
            bias: bias.map(numbers).transpose()?,
        })
    }

    fn norm(&self, weight: &Tensor, epsilon: f32) -> Result<Norm> {
        Ok(Norm {
            weight: numbers(weight)?,
            epsilon,
        })
    }

    fn embedding(&self, table: &Tensor) -> Result<Embedding> {
        let values = numbers(table)?;
        Ok(Embedding {
            vectors: match self.precision {
                Precision::F32 => Vectors::F32(values),
                Precision::Bf16 | Precision::Int8 => {
                    Vectors::Bf16(values.into_iter().map(half::bf16::from_f32).collect())
                }
            },
            width: table.dim(1)?,
        })
    }

    fn bias(&self, table: DistanceTable) -> Result<Bias> {
        let of_head = |head: &[f32]| head[..=table.center].iter().rev().copied().collect::<Vec<_>>();
        let back = table
            .values
            .chunks_exact(table.length)
            .flat_map(of_head)
            .collect();
        Ok(Bias { table, back })
    }

    fn rotation(&self, angles: Angles) -> Result<Angles> {
        Ok(angles)
    }

    fn cache(&self, layers: usize, heads: usize, d_kv: usize) -> Result<Self::Cache> {
        Ok((SlotCache::new(self.precision, layers, heads, d_kv), heads * d_kv))
    }

    fn reserve(&mut self, (cache, _): &mut Self::Cache, slots: usize) -> Result<()> {
        cache.reserve(slots);
        Ok(())
    }

    fn embed(&mut self, table: &Embedding, ids: &[u32], out: &mut Rows) -> Result<()> {
        let width = table.width;
        let rows = out.shape(ids.len(), width).chunks_exact_mut(width);
        for (row, id) in rows.zip(ids) {
            let place = *id as usize * width..(*id as usize + 1) * width;
            match &table.vectors {
                Vectors::F32(vectors) => row.copy_from_slice(&vectors[place]),
                Vectors::Bf16(vectors) => {
                    let vector = &vectors[place];
                    row.iter_mut()
                        .zip(vector)
                        .for_each(|(value, own)| *value = own.to_f32());
                }
            }
        }
        Ok(())
    }

    fn normed(&mut self, rows: &Rows, norm: &Norm, out: &mut Rows) -> Result<()> {
        let out = out.shape(rows.count(), rows.width);
        rms_norm(self.isa, &rows.values, &norm.weight, norm.epsilon, out);
        Ok(())
    }

    fn project(&mut self, rows: &Rows, norm: Option<&Norm>, linear: &Linear, out: &mut Rows) -> Result<()> {
        let activations = &mut self.activations;
        match norm {
            Some(norm) => activations.fill_normed(
                self.isa,
                self.precision,
                &rows.values,
                &norm.weight,
                norm.epsilon,
                1.0,
            ),
            None => activations.fill(self.isa, self.precision, &rows.values, rows.width),
        }
        let out = out.shape(rows.count(), linear.outputs());
        product(self.isa, activations, &linear.weights, Epilogue::Store, out);
        linear.add_bias(out);
        Ok(())
    }

    fn project_onto(
        &mut self,
        rows: &mut Rows,
        input: &Rows,
        linear: &Linear,
        norm: Option<&Norm>,
    ) -> Result<()> {
        self.activations
            .fill(self.isa, self.precision, &input.values, input.width);
        let input = &self.activations;
        add_product(self.isa, input, linear, norm, &mut self.added, &mut rows.values);
        Ok(())
    }

    fn truncate(&mut self, rows: &mut Rows, count: usize) -> Result<()> {
        rows.values.truncate(count * rows.width);
        Ok(())
    }

    fn feed_forward(&mut self, rows: &mut Rows, layer: &FeedForward<Self>) -> Result<()> {
        self.add_feed_forward(rows, layer)
    }

    fn encoder_attention(
        &mut self,
        qkv: &Rows,
        lengths: &[usize],
        heads: usize,
        bias: &Bias,
        out: &mut Rows,
    ) -> Result<()> {
        self.attend_to_texts(qkv, lengths, heads, bias, out);
        Ok(())
    }

    fn keys_values(&mut self, kv: &Rows, lengths: &[usize], heads: usize) -> Result<Vec<PackedKeysValues>> {
        let (stride, inner) = (kv.width, kv.width / 2);
        let mut first = 0;
        let text = |length: &usize| {
            let source = &kv.values[first * stride..(first + length) * stride];
            first += length;
            PackedKeysValues::pack(
                self.isa,
                self.precision,
                source,
                stride,
                0,
                inner,
                *length,
                heads,
                head_width(inner, heads),
            )
        };
        Ok(lengths.iter().map(text).collect())
    }

    fn cross_batch(&mut self, texts: Vec<Arc<Vec<PackedKeysValues>>>) -> Result<Self::CrossBatch> {
        Ok(texts)
    }

    fn cross_attention(
        &mut self,
        queries: &Rows,
        batch: &Self::CrossBatch,
        layer: usize,
        rows: &[usize],
        out: &mut Rows,
    ) -> Result<()> {
        let width = queries.width;
        let out = out.shape(queries.count(), width);
        let mut first = 0;
        for (text, count) in batch.iter().zip(rows) {
            let place = first * width..(first + count) * width;
            first += count;
            attend(
                self.isa,
                &mut self.attention,
                &queries.values[place.clone()],
                width,
                0,
                *count,
                &text[layer],
                None,
                &mut out[place],
            );
        }
        Ok(())
    }

    fn self_attention(
        &mut self,
        qkv: &Rows,
        (cache, inner): &mut Self::Cache,
        layer: usize,
        step: StepRows<'_>,
        bias: &Bias,
        out: &mut Rows,
    ) -> Result<()> {
        let inner = *inner;
        let rows = || qkv.values.chunks_exact(3 * inner).zip(step.ancestries());
        for (row, slots) in rows() {
            if let Some(slot) = slots.last() {
                let (keys, values) = row[inner..].split_at(inner);
                cache.store(self.isa, layer, *slot, keys, values);
            }
        }
        let out = out.shape(step.lengths.len(), inner);
        for ((row, slots), out) in rows().zip(out.chunks_exact_mut(inner)) {
            attend_slots(
                self.isa,
                &mut self.attention,
                &row[..inner],
                cache,
                layer,
                slots,
                &bias.back,
                bias.table.center + 1,
                out,
            );
        }
        Ok(())
    }

    fn causal_attention(
        &mut self,
        qkv: &mut Rows,
        (cache, _): &mut Self::Cache,
        layer: usize,
        step: StepRows<'_>,
        attention: &CausalAttention<Self>,
        out: &mut Rows,
    ) -> Result<()> {
        self.attend_causally(qkv, cache, layer, step, attention, out);
        Ok(())
    }

    fn logits(
        &mut self,
        rows: &Rows,
        norm: &Norm,
        scale: f32,
        head: &Linear,
        take: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<()> {
        let (isa, vocabulary) = (self.isa, head.outputs());
        self.activations.fill_normed(
            isa,
            self.precision,
            &rows.values,
            &norm.weight,
            norm.epsilon,
            scale,
        );
        for first in (0..vocabulary).step_by(HEAD_COLUMNS) {
            let columns = first..(first + HEAD_COLUMNS).min(vocabulary);
            self.wide.resize(rows.count() * columns.len(), 0.0);
            product_columns(
                isa,
                &self.activations,
                &head.weights,
                columns.clone(),
                &mut self.wide,
            );
            if let Some(bias) = &head.bias {
                forms::add_to_rows(&bias[columns], &mut self.wide);
            }
            take(first, &self.wide);
        }
        Ok(())
    }

    fn to_host(&mut self, rows: &Rows) -> Result<Vec<f32>> {
        Ok(rows.values.clone())
    }
}
