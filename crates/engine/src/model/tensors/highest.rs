//! The highest logits of each row, without all of them coming to the host.

use candle_core::{D, Result, Tensor};

use crate::model::backend::Highest;

/// Logits that are sorted together: one block of threads of a GPU has shared memory for so many.
const SORT_BLOCK: usize = 512;
/// The same in the second round.
const MOST_SORTED: usize = 8192;

/// Whether so many can be found of a vocabulary of this size.
pub(super) fn can_find(count: usize, vocabulary: usize) -> bool {
    let blocks = vocabulary.div_ceil(SORT_BLOCK);
    count > 0 && count <= SORT_BLOCK && blocks * count <= MOST_SORTED && vocabulary > SORT_BLOCK
}

/// The `count` highest of [rows, vocabulary], and the logarithm of the sum of all: sorted where they are, in two rounds,
/// within blocks of the vocabulary, and what leads there among each other. Nothing if one of them is no number.
pub(super) fn highest(logits: Tensor, count: usize) -> Result<Option<Vec<Highest>>> {
    let device = logits.device().clone();
    let vocabulary = logits.dim(1)?;
    let blocks = vocabulary.div_ceil(SORT_BLOCK);
    let count_rows = logits.dim(0)?;
    let sums = logits.log_sum_exp(D::Minus1)?.to_vec1::<f32>()?;
    // What is no number can't be sorted: whoever takes all of them finds it.
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
    // The place in its block, and the block, make an id.
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
        // Not the padding.
        logits: values
            .into_iter()
            .zip(ids)
            .filter(|(_, id)| (*id as usize) < vocabulary)
            .collect(),
    });
    Ok(Some(highest.collect()))
}
