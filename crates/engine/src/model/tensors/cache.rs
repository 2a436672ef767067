//! KV cache of a decoder's tokens, and a decoding step's attention to it.

use candle_core::{Result, Tensor, TensorId};

use super::{Bias, Tensors, attend};
use crate::model::backend::StepRows;

/// Slots by which the cache grows.
const GROWTH: usize = 1024;

/// Per layer, keys and values of all slots: `[slots, heads, d_kv]` each.
#[derive(Debug)]
pub(crate) struct Cache {
    layers: Vec<(Tensor, Tensor)>,
    heads: usize,
    d_kv: usize,
    slots: usize,
    /// The current step's tensors, created in its first layer.
    step: Option<Step>,
}

/// Tensors that all layers of a step share, uploaded once.
#[derive(Debug)]
struct Step {
    /// Slot of each row's last token, `[rows, heads, d_kv]`.
    last: Tensor,
    /// Slots of every row's past, padded at the end to the longest, `[rows · most]`.
    past: Tensor,
    /// Tokens of the longest past.
    most: usize,
    /// Indices into a bias table, `[rows · most]`.
    places: Tensor,
    /// `[rows, 1, 1, most]`, or `None` if all rows have the same length.
    mask: Option<Tensor>,
    /// The last bias including the mask, with the id of its table: most models share one table across layers.
    bias: Option<(TensorId, Tensor)>,
}

impl Step {
    fn new(
        backend: &Tensors,
        rows: StepRows<'_>,
        bias: &Bias,
        (heads, d_kv): (usize, usize),
    ) -> Result<Self> {
        let count = rows.lengths.len();
        let last: Vec<u32> = rows
            .ancestries()
            .filter_map(|slots| slots.last().copied())
            .collect();
        let most = rows.lengths.iter().copied().max().unwrap_or(0);
        let mut past = Vec::with_capacity(count * most);
        for own in rows.ancestries() {
            past.extend_from_slice(own);
            past.resize(past.len() + most - own.len(), last[0]);
        }
        let places = bias.places(rows.lengths.iter().map(|length| length - 1), most)?;
        Ok(Self {
            last: backend
                .index(&last)?
                .reshape((count, 1, 1))?
                .broadcast_as((count, heads, d_kv))?
                .contiguous()?,
            past: backend.index(&past)?,
            most,
            places: backend.index(&places)?,
            mask: backend.mask(rows.lengths, most)?,
            bias: None,
        })
    }

    /// Returns `[rows, heads, 1, most]`.
    fn bias(&mut self, bias: &Bias) -> Result<Tensor> {
        if let Some((table, made)) = &self.bias
            && *table == bias.table.id()
        {
            return Ok(made.clone());
        }
        let heads = bias.table.dim(1)?;
        let mut made = bias
            .table
            .index_select(&self.places, 0)?
            .reshape(((), self.most, heads))?
            .transpose(1, 2)?
            .unsqueeze(2)?
            .contiguous()?;
        if let Some(mask) = &self.mask {
            made = made.broadcast_add(mask)?;
        }
        self.bias = Some((bias.table.id(), made.clone()));
        Ok(made)
    }
}

impl Cache {
    /// Creates an empty cache.
    pub(super) fn new(backend: &Tensors, layers: usize, heads: usize, d_kv: usize) -> Result<Self> {
        let empty = || Tensor::zeros((0, heads, d_kv), backend.dtype, &backend.device);
        let layers: Result<Vec<_>> = (0..layers).map(|_| Ok((empty()?, empty()?))).collect();
        Ok(Self {
            layers: layers?,
            heads,
            d_kv,
            slots: 0,
            step: None,
        })
    }

    /// Grows the cache to `slots` slots.
    pub(super) fn reserve(&mut self, backend: &Tensors, slots: usize) -> Result<()> {
        if slots <= self.slots {
            return Ok(());
        }
        let grown = slots.next_multiple_of(GROWTH);
        let shape = (grown - self.slots, self.heads, self.d_kv);
        let room = Tensor::zeros(shape, backend.dtype, &backend.device)?;
        for (keys, values) in &mut self.layers {
            // candle cannot concatenate an empty tensor.
            let grow = |tensor: &Tensor| match self.slots {
                0 => room.copy(),
                _ => Tensor::cat(&[tensor, &room], 0),
            };
            (*keys, *values) = (grow(keys)?, grow(values)?);
        }
        self.slots = grown;
        Ok(())
    }

    /// Returns a layer's keys and values, `[slots, heads, d_kv]` each.
    pub(super) fn layer(&self, layer: usize) -> (&Tensor, &Tensor) {
        let (keys, values) = &self.layers[layer];
        (keys, values)
    }

    /// Stores the keys and values of a layer's rows, `[rows, 3 · heads · d_kv]` with the queries first, and attends
    /// every query to its row's past: `[rows, heads · d_kv]`.
    pub(super) fn attend(
        &mut self,
        backend: &Tensors,
        qkv: &Tensor,
        layer: usize,
        rows: StepRows<'_>,
        bias: &Bias,
    ) -> Result<Tensor> {
        let (count, width) = qkv.dims2()?;
        let (inner, heads, d_kv) = (width / 3, self.heads, self.d_kv);
        let part = |index: usize| {
            qkv.narrow(1, index * inner, inner)?
                .contiguous()?
                .reshape((count, heads, d_kv))
        };
        if layer == 0 {
            self.step = None;
        }
        let step = match &mut self.step {
            Some(step) => step,
            none => none.insert(Step::new(backend, rows, bias, (heads, d_kv))?),
        };
        let (keys, values) = &self.layers[layer];
        keys.scatter_set(&step.last, &part(1)?, 0)?;
        values.scatter_set(&step.last, &part(2)?, 0)?;
        let past = |tensor: &Tensor| {
            tensor
                .index_select(&step.past, 0)?
                .reshape((count, step.most, heads, d_kv))?
                .transpose(1, 2)?
                .contiguous()
        };
        let query = part(0)?.reshape((count, heads, 1, d_kv))?;
        let (keys, values) = (past(keys)?, past(values)?);
        let bias = step.bias(bias)?;
        attend(&query, &keys, &values, Some(&bias))?.reshape((count, inner))
    }
}
