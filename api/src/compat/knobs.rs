//! How to generate, in the words of the routes that Precis took over.

use precis_schemas::GenerationParams;
use serde::Deserialize;

/// Beams of a request that leaves them open beside other settings.
const BEAMS: u32 = 8;
/// Fewest tokens: a minimum length of 10, of which the first is the decoder's own start.
const MIN_NEW_TOKENS: u32 = 9;
/// Most tokens: a maximum length of 64, less the same.
const MAX_NEW_TOKENS: u32 = 63;

/// Beams and temperature.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Knobs {
    /// Beams; the first spelling is that of the routes' first implementation.
    #[serde(default, rename = "num_beans", alias = "num_beams")]
    pub(crate) beams: Option<u32>,
    /// Temperature.
    #[serde(default)]
    pub(crate) temperature: Option<f64>,
}

impl Knobs {
    /// These knobs where they stand among other fields: none when neither is there.
    pub(crate) fn among(beams: Option<u32>, temperature: Option<f64>) -> Option<Self> {
        (beams.is_some() || temperature.is_some()).then_some(Self { beams, temperature })
    }
}

/// What all of these routes ask for: their lengths, and the first sentence.
pub(crate) fn common() -> GenerationParams {
    GenerationParams {
        min_new_tokens: Some(MIN_NEW_TOKENS),
        max_new_tokens: Some(MAX_NEW_TOKENS),
        first_sentence: Some(true),
        ..GenerationParams::default()
    }
}

/// With knobs, the method is that of these routes too: beams of samples. Without, it is the deployment's.
pub(crate) fn params(knobs: Option<Knobs>) -> GenerationParams {
    match knobs {
        None => common(),
        Some(knobs) => GenerationParams {
            num_beams: Some(knobs.beams.unwrap_or(BEAMS)),
            temperature: Some(knobs.temperature.unwrap_or(1.0)),
            do_sample: Some(true),
            ..common()
        },
    }
}
