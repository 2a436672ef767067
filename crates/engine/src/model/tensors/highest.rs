//! Selects each row's highest logits on the device.

use candle_core::{D, Result, Tensor};

use crate::model::backend::Highest;

/// Logits per sorted block: the shared memory of a GPU thread block limits it.
const SORT_BLOCK: usize = 512;
/// Logits sorted in the second round.
const MOST_SORTED: usize = 8192;

/// Returns whether `count` logits can be selected from a vocabulary of this size.
pub(super) fn can_find(count: usize, vocabulary: usize) -> bool {
    let blocks = vocabulary.div_ceil(SORT_BLOCK);
    count > 0 && count <= SORT_BLOCK && blocks * count <= MOST_SORTED && vocabulary > SORT_BLOCK
}

/// Returns the `count` highest of `[rows, vocabulary]` and the log-sum-exp. Sorts blocks of the vocabulary first, then
/// the blocks' leaders. Returns `None` if a logit is NaN.
pub(super) fn highest(logits: Tensor, count: usize) -> Result<Option<Vec<Highest>>> {
    let device = logits.device().clone();
    let vocabulary = logits.dim(1)?;
    let blocks = vocabulary.div_ceil(SORT_BLOCK);
    let count_rows = logits.dim(0)?;
    let sums = logits.log_sum_exp(D::Minus1)?.to_vec1::<f32>()?;
    // NaN cannot be sorted. The caller then takes all logits and detects it.
    if sums.iter().any(|sum| !sum.is_finite()) {
        return Ok(None);
    }
    let padding = (count_rows, blocks * SORT_BLOCK - vocabulary);
    let padded = match padding.1 {
        0 => logits,
        _ => {
            let padding = Tensor::full(f32::NEG_INFINITY, padding, &device)?;
            Tensor::cat(&[&logits, &padding], 1)?
        }
    };
    let in_blocks = padded.reshape((count_rows, blocks, SORT_BLOCK))?.contiguous()?;
    let places = in_blocks
        .arg_sort_last_dim(false)?
        .narrow(2, 0, count)?
        .contiguous()?;
    let leading = in_blocks
        .gather(&places, 2)?
        .reshape((count_rows, blocks * count))?;
    // An id is the block's start plus the index within the block.
    let first = Tensor::arange_step(0u32, (blocks * SORT_BLOCK) as u32, SORT_BLOCK as u32, &device)?;
    let ids = places
        .broadcast_add(&first.reshape((1, blocks, 1))?)?
        .reshape((count_rows, blocks * count))?
        .contiguous()?;
    let leading = leading.contiguous()?;
    let order = leading
        .arg_sort_last_dim(false)?
        .narrow(1, 0, count)?
        .contiguous()?;
    let values = leading.gather(&order, 1)?.to_vec2::<f32>()?;
    let ids = ids.gather(&order, 1)?.to_vec2::<u32>()?;
    let found = sums.into_iter().zip(values.into_iter().zip(ids));
    let highest = found.map(|(log_sum_exp, (values, ids))| Highest {
        log_sum_exp,
        // Skips the padding.
        logits: values
            .into_iter()
            .zip(ids)
            .filter(|(_, id)| (*id as usize) < vocabulary)
            .collect(),
    });
    Ok(Some(highest.collect()))
}
