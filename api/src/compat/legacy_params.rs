//! Generation parameters as the replaced services name them.

use precis_schemas::GenerationParams;
use serde::Deserialize;

/// Number of beams if a request sets other parameters only.
const BEAMS: u32 = 8;
/// A minimum length of 10, which includes the decoder's start token.
const MIN_NEW_TOKENS: u32 = 9;
/// A maximum length of 64, which includes the decoder's start token.
const MAX_NEW_TOKENS: u32 = 63;

/// Beams and temperature.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LegacyParams {
    /// Number of beams. The routes' first implementation spelled it `num_beans`.
    #[serde(default, rename = "num_beans", alias = "num_beams")]
    pub(crate) beams: Option<u32>,
    /// Temperature.
    #[serde(default)]
    pub(crate) temperature: Option<f64>,
}

impl LegacyParams {
    /// Builds parameters from top-level fields. Returns `None` if neither is set.
    pub(crate) fn from_fields(beams: Option<u32>, temperature: Option<f64>) -> Option<Self> {
        (beams.is_some() || temperature.is_some()).then_some(Self { beams, temperature })
    }
}

/// The lengths that all of these routes use. They return the first sentence only.
pub(crate) fn defaults() -> GenerationParams {
    GenerationParams {
        min_new_tokens: Some(MIN_NEW_TOKENS),
        max_new_tokens: Some(MAX_NEW_TOKENS),
        first_sentence: Some(true),
        ..GenerationParams::default()
    }
}

/// Returns `wanted` with missing parameters taken from [`defaults`], which never contradict it.
pub(crate) fn with_defaults(wanted: &GenerationParams) -> GenerationParams {
    let least = wanted.min_new_tokens.unwrap_or(0);
    wanted.or(&GenerationParams {
        max_new_tokens: Some(MAX_NEW_TOKENS.max(least)),
        ..defaults()
    })
}

/// Converts legacy parameters. With them, the model samples with beams; without, the deployment's defaults apply.
pub(crate) fn generation_params(legacy: Option<LegacyParams>) -> GenerationParams {
    match legacy {
        None => defaults(),
        Some(legacy) => GenerationParams {
            num_beams: Some(legacy.beams.unwrap_or(BEAMS)),
            temperature: Some(legacy.temperature.unwrap_or(1.0)),
            do_sample: Some(true),
            ..defaults()
        },
    }
}
