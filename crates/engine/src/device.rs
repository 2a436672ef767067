//! The device and number format that a model runs on.

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device};

use crate::kernels::Precision;

/// A device setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first working GPU that the binary supports, otherwise the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The first NVIDIA GPU; needs the cargo feature `cuda`.
    Cuda,
    /// The GPU of an Apple computer; needs the cargo feature `metal`.
    Metal,
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, DeviceError> {
        match name {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            "metal" => Ok(Self::Metal),
            _ => Err(DeviceError::Unknown(name.to_owned())),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Metal => "metal",
        })
    }
}

/// The number format of matrix products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PrecisionChoice {
    /// f32 on the CPU, bf16 on CUDA, f16 on Metal.
    #[default]
    Auto,
    /// 32-bit floating point: the same tokens as transformers.
    F32,
    /// bfloat16 products with f32 sums: half the memory, and faster on processors with AVX512-BF16.
    Bf16,
    /// IEEE half precision, for GPUs without bfloat16: CUDA and Metal only.
    F16,
    /// 8-bit integer products, with weights scaled per output and activations per row, and bfloat16 attention. CPU
    /// only.
    Int8,
}

impl FromStr for PrecisionChoice {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, DeviceError> {
        match name {
            "auto" => Ok(Self::Auto),
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "f16" => Ok(Self::F16),
            "int8" => Ok(Self::Int8),
            _ => Err(DeviceError::UnknownPrecision(name.to_owned())),
        }
    }
}

/// The backend that a model runs on.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// This crate's CPU kernels.
    Kernels(Precision),
    /// candle's tensors.
    Tensors(Device, DType),
}

/// Why a device cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// An unknown device name.
    #[error("{0:?} is not a device: use one of cpu, cuda, metal, auto")]
    Unknown(String),
    /// An unknown number format.
    #[error("{0:?} is not a precision: use one of f32, bf16, f16, int8, auto")]
    UnknownPrecision(String),
    /// The device does not support the format.
    #[error("device {device} does not support {precision}")]
    Precision {
        /// The device.
        device: &'static str,
        /// The requested format.
        precision: &'static str,
    },
    /// The binary was built without a backend for the device.
    #[error("this binary was built without the cargo feature `{0}`: it can run on cpu or auto")]
    NotBuilt(DeviceChoice),
    /// The backend found no usable device.
    #[error("device {choice} cannot be used: {reason}")]
    Unusable {
        /// The requested device.
        choice: DeviceChoice,
        /// The driver's error.
        reason: String,
    },
}

impl DeviceChoice {
    /// Opens the device. `reference` selects candle's operations on the CPU too.
    ///
    /// # Errors
    /// A device without a backend in this binary, a device that is not present, or a format that the device lacks.
    pub(crate) fn open(self, precision: PrecisionChoice, reference: bool) -> Result<Target, DeviceError> {
        let device = match self {
            Self::Cpu => Device::Cpu,
            Self::Cuda if !cfg!(feature = "cuda") => return Err(DeviceError::NotBuilt(self)),
            Self::Metal if !cfg!(feature = "metal") => return Err(DeviceError::NotBuilt(self)),
            Self::Cuda => Device::new_cuda(0).map_err(|error| self.unusable(&error))?,
            Self::Metal => Device::new_metal(0).map_err(|error| self.unusable(&error))?,
            Self::Auto => {
                let gpu = Self::Cuda
                    .open(precision, reference)
                    .or_else(|_| Self::Metal.open(precision, reference));
                return gpu.or_else(|_| Self::Cpu.open(precision, reference));
            }
        };
        let missing = |precision| DeviceError::Precision {
            device: device_name(&device),
            precision,
        };
        let dtype = match (precision, &device) {
            (PrecisionChoice::Auto | PrecisionChoice::F32, Device::Cpu) if !reference => {
                return Ok(Target::Kernels(Precision::F32));
            }
            (PrecisionChoice::Bf16, Device::Cpu) if !reference => {
                return Ok(Target::Kernels(Precision::Bf16));
            }
            (PrecisionChoice::Int8, Device::Cpu) if !reference => {
                return Ok(Target::Kernels(Precision::Int8));
            }
            (PrecisionChoice::Int8, _) => return Err(missing("int8")),
            // candle's CPU matrix product does not support bf16.
            (PrecisionChoice::Bf16, Device::Cpu) => return Err(missing("bf16")),
            (PrecisionChoice::F16, Device::Cpu) => return Err(missing("f16")),
            (PrecisionChoice::F32, _) | (PrecisionChoice::Auto, Device::Cpu) => DType::F32,
            (PrecisionChoice::Bf16, _) | (PrecisionChoice::Auto, Device::Cuda(_)) => DType::BF16,
            (PrecisionChoice::F16, _) | (PrecisionChoice::Auto, Device::Metal(_)) => DType::F16,
        };
        Ok(Target::Tensors(device, dtype))
    }

    fn unusable(self, error: &candle_core::Error) -> DeviceError {
        DeviceError::Unusable {
            choice: self,
            reason: error.to_string(),
        }
    }
}

/// Returns the name of an open device, as in [`DeviceChoice`].
pub(crate) fn device_name(device: &Device) -> &'static str {
    match device {
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
        Device::Metal(_) => "metal",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_round_trip() {
        for name in ["auto", "cpu", "cuda", "metal"] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
        assert_eq!(
            "tpu".parse::<DeviceChoice>(),
            Err(DeviceError::Unknown("tpu".to_owned()))
        );
    }

    #[test]
    fn auto_opens_a_device_and_a_missing_backend_is_named() {
        let auto = PrecisionChoice::Auto;
        assert!(DeviceChoice::Auto.open(auto, false).is_ok());
        if !cfg!(feature = "cuda") {
            let error = DeviceChoice::Cuda.open(auto, false).unwrap_err();
            assert_eq!(error, DeviceError::NotBuilt(DeviceChoice::Cuda));
            assert!(error.to_string().contains("cargo feature `cuda`"));
        }
    }

    #[test]
    fn unsupported_precisions_are_refused() {
        let open = |precision: &str, reference| DeviceChoice::Cpu.open(precision.parse().unwrap(), reference);
        for precision in ["auto", "f32", "bf16", "int8"] {
            assert!(matches!(open(precision, false), Ok(Target::Kernels(_))));
        }
        assert!(matches!(open("f32", true), Ok(Target::Tensors(..))));
        let error = open("int8", true).unwrap_err();
        assert_eq!(error.to_string(), "device cpu does not support int8");
        for reference in [false, true] {
            let error = open("f16", reference).unwrap_err();
            assert_eq!(error.to_string(), "device cpu does not support f16");
        }
        assert!("fp4".parse::<PrecisionChoice>().is_err());
    }
}
