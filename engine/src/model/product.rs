//! The matrix product, on the CPU without candle's own wrapper.
//!
//! `Tensor::matmul` of candle 0.11 asks for the number of physical cores at every call, which reads `/proc/cpuinfo`:
//! half of the time of a decode step of a small model, and more the more cores there are. It also splits the work for
//! that number, whatever the pool that it runs in. This calls the same kernels with the pool's number of threads.
#![allow(unsafe_code)]

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};
use gemm::Parallelism;

/// lhs · rhs over the last two dimensions; the others must be equal.
pub(super) fn product(lhs: &Tensor, rhs: &Tensor) -> Result<Tensor> {
    match lhs.device().is_cpu() && lhs.dtype() == DType::F32 {
        true => lhs.apply_op2_no_bwd(rhs, &Product),
        false => lhs.matmul(rhs),
    }
}

struct Product;

/// A batch of matrices in a slice.
struct Matrices<'a> {
    values: &'a [f32],
    /// Offsets of the first value of each.
    starts: Vec<usize>,
    batch: &'a [usize],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrices<'a> {
    fn new(storage: &'a CpuStorage, layout: &'a Layout) -> Result<Self> {
        let CpuStorage::F32(values) = storage else {
            bail!("a product of matrices that are not f32")
        };
        let (dims, strides) = (layout.dims(), layout.stride());
        let ([batch @ .., rows, columns], [steps @ .., row_stride, column_stride]) = (dims, strides) else {
            bail!("a product of something with shape {dims:?}")
        };
        let mut starts = vec![layout.start_offset()];
        for (count, step) in batch.iter().zip(steps) {
            starts = starts
                .iter()
                .flat_map(|start| (0..*count).map(move |index| start + index * step))
                .collect();
        }
        let made = Self {
            values,
            starts,
            batch,
            rows: *rows,
            columns: *columns,
            row_stride: *row_stride,
            column_stride: *column_stride,
        };
        // The last value of the last matrix is the furthest: strides are not negative.
        let within =
            made.rows.saturating_sub(1) * row_stride + made.columns.saturating_sub(1) * column_stride;
        match made.starts.iter().max() {
            Some(last) if made.rows * made.columns > 0 && last + within >= values.len() => {
                bail!(
                    "matrices of shape {dims:?} and strides {strides:?} go beyond {} values",
                    values.len()
                )
            }
            _ => Ok(made),
        }
    }
}

impl CustomOp2 for Product {
    fn name(&self) -> &'static str {
        "product"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (lhs, rhs) = (Matrices::new(s1, l1)?, Matrices::new(s2, l2)?);
        if lhs.batch != rhs.batch || lhs.columns != rhs.rows {
            bail!("a product of shapes {:?} and {:?}", l1.dims(), l2.dims());
        }
        let (m, n, k) = (lhs.rows, rhs.columns, lhs.columns);
        let mut out = vec![0f32; lhs.starts.len() * m * n];
        let parallelism = match rayon::current_num_threads() {
            1 => Parallelism::None,
            threads => Parallelism::Rayon(threads),
        };
        if !out.is_empty() && k > 0 {
            for ((part, left), right) in out.chunks_exact_mut(m * n).zip(&lhs.starts).zip(&rhs.starts) {
                let (left, right) = (&lhs.values[*left..], &rhs.values[*right..]);
                // SAFETY: `part` is m · n values in row order. `Matrices::new` has made sure that every value of an
                // m · k and a k · n matrix with these strides, from each of these starts, is within its slice. Strides
                // are those of values in memory, and so fit an isize.
                unsafe {
                    gemm::gemm(
                        m,
                        n,
                        k,
                        part.as_mut_ptr(),
                        1,
                        n as isize,
                        false,
                        left.as_ptr(),
                        lhs.column_stride as isize,
                        lhs.row_stride as isize,
                        right.as_ptr(),
                        rhs.column_stride as isize,
                        rhs.row_stride as isize,
                        0.0,
                        1.0,
                        false,
                        false,
                        false,
                        parallelism,
                    );
                }
            }
        }
        let dims: Vec<usize> = lhs.batch.iter().copied().chain([m, n]).collect();
        Ok((CpuStorage::F32(out), Shape::from(dims)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// Numbers without a pattern that a wrong stride would keep.
    fn tensor(dims: &[usize]) -> Tensor {
        let values: Vec<f32> = (0..dims.iter().product())
            .map(|index: usize| (index as f32 * 1.7).sin())
            .collect();
        Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
    }

    fn assert_as_candle(lhs: &Tensor, rhs: &Tensor) {
        let flat = |tensor: Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (ours, theirs) = (product(lhs, rhs).unwrap(), lhs.matmul(rhs).unwrap());
        assert_eq!(ours.dims(), theirs.dims());
        for (ours, theirs) in flat(ours).into_iter().zip(flat(theirs)) {
            assert!((ours - theirs).abs() < 1e-4, "{ours} {theirs}");
        }
    }

    #[test]
    fn products_are_those_of_candle_whatever_the_layout() {
        assert_as_candle(&tensor(&[5, 7]), &tensor(&[7, 3]));
        assert_as_candle(&tensor(&[1, 64]), &tensor(&[64, 300]));
        assert_as_candle(&tensor(&[5, 7]), &tensor(&[3, 7]).t().unwrap());
        let keys = tensor(&[2, 3, 9, 4]);
        assert_as_candle(&tensor(&[2, 3, 5, 4]), &keys.transpose(2, 3).unwrap());
        // A cache with room left, and some of its requests.
        let so_far = keys.narrow(2, 0, 6).unwrap();
        assert_as_candle(&tensor(&[2, 3, 1, 4]), &so_far.transpose(2, 3).unwrap());
        assert_as_candle(&tensor(&[2, 3, 1, 6]), &so_far);
        assert_as_candle(
            &tensor(&[1, 3, 2, 4]),
            &keys.narrow(0, 1, 1).unwrap().transpose(2, 3).unwrap(),
        );
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        assert!(product(&tensor(&[2, 3]), &tensor(&[2, 3])).is_err());
        assert!(product(&tensor(&[2, 2, 3]), &tensor(&[1, 3, 2])).is_err());
        assert!(product(&tensor(&[2, 3]), &tensor(&[1, 3, 2])).is_err());
        assert_eq!(
            product(&tensor(&[0, 3]), &tensor(&[3, 2])).unwrap().dims(),
            [0, 2]
        );
    }
}
