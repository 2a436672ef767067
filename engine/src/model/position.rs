//! T5's relative position bias: a learned number per head and bucket of distance, added to the attention scores.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use candle_core::{DType, Device, Result, Tensor};

/// The bucket of a key at `relative = key position - query position`.
///
/// In the encoder (bidirectional) half of the buckets are for keys after the query; in the decoder all of them are
/// for keys at or before it. Of a direction's buckets, half hold one distance each; the others grow as the logarithm up
/// to `max_distance`. As `T5Attention._relative_position_bucket` of transformers.
pub(crate) fn bucket(relative: i64, bidirectional: bool, buckets: usize, max_distance: usize) -> u32 {
    let (buckets, offset, distance) = if bidirectional {
        let half = buckets / 2;
        (half, if relative > 0 { half } else { 0 }, relative.unsigned_abs())
    } else {
        (buckets, 0, (-relative).max(0).unsigned_abs())
    };
    let exact = buckets / 2;
    let distance = usize::try_from(distance).unwrap_or(usize::MAX);
    let within = if distance < exact {
        distance
    } else {
        // In f32, as transformers does it: a bucket's edge lies on the same side.
        let ratio = (distance as f32 / exact as f32).ln() / (max_distance as f64 / exact as f64).ln() as f32;
        (exact + (ratio * (buckets - exact) as f32) as usize).min(buckets - 1)
    };
    (offset + within) as u32
}

/// The bias table of one stack, or of one layer of a UMT5 stack, with what was computed from it.
#[derive(Debug)]
pub(crate) struct PositionBias {
    /// [buckets, heads], f32 on the host.
    table: Vec<f32>,
    heads: usize,
    buckets: usize,
    max_distance: usize,
    bidirectional: bool,
    device: Device,
    dtype: DType,
    /// By query and key length. Lengths are few: at most `max_input_tokens` and `max_new_tokens`.
    cache: RwLock<HashMap<(usize, usize), Tensor>>,
}

/// Cached biases are dropped beyond this many numbers: 64 MB of f32.
const CACHE_ELEMENTS: usize = 16 << 20;

impl PositionBias {
    /// Takes the table `relative_attention_bias.weight`, [buckets, heads].
    pub(crate) fn new(table: &Tensor, max_distance: usize, bidirectional: bool) -> Result<Self> {
        let (buckets, heads) = table.dims2()?;
        Ok(Self {
            table: table.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?,
            heads,
            buckets,
            max_distance,
            bidirectional,
            device: table.device().clone(),
            dtype: table.dtype(),
            cache: RwLock::new(HashMap::new()),
        })
    }

    /// The bias of the last `queries` of `keys` positions: [1, heads, queries, keys].
    pub(crate) fn get(&self, queries: usize, keys: usize) -> Result<Tensor> {
        if let Some(bias) = self
            .cache
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&(queries, keys))
        {
            return Ok(bias.clone());
        }
        let bias = self.compute(queries, keys)?;
        let mut cache = self.cache.write().unwrap_or_else(PoisonError::into_inner);
        if cache.values().map(Tensor::elem_count).sum::<usize>() + bias.elem_count() > CACHE_ELEMENTS {
            cache.clear();
        }
        cache.insert((queries, keys), bias.clone());
        Ok(bias)
    }

    fn compute(&self, queries: usize, keys: usize) -> Result<Tensor> {
        let first = (keys - queries) as i64;
        // A distance occurs in a whole diagonal: look its bucket up once.
        let buckets: Vec<usize> = (1 - keys as i64..keys as i64)
            .map(|relative| bucket(relative, self.bidirectional, self.buckets, self.max_distance) as usize)
            .collect();
        let mut values = Vec::with_capacity(self.heads * queries * keys);
        for head in 0..self.heads {
            for query in first..keys as i64 {
                // `relative` of key 0 is -query; its place in `buckets` is keys - 1 - query.
                let start = (keys as i64 - 1 - query) as usize;
                let row = &buckets[start..start + keys];
                values.extend(row.iter().map(|bucket| self.table[bucket * self.heads + head]));
            }
        }
        Tensor::from_vec(values, (1, self.heads, queries, keys), &self.device)?.to_dtype(self.dtype)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From `T5Attention._relative_position_bucket` with 32 buckets and distance 128.
    #[test]
    fn buckets_are_those_of_transformers() {
        let both = |relative| bucket(relative, true, 32, 128);
        assert_eq!(
            [0, -1, -7, -8, -15, -16, -127, -128, -5000].map(both),
            [0, 1, 7, 8, 9, 10, 15, 15, 15]
        );
        assert_eq!([1, 7, 8, 500].map(both), [17, 23, 24, 31]);
        let back = |relative| bucket(relative, false, 32, 128);
        assert_eq!(
            [0, -1, -15, -16, -20, -64, -127, -128, -9000].map(back),
            [0, 1, 15, 16, 17, 26, 31, 31, 31]
        );
        assert_eq!([1, 40].map(back), [0, 0]);
    }

    #[test]
    fn one_query_gets_the_last_row_of_all() {
        let table = Tensor::arange(0f32, 64.0, &Device::Cpu)
            .unwrap()
            .reshape((32, 2))
            .unwrap();
        let bias = PositionBias::new(&table, 128, false).unwrap();
        let all = bias.get(40, 40).unwrap().narrow(2, 39, 1).unwrap();
        let last = bias.get(1, 40).unwrap();
        assert_eq!(
            all.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            last.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        );
        assert_eq!(last.dims(), [1, 2, 1, 40]);
    }
}
