//! Memory-mapped safetensors.
#![allow(unsafe_code)]

use std::path::PathBuf;

use candle_core::safetensors::MmapedSafetensors;

/// Maps the files and reads their headers. If several files contain the same name, the last one wins.
///
/// # Errors
/// A file that cannot be opened or mapped, or is not complete safetensors.
pub(crate) fn map_safetensors(paths: &[PathBuf]) -> candle_core::Result<MmapedSafetensors> {
    // SAFETY: a mapped file must not change while the map lives. The map lives only while a model loads, since every
    // tensor is copied, and weight files are replaced by rename, never overwritten.
    unsafe { MmapedSafetensors::multi(paths) }
}
