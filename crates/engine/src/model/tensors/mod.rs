//! The graph's operations on candle's tensors, for GPUs and as the reference of the kernels.

use std::sync::Arc;

use candle_core::{DType, Device, Module, Result, Tensor};

use self::attention::{attend, join_heads, split_heads};
use self::cache::Cache;
use self::forms::{Bias, Linear, Norm, Rows, normed_if};
use super::backend::{Angles, Backend, CausalAttention, DistanceTable, FeedForward, Highest, StepRows};

mod attention;
mod cache;
mod causal;
mod forms;
mod highest;

/// Score of masked positions: its exponential is 0.
const HIDDEN: f32 = -1e9;
/// [`HIDDEN`] for f16, with its maximum of 65504.
const HIDDEN_F16: f32 = -6e4;

/// candle's backend, on one device in one number format.
#[derive(Debug, Clone)]
pub(crate) struct Tensors {
    device: Device,
    dtype: DType,
}

impl Tensors {
    /// Creates a backend for this device and number format.
    pub(crate) fn new(device: Device, dtype: DType) -> Self {
        Self { device, dtype }
    }

    fn put(&self, tensor: &Tensor) -> Result<Tensor> {
        tensor.to_dtype(self.dtype)?.to_device(&self.device)
    }

    fn index(&self, values: &[u32]) -> Result<Tensor> {
        Tensor::from_slice(values, values.len(), &self.device)
    }

    /// Returns a mask `[rows, 1, 1, most]`: 0 for the first `lengths[i]` positions of row `i`, a very low value after
    /// them. `None` if all rows are full.
    fn mask(&self, lengths: &[usize], most: usize) -> Result<Option<Tensor>> {
        if lengths.iter().all(|length| *length == most) {
            return Ok(None);
        }
        let hidden = if self.dtype == DType::F16 {
            HIDDEN_F16
        } else {
            HIDDEN
        };
        let mut mask = vec![0f32; lengths.len() * most];
        for (row, length) in mask.chunks_mut(most).zip(lengths) {
            row[*length..].fill(hidden);
        }
        let mask = Tensor::from_vec(mask, (lengths.len(), 1, 1, most), &self.device)?;
        mask.to_dtype(self.dtype).map(Some)
    }
}

/// Keys and values of a text in a layer, `[heads, tokens, d_kv]` each.
#[derive(Debug)]
pub(crate) struct KeysValues {
    keys: Tensor,
    values: Tensor,
}

/// Texts side by side, padded to the longest.
#[derive(Debug)]
pub(crate) struct CrossBatch {
    /// Per layer: `[texts, heads, tokens, d_kv]` each.
    layers: Vec<(Tensor, Tensor)>,
    /// `[texts, 1, 1, tokens]`.
    mask: Option<Tensor>,
}

impl Backend for Tensors {
    type Rows = Rows;
    type Linear = Linear;
    type Norm = Norm;
    type Embedding = Tensor;
    type Bias = Bias;
    type Rotation = causal::Rotation;
    type KeysValues = KeysValues;
    type CrossBatch = CrossBatch;
    type Cache = Cache;

    fn fork(&self) -> Self {
        self.clone()
    }

    fn device(&self) -> &'static str {
        crate::device::device_name(&self.device)
    }

    fn precision(&self) -> &'static str {
        self.dtype.as_str()
    }

    fn linear(&self, parts: &[Tensor], bias: Option<&Tensor>) -> Result<Linear> {
        let weight = self.put(&Tensor::cat(parts, 0)?.t()?.contiguous()?)?;
        let bias = bias.map(|bias| self.put(bias)).transpose()?;
        Ok(Linear { weight, bias })
    }

    fn norm(&self, weight: &Tensor, epsilon: f32) -> Result<Norm> {
        Ok(Norm {
            weight: self.put(weight)?,
            epsilon,
        })
    }

    fn embedding(&self, table: &Tensor) -> Result<Tensor> {
        self.put(table)
    }

    fn bias(&self, table: DistanceTable) -> Result<Bias> {
        let values = Tensor::from_vec(table.values, (table.heads, table.length), &Device::Cpu)?;
        Ok(Bias {
            table: self.put(&values.t()?.contiguous()?)?,
            center: table.center,
        })
    }

    fn rotation(&self, angles: Angles) -> Result<causal::Rotation> {
        causal::Rotation::new(self, angles)
    }

    fn cache(&self, layers: usize, heads: usize, d_kv: usize) -> Result<Cache> {
        Cache::new(self, layers, heads, d_kv)
    }

    fn reserve(&mut self, cache: &mut Cache, slots: usize) -> Result<()> {
        cache.reserve(self, slots)
    }

    fn embed(&mut self, table: &Tensor, ids: &[u32], out: &mut Rows) -> Result<()> {
        out.0 = Some(table.index_select(&self.index(ids)?, 0)?);
        Ok(())
    }

    fn normed(&mut self, rows: &Rows, norm: &Norm, out: &mut Rows) -> Result<()> {
        out.0 = Some(norm.forward(rows.get()?)?);
        Ok(())
    }

    fn project(&mut self, rows: &Rows, norm: Option<&Norm>, linear: &Linear, out: &mut Rows) -> Result<()> {
        out.0 = Some(match norm {
            Some(norm) => linear.forward(&norm.forward(rows.get()?)?)?,
            None => linear.forward(rows.get()?)?,
        });
        Ok(())
    }

    fn project_onto(
        &mut self,
        rows: &mut Rows,
        input: &Rows,
        linear: &Linear,
        norm: Option<&Norm>,
    ) -> Result<()> {
        let added = normed_if(norm, linear.forward(input.get()?)?)?;
        rows.0 = Some((rows.get()? + added)?);
        Ok(())
    }

    fn truncate(&mut self, rows: &mut Rows, count: usize) -> Result<()> {
        rows.0 = Some(rows.get()?.narrow(0, 0, count)?);
        Ok(())
    }

    fn feed_forward(&mut self, rows: &mut Rows, layer: &FeedForward<Self>) -> Result<()> {
        let own = rows.get()?;
        let inner = layer.inner.forward(&layer.norm.forward(own)?)?;
        let inner = match layer.gated {
            true => {
                let part = |index: usize| inner.narrow(1, index * layer.d_ff, layer.d_ff)?.contiguous();
                (layer.activation.forward(&part(0)?)? * part(1)?)?
            }
            false => layer.activation.forward(&inner)?,
        };
        let added = normed_if(layer.post_norm.as_ref(), layer.outer.forward(&inner)?)?;
        let sum = (own + added)?;
        rows.0 = Some(sum);
        Ok(())
    }

    fn encoder_attention(
        &mut self,
        qkv: &Rows,
        lengths: &[usize],
        heads: usize,
        bias: &Bias,
        out: &mut Rows,
    ) -> Result<()> {
        let (_, width) = qkv.get()?.dims2()?;
        let inner = width / 3;
        let (mut attended, mut first) = (Vec::with_capacity(lengths.len()), 0);
        for length in lengths {
            let own = qkv.get()?.narrow(0, first, *length)?;
            let part = |index: usize| split_heads(&own.narrow(1, index * inner, inner)?, 1, heads);
            let bias = bias.within(self, *length)?;
            attended.push(join_heads(&attend(
                &part(0)?,
                &part(1)?,
                &part(2)?,
                Some(&bias),
            )?)?);
            first += length;
        }
        out.0 = Some(Tensor::cat(&attended, 0)?);
        Ok(())
    }

    fn keys_values(&mut self, kv: &Rows, lengths: &[usize], heads: usize) -> Result<Vec<KeysValues>> {
        let (_, width) = kv.get()?.dims2()?;
        let inner = width / 2;
        let mut first = 0;
        let text = |length: &usize| {
            let own = kv.get()?.narrow(0, first, *length)?;
            first += length;
            let part =
                |index: usize| split_heads(&own.narrow(1, index * inner, inner)?, 1, heads)?.squeeze(0);
            Ok(KeysValues {
                keys: part(0)?,
                values: part(1)?,
            })
        };
        lengths.iter().map(text).collect()
    }

    fn cross_batch(&mut self, texts: Vec<Arc<Vec<KeysValues>>>) -> Result<CrossBatch> {
        let lengths: Result<Vec<usize>> = texts
            .iter()
            .map(|text| text.first().map_or(Ok(0), |layer| layer.keys.dim(1)))
            .collect();
        let lengths = lengths?;
        let most = lengths.iter().copied().max().unwrap_or(0);
        let stack = |pick: &dyn Fn(usize) -> Tensor| {
            let padded: Result<Vec<Tensor>> = (0..texts.len())
                .map(|text| pick(text).pad_with_zeros(1, 0, most - lengths[text]))
                .collect();
            Tensor::stack(&padded?, 0)
        };
        let count = texts.first().map_or(0, |layers| layers.len());
        let layers: Result<Vec<(Tensor, Tensor)>> = (0..count)
            .map(|layer| {
                Ok((
                    stack(&|text| texts[text][layer].keys.clone())?,
                    stack(&|text| texts[text][layer].values.clone())?,
                ))
            })
            .collect();
        Ok(CrossBatch {
            layers: layers?,
            mask: self.mask(&lengths, most)?,
        })
    }

    fn cross_attention(
        &mut self,
        queries: &Rows,
        batch: &CrossBatch,
        layer: usize,
        rows: &[usize],
        out: &mut Rows,
    ) -> Result<()> {
        let (key, value) = &batch.layers[layer];
        let heads = key.dim(1)?;
        let queries = queries.get()?;
        let (mut attended, mut first_text, mut first_row) = (Vec::new(), 0, 0);
        // Adjacent requests with the same number of rows share one product.
        for run in rows.chunk_by(|a, b| a == b) {
            let (texts, count) = (run.len(), run.len() * run[0]);
            let query = split_heads(&queries.narrow(0, first_row, count)?, texts, heads)?;
            let part = |tensor: &Tensor| tensor.narrow(0, first_text, texts);
            let mask = batch.mask.as_ref().map(part).transpose()?;
            let (key, value) = (part(key)?.contiguous()?, part(value)?.contiguous()?);
            attended.push(join_heads(&attend(&query, &key, &value, mask.as_ref())?)?);
            (first_text, first_row) = (first_text + texts, first_row + count);
        }
        out.0 = Some(Tensor::cat(&attended, 0)?);
        Ok(())
    }

    fn self_attention(
        &mut self,
        qkv: &Rows,
        cache: &mut Cache,
        layer: usize,
        step: StepRows<'_>,
        bias: &Bias,
        out: &mut Rows,
    ) -> Result<()> {
        out.0 = Some(cache.attend(self, qkv.get()?, layer, step, bias)?);
        Ok(())
    }

    fn causal_attention(
        &mut self,
        qkv: &mut Rows,
        cache: &mut Cache,
        layer: usize,
        step: StepRows<'_>,
        attention: &CausalAttention<Self>,
        out: &mut Rows,
    ) -> Result<()> {
        out.0 = Some(causal::attend(self, qkv.get()?, cache, layer, step, attention)?);
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
        let normed = (norm.forward(rows.get()?)? * f64::from(scale))?;
        let logits = head.forward(&normed)?.to_dtype(DType::F32)?;
        take(0, &logits.flatten_all()?.to_vec1::<f32>()?);
        Ok(())
    }

    fn highest(
        &mut self,
        rows: &Rows,
        norm: &Norm,
        scale: f32,
        head: &Linear,
        count: usize,
    ) -> Result<Option<Vec<Highest>>> {
        if !highest::can_find(count, head.weight.dim(1)?) {
            return Ok(None);
        }
        let normed = (norm.forward(rows.get()?)? * f64::from(scale))?;
        highest::highest(head.forward(&normed)?.to_dtype(DType::F32)?, count)
    }

    fn means(&mut self, rows: &Rows, lengths: &[usize]) -> Result<Vec<Vec<f32>>> {
        let rows = rows.get()?.to_dtype(DType::F32)?;
        let mut first = 0;
        let means: Result<Vec<Tensor>> = lengths
            .iter()
            .map(|length| {
                first += length;
                rows.narrow(0, first - length, *length)?.mean(0)
            })
            .collect();
        Tensor::stack(&means?, 0)?.to_vec2()
    }

    fn to_host(&mut self, rows: &Rows) -> Result<Vec<f32>> {
        rows.get()?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
    }
}
