//! Memory-mapped safetensors.
#![allow(unsafe_code)]

use std::path::PathBuf;

use candle_core::safetensors::MmapedSafetensors;

/// Maps the files and reads their headers; a name that occurs in several is the last one's.
///
/// # Errors
/// A file that cannot be opened or mapped, or that is not whole safetensors.
pub(crate) fn map_safetensors(paths: &[PathBuf]) -> candle_core::Result<MmapedSafetensors> {
    // SAFETY: a mapped file must not be changed or cut while the map lives. The map lives only while a model is
    // loaded (every tensor is copied out of it), and weights are put in place by rename, never written over.
    unsafe { MmapedSafetensors::multi(paths) }
}
