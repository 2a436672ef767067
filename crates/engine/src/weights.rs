//! Tensors by their Hugging Face names, validated while loading.

use candle_core::safetensors::{Load, MmapedSafetensors, SliceSafetensors};
use candle_core::{DType, Device, Tensor};

use crate::error::{LoadError, Result};
use crate::gguf::GgufTensors;
use crate::mapped::map_safetensors;
use crate::source::WeightFiles;

/// One or several open weight files.
pub(crate) struct Weights {
    tensors: Tensors,
}

enum Tensors {
    Mapped(MmapedSafetensors),
    Slice(SliceSafetensors<'static>),
    Gguf(GgufTensors),
}

impl Weights {
    /// Opens the files.
    pub(crate) fn open(files: &WeightFiles) -> Result<Self> {
        let (tensors, file) = match files {
            WeightFiles::Gguf(path) => {
                return Ok(Self {
                    tensors: Tensors::Gguf(GgufTensors::open(path)?),
                });
            }
            WeightFiles::Embedded(bytes) => (
                SliceSafetensors::new(bytes).map(Tensors::Slice),
                "the binary".to_owned(),
            ),
            WeightFiles::Files(paths) => {
                let names = paths
                    .iter()
                    .map(|path| path.display().to_string())
                    .collect::<Vec<_>>();
                (map_safetensors(paths).map(Tensors::Mapped), names.join(", "))
            }
        };
        let tensors = tensors.map_err(|error| LoadError::Weights {
            file,
            reason: plain(&error),
        })?;
        Ok(Self { tensors })
    }

    /// Returns whether a tensor of this name exists.
    pub(crate) fn has(&self, name: &str) -> bool {
        match &self.tensors {
            Tensors::Mapped(tensors) => tensors.get(name).is_ok(),
            Tensors::Slice(tensors) => tensors.get(name).is_ok(),
            Tensors::Gguf(tensors) => tensors.has(name),
        }
    }

    /// Loads a tensor of the given shape as f32 on the CPU.
    ///
    /// # Errors
    /// A missing tensor, another shape, an integer type, or values that are not finite.
    pub(crate) fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let missing = || LoadError::MissingTensor {
            name: name.to_owned(),
        };
        let checked = |found: &[usize]| match found == shape {
            true => Ok(()),
            false => Err(LoadError::Shape {
                name: name.to_owned(),
                expected: shape.to_vec(),
                found: found.to_vec(),
            }),
        };
        let tensor = if let Tensors::Gguf(tensors) = &self.tensors {
            checked(&tensors.shape(name).ok_or_else(missing)?)?;
            tensors.get(name)?
        } else {
            let view = match &self.tensors {
                Tensors::Mapped(tensors) => tensors.get(name).ok(),
                Tensors::Slice(tensors) => tensors.get(name).ok(),
                Tensors::Gguf(_) => None,
            };
            let view = view.ok_or_else(missing)?;
            checked(view.shape())?;
            let stored = DType::try_from(view.dtype())
                .ok()
                .filter(|dtype| dtype.is_float());
            if stored.is_none() {
                return Err(LoadError::ElementType {
                    name: name.to_owned(),
                    found: format!("{:?}", view.dtype()),
                });
            }
            view.load(&Device::Cpu)?.to_dtype(DType::F32)?
        };
        // One NaN spreads to every later value. Detect it here, where the tensor has a name.
        let sum = tensor.sqr()?.max_all()?.to_scalar::<f32>()?;
        let total = tensor.sum_all()?.to_scalar::<f32>()?;
        if !sum.is_finite() || !total.is_finite() {
            return Err(LoadError::NotFinite {
                name: name.to_owned(),
            });
        }
        Ok(tensor)
    }
}

/// Returns the error without candle's backtrace.
fn plain(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
