//! Tensors of a GGUF file by their Hugging Face names, in Hugging Face's layout.

use std::fs::File;
use std::io::BufReader;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Tensor};
use parking_lot::Mutex;

use super::{Metadata, open};
use crate::error::{LoadError, Result};

/// An open file.
pub(crate) struct GgufTensors {
    path: PathBuf,
    content: Content,
    file: Mutex<BufReader<File>>,
    layout: Layout,
}

/// What llama.cpp's converter changes.
struct Layout {
    /// `(query heads, key heads)` of models whose query and key rows are interleaved.
    interleaved: Option<(usize, usize)>,
    gemma: bool,
}

impl GgufTensors {
    /// Opens a file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let (content, file) = open(path)?;
        let metadata = Metadata {
            values: &content.metadata,
        };
        let heads = |name: &str| metadata.whole(name).and_then(|heads| usize::try_from(heads).ok());
        let architecture = metadata.text("general.architecture").unwrap_or_default();
        let layout = Layout {
            interleaved: match architecture {
                "llama" => heads("llama.attention.head_count")
                    .map(|queries| (queries, heads("llama.attention.head_count_kv").unwrap_or(queries))),
                _ => None,
            },
            gemma: architecture == "gemma3",
        };
        Ok(Self {
            path: path.to_owned(),
            content,
            file: Mutex::new(file),
            layout,
        })
    }

    /// Returns whether a tensor of this Hugging Face name exists.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.layout
            .name(name)
            .is_some_and(|own| self.content.tensor_infos.contains_key(&own))
    }

    /// Returns the shape of a tensor.
    pub(crate) fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let info = self.content.tensor_infos.get(&self.layout.name(name)?)?;
        Some(info.shape.dims().to_vec())
    }

    /// Reads a tensor as f32.
    ///
    /// # Errors
    /// A missing tensor, a truncated file, an unknown block format.
    pub(crate) fn get(&self, name: &str) -> Result<Tensor> {
        let own = self.layout.name(name).unwrap_or_else(|| name.to_owned());
        let mut file = self.file.lock();
        // candle panics on some damaged files.
        let read = catch_unwind(AssertUnwindSafe(|| {
            let tensor = self.content.tensor(&mut *file, &own, &Device::Cpu)?;
            tensor.dequantize(&Device::Cpu)
        }));
        let wrong = |reason: String| LoadError::Weights {
            file: self.path.display().to_string(),
            reason: format!("tensor {own}: {reason}"),
        };
        let tensor = match read {
            Ok(Ok(tensor)) => tensor,
            Ok(Err(error)) => {
                let error = error.to_string();
                return Err(wrong(error.lines().next().unwrap_or_default().to_owned()));
            }
            Err(_) => return Err(wrong("damaged".to_owned())),
        };
        self.layout
            .restore(name, tensor)
            .map_err(|error| wrong(error.to_string()))
    }
}

impl Layout {
    /// Returns GGUF's name of a tensor.
    fn name(&self, name: &str) -> Option<String> {
        let fixed = match name {
            "model.embed_tokens.weight" => "token_embd.weight",
            "model.norm.weight" => "output_norm.weight",
            "lm_head.weight" => "output.weight",
            _ => "",
        };
        if !fixed.is_empty() {
            return Some(fixed.to_owned());
        }
        let (layer, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
        let (part, kind) = part.rsplit_once('.')?;
        let own = match part {
            "input_layernorm" => "attn_norm",
            "post_attention_layernorm" if self.gemma => "post_attention_norm",
            "post_attention_layernorm" | "pre_feedforward_layernorm" => "ffn_norm",
            "post_feedforward_layernorm" => "post_ffw_norm",
            "self_attn.q_proj" => "attn_q",
            "self_attn.k_proj" => "attn_k",
            "self_attn.v_proj" => "attn_v",
            "self_attn.o_proj" => "attn_output",
            "self_attn.q_norm" => "attn_q_norm",
            "self_attn.k_norm" => "attn_k_norm",
            "mlp.gate_proj" => "ffn_gate",
            "mlp.up_proj" => "ffn_up",
            "mlp.down_proj" => "ffn_down",
            _ => return None,
        };
        Some(format!("blk.{layer}.{own}.{kind}"))
    }

    /// Undoes the converter's changes.
    fn restore(&self, name: &str, tensor: Tensor) -> candle_core::Result<Tensor> {
        if self.gemma && name.contains("norm") {
            // The converter adds the 1 that Hugging Face's files leave out.
            return tensor - 1.0;
        }
        let Some((queries, keys)) = self.interleaved else {
            return Ok(tensor);
        };
        let heads = match name {
            name if name.contains(".q_proj.") => queries,
            name if name.contains(".k_proj.") => keys,
            _ => return Ok(tensor),
        };
        let dims = tensor.dims().to_vec();
        let rows = dims.first().copied().unwrap_or(0);
        if heads == 0 || !rows.is_multiple_of(2 * heads) {
            candle_core::bail!("{rows} rows are not {heads} heads of pairs");
        }
        // llama.cpp rotates adjacent rows of a head. Hugging Face rotates rows half a head apart.
        tensor
            .reshape((heads, rows / heads / 2, 2, ()))?
            .transpose(1, 2)?
            .contiguous()?
            .reshape(dims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_is_read_as_by_the_reference() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gguf");
        let tensors = GgufTensors::open(&folder.join("formats.gguf")).unwrap();
        let expected =
            candle_core::safetensors::load(folder.join("formats.safetensors"), &Device::Cpu).unwrap();
        let formats = [
            "F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K",
        ];
        for (index, format) in formats.into_iter().enumerate() {
            let found = tensors
                .get(&format!("model.layers.{index}.mlp.up_proj.weight"))
                .unwrap();
            let numbers = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for (found, expected) in numbers(&found).into_iter().zip(numbers(&expected[format])) {
                // The order of multiplications differs.
                assert!(
                    (found - expected).abs() <= 1e-6 * expected.abs(),
                    "{format}: {found} {expected}"
                );
            }
        }
    }

    #[test]
    fn interleaved_rows_are_restored() {
        let layout = Layout {
            interleaved: Some((2, 1)),
            gemma: false,
        };
        let name = "model.layers.3.self_attn.q_proj.weight";
        assert_eq!(layout.name(name).unwrap(), "blk.3.attn_q.weight");
        let rows = Tensor::new(
            &[[0f32], [2.0], [1.0], [3.0], [4.0], [6.0], [5.0], [7.0]],
            &Device::Cpu,
        )
        .unwrap();
        let restored = layout.restore(name, rows.clone()).unwrap();
        let restored: Vec<f32> = restored.flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(restored, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        let same = layout
            .restore("model.layers.3.self_attn.v_proj.weight", rows)
            .unwrap();
        assert_eq!(same.dims(), [8, 1]);
    }
}
