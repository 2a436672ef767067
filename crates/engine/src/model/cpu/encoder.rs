//! Self-attention of the encoder on one CPU thread.

use super::Cpu;
use super::forms::{Bias, Rows, head_width};
use crate::kernels::{DistanceBias, PackedKeysValues, attend};

impl Cpu {
    /// See [`Backend::encoder_attention`](crate::model::Backend::encoder_attention).
    pub(super) fn attend_to_texts(
        &mut self,
        qkv: &Rows,
        lengths: &[usize],
        heads: usize,
        bias: &Bias,
        out: &mut Rows,
    ) {
        let (isa, stride, inner) = (self.isa, qkv.width, qkv.width / 3);
        let out = out.shape(qkv.count(), inner);
        let mut first = 0;
        for length in lengths {
            let source = &qkv.values[first * stride..(first + length) * stride];
            let pack = (*length, heads, head_width(inner, heads));
            let kv = match &mut self.keys_values {
                Some(kv) => {
                    kv.repack(
                        isa,
                        self.precision,
                        source,
                        stride,
                        inner,
                        2 * inner,
                        pack.0,
                        pack.1,
                        pack.2,
                    );
                    kv
                }
                none => none.insert(PackedKeysValues::pack(
                    isa,
                    self.precision,
                    source,
                    stride,
                    inner,
                    2 * inner,
                    pack.0,
                    pack.1,
                    pack.2,
                )),
            };
            let bias = DistanceBias {
                values: &bias.table.values,
                length: bias.table.length,
                center: bias.table.center,
            };
            attend(
                isa,
                &mut self.attention,
                source,
                stride,
                0,
                *length,
                kv,
                Some(bias),
                &mut out[first * inner..(first + length) * inner],
            );
            first += length;
        }
    }
}
