//! What differs from layer to layer: windows and positions.

use serde_json::Value;

use super::LayerConfig;
use super::fields::{Family, Fields};
use crate::config::{RopeConfig, wrong};
use crate::error::Result;

/// Returns which layers have a window, and which positions each layer uses.
pub(super) fn layers(family: Family, fields: Fields<'_>) -> Result<Vec<LayerConfig>> {
    let count = fields.needed("num_hidden_layers")?;
    if count > 512 {
        return Err(wrong(format!(
            "num_hidden_layers must be at most 512, and is {count}"
        )));
    }
    let window = match (family, fields.whole("sliding_window")?) {
        (Family::Gemma3, window) => Some(window.unwrap_or(4096)),
        (Family::Mistral, window) => window,
        (Family::Qwen2 | Family::Qwen3, window) => match fields.flag("use_sliding_window") {
            true => Some(window.unwrap_or(4096)),
            false => None,
        },
        (Family::Llama, _) => None,
    };
    let types: Option<Vec<&str>> = fields.get("layer_types").and_then(Value::as_array).map(|types| {
        types
            .iter()
            .map(|kind| kind.as_str().unwrap_or_default())
            .collect()
    });
    if let Some(types) = &types
        && types.len() != count
    {
        return Err(wrong(format!(
            "layer_types has {} entries for {count} layers",
            types.len()
        )));
    }
    let pattern = fields.whole("sliding_window_pattern")?.unwrap_or(6);
    let full_layers = fields.whole("max_window_layers")?.unwrap_or(28);
    let slides = |index: usize| match (&types, family) {
        (Some(types), _) => match types[index] {
            "sliding_attention" => Ok(true),
            "full_attention" => Ok(false),
            other => Err(wrong(format!("layer type {other:?} is not supported"))),
        },
        (None, Family::Gemma3) => Ok(!(index + 1).is_multiple_of(pattern)),
        (None, Family::Qwen2 | Family::Qwen3) => Ok(index >= full_layers),
        (None, _) => Ok(true),
    };
    let layer = |index: usize| {
        let slides = slides(index)?;
        Ok(LayerConfig {
            window: window.filter(|_| slides),
            // Gemma's sliding layers have positions of their own.
            rope: usize::from(family == Family::Gemma3 && slides),
        })
    };
    (0..count).map(layer).collect()
}

/// Returns the kinds of positions: one, or Gemma's for layers that see everything and for layers with a window.
pub(super) fn ropes(
    family: Family,
    fields: Fields<'_>,
    theta: f64,
    max_positions: usize,
) -> Result<Vec<RopeConfig>> {
    let none = Value::Null;
    let parse = |value: &Value, theta: f64| RopeConfig::parse(value, theta, max_positions).map_err(wrong);
    let all = fields
        .get("rope_parameters")
        .or_else(|| fields.get("rope_scaling"))
        .unwrap_or(&none);
    if family != Family::Gemma3 {
        return Ok(vec![parse(all, theta)?]);
    }
    let local = fields.number("rope_local_base_freq", 1e4)?;
    match (all.get("full_attention"), all.get("sliding_attention")) {
        (None, None) => Ok(vec![parse(all, theta)?, parse(&none, local)?]),
        (full, sliding) => Ok(vec![
            parse(full.unwrap_or(&none), theta)?,
            parse(sliding.unwrap_or(&none), local)?,
        ]),
    }
}
