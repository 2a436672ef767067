//! What a batch carries from one decode step to the next: the KV caches.

use candle_core::{DType, Device, Result, Tensor};

use super::encoder::padding_mask;
use crate::config::T5Config;

/// Steps by which the self-attention cache grows.
const GROWTH: usize = 32;

/// Consecutive requests of the same number of beams: one cross-attention product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// Index of the first request.
    pub(crate) first_request: usize,
    /// How many requests.
    pub(crate) requests: usize,
    /// Index of the first request's first row.
    pub(crate) first_row: usize,
    /// Rows of each request.
    pub(crate) beams: usize,
}

/// Keys and values of the encoder's states, by request.
#[derive(Debug)]
pub(crate) struct CrossCache {
    /// By decoder layer: [requests, heads, tokens, d_kv] each.
    layers: Vec<(Tensor, Tensor)>,
    /// [requests, 1, 1, tokens]; nothing if no request is padded.
    mask: Option<Tensor>,
    /// Tokens of each request.
    lengths: Vec<usize>,
    runs: Vec<Run>,
}

impl CrossCache {
    /// `layers` hold one entry for each of `lengths`, padded to the longest; `beams` says how many rows each has.
    pub(crate) fn new(
        layers: Vec<(Tensor, Tensor)>,
        lengths: Vec<usize>,
        beams: &[usize],
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let tokens = lengths.iter().copied().max().unwrap_or(0);
        let mask = padding_mask(&lengths, tokens, dtype, device)?;
        Ok(Self {
            layers,
            mask,
            lengths,
            runs: runs(beams),
        })
    }

    pub(super) fn layer(&self, layer: usize) -> (&Tensor, &Tensor) {
        let (key, value) = &self.layers[layer];
        (key, value)
    }

    pub(super) fn mask(&self) -> Option<&Tensor> {
        self.mask.as_ref()
    }

    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Keeps these requests, and no more padding than they need.
    fn keep(&mut self, requests: &[u32], beams: &[usize], dtype: DType, device: &Device) -> Result<()> {
        self.lengths = requests
            .iter()
            .map(|request| self.lengths[*request as usize])
            .collect();
        self.runs = runs(beams);
        let tokens = self.lengths.iter().copied().max().unwrap_or(0);
        let index = Tensor::from_slice(requests, requests.len(), device)?;
        for (key, value) in &mut self.layers {
            for tensor in [key, value] {
                *tensor = tensor
                    .index_select(&index, 0)?
                    .narrow(2, 0, tokens)?
                    .contiguous()?;
            }
        }
        self.mask = padding_mask(&self.lengths, tokens, dtype, device)?;
        Ok(())
    }
}

fn runs(beams: &[usize]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut row = 0;
    for (request, beams) in beams.iter().copied().enumerate() {
        match runs.last_mut() {
            Some(run) if run.beams == beams => run.requests += 1,
            _ => runs.push(Run {
                first_request: request,
                requests: 1,
                first_row: row,
                beams,
            }),
        }
        row += beams;
    }
    runs
}

/// The decoder's caches for a batch of requests with any number of beams each. A row is one beam of one request;
/// rows of a request are consecutive.
#[derive(Debug)]
pub(crate) struct DecoderState {
    /// Steps done: tokens in the self-attention cache.
    steps: usize,
    capacity: usize,
    rows: usize,
    heads: usize,
    d_kv: usize,
    /// By decoder layer: [rows, heads, capacity, d_kv] each.
    layers: Vec<(Tensor, Tensor)>,
    cross: CrossCache,
    dtype: DType,
    device: Device,
}

impl DecoderState {
    /// An empty self-attention cache beside `cross`.
    pub(crate) fn new(config: &T5Config, cross: CrossCache, dtype: DType, device: &Device) -> Result<Self> {
        let rows = cross.runs.iter().map(|run| run.requests * run.beams).sum();
        let mut state = Self {
            steps: 0,
            capacity: 0,
            rows,
            heads: config.num_heads,
            d_kv: config.d_kv,
            layers: Vec::new(),
            cross,
            dtype,
            device: device.clone(),
        };
        for _ in 0..config.num_decoder_layers {
            state.layers.push((state.empty()?, state.empty()?));
        }
        state.capacity = GROWTH;
        Ok(state)
    }

    /// Room for `GROWTH` more steps of a layer's keys or values.
    fn empty(&self) -> Result<Tensor> {
        Tensor::zeros(
            (self.rows, self.heads, GROWTH, self.d_kv),
            self.dtype,
            &self.device,
        )
    }

    pub(super) fn cross(&self) -> &CrossCache {
        &self.cross
    }

    /// Makes room for a step; tells the number of keys that it will see.
    pub(super) fn begin_step(&mut self) -> Result<usize> {
        if self.steps == self.capacity {
            let room = self.empty()?;
            for (key, value) in &mut self.layers {
                *key = Tensor::cat(&[&*key, &room], 2)?;
                *value = Tensor::cat(&[&*value, &room], 2)?;
            }
            self.capacity += GROWTH;
        }
        Ok(self.steps + 1)
    }

    /// Writes a step's keys and values, [rows, heads · d_kv] each, into a layer's cache, and gives all so far:
    /// [rows, heads, steps, d_kv].
    pub(super) fn append(&mut self, layer: usize, key: &Tensor, value: &Tensor) -> Result<(Tensor, Tensor)> {
        let (keys, values) = &self.layers[layer];
        let shape = (self.rows, self.heads, 1, self.d_kv);
        keys.slice_set(&key.reshape(shape)?.contiguous()?, 2, self.steps)?;
        values.slice_set(&value.reshape(shape)?.contiguous()?, 2, self.steps)?;
        Ok((
            keys.narrow(2, 0, self.steps + 1)?,
            values.narrow(2, 0, self.steps + 1)?,
        ))
    }

    pub(super) fn end_step(&mut self) {
        self.steps += 1;
    }

    /// Lays the rows out for the next step: row `i` goes on from row `parents[i]`. `requests` are those that stay,
    /// ascending, and `beams` their numbers of rows. Does nothing where nothing moves.
    ///
    /// # Errors
    /// What the tensor library refuses.
    pub(crate) fn select(&mut self, parents: &[u32], requests: &[u32], beams: &[usize]) -> Result<()> {
        let still =
            |order: &[u32], count: usize| order.len() == count && order.iter().zip(0..).all(|(a, b)| *a == b);
        if !still(parents, self.rows) {
            let index = Tensor::from_slice(parents, parents.len(), &self.device)?;
            for (key, value) in &mut self.layers {
                *key = key.index_select(&index, 0)?;
                *value = value.index_select(&index, 0)?;
            }
            self.rows = parents.len();
        }
        if !still(requests, self.cross.lengths.len()) {
            self.cross.keep(requests, beams, self.dtype, &self.device)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_equal_width_are_one_run() {
        let run = |first_request, requests, first_row, beams| Run {
            first_request,
            requests,
            first_row,
            beams,
        };
        assert_eq!(
            runs(&[1, 1, 4, 4, 8]),
            [run(0, 2, 0, 1), run(2, 2, 2, 4), run(4, 1, 10, 8)]
        );
        assert_eq!(
            runs(&[4, 1, 4]),
            [run(0, 1, 0, 4), run(1, 1, 4, 1), run(2, 1, 5, 4)]
        );
        assert_eq!(runs(&[]), []);
    }
}
