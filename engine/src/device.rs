//! Where the model runs and in which precision.

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device};

/// The device that a model is asked to run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first GPU if the binary has a back end for one and it works, else the CPU.
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

/// Why a device cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// No such device name.
    #[error("{0:?} is not a device: it is one of cpu, cuda, metal, auto")]
    Unknown(String),
    /// The binary has no back end for it.
    #[error("this binary was built without the cargo feature `{0}`: it can run on cpu or auto")]
    NotBuilt(DeviceChoice),
    /// The back end is there and finds no device.
    #[error("device {choice} cannot be used: {reason}")]
    Unusable {
        /// The device asked for.
        choice: DeviceChoice,
        /// What the driver says.
        reason: String,
    },
}

impl DeviceChoice {
    /// Opens the device and chooses the precision that the model is computed in there: f32 on the CPU, bf16 on CUDA,
    /// f16 on Metal.
    ///
    /// # Errors
    /// A device that the binary has no back end for, or that is not there.
    pub(crate) fn open(self) -> Result<(Device, DType), DeviceError> {
        match self {
            Self::Cpu => Ok((Device::Cpu, DType::F32)),
            Self::Cuda if !cfg!(feature = "cuda") => Err(DeviceError::NotBuilt(self)),
            Self::Metal if !cfg!(feature = "metal") => Err(DeviceError::NotBuilt(self)),
            Self::Cuda => Ok((
                Device::new_cuda(0).map_err(|error| self.unusable(&error))?,
                DType::BF16,
            )),
            Self::Metal => Ok((
                Device::new_metal(0).map_err(|error| self.unusable(&error))?,
                DType::F16,
            )),
            Self::Auto => Ok(match Self::Cuda.open().or_else(|_| Self::Metal.open()) {
                Ok(gpu) => gpu,
                Err(_) => (Device::Cpu, DType::F32),
            }),
        }
    }

    fn unusable(self, error: &candle_core::Error) -> DeviceError {
        DeviceError::Unusable {
            choice: self,
            reason: error.to_string(),
        }
    }
}

/// The name of an open device, as in [`DeviceChoice`].
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
    fn names_are_parsed_and_printed_alike() {
        for name in ["auto", "cpu", "cuda", "metal"] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
        assert_eq!(
            "tpu".parse::<DeviceChoice>(),
            Err(DeviceError::Unknown("tpu".to_owned()))
        );
    }

    #[test]
    fn auto_finds_something_and_a_missing_back_end_is_named() {
        assert!(DeviceChoice::Auto.open().is_ok());
        if !cfg!(feature = "cuda") {
            let error = DeviceChoice::Cuda.open().unwrap_err();
            assert_eq!(error, DeviceError::NotBuilt(DeviceChoice::Cuda));
            assert!(error.to_string().contains("cargo feature `cuda`"));
        }
    }
}
