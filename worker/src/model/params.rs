//! Translates generation parameters between the wire and the engine.

use precis_engine::{EarlyStopping, GenerationParams as EngineParams};
use precis_schemas::GenerationParams;
use precis_schemas::params::{EarlyStopping as RequestedStopping, Never};

/// Returns the engine's parameters for a request. Fields that the request leaves open get the model's defaults.
pub fn engine_params(requested: &GenerationParams, defaults: &EngineParams) -> EngineParams {
    let size = |value: Option<u32>, default: usize| {
        value.map_or(default, |value| usize::try_from(value).unwrap_or(usize::MAX))
    };
    let max_new_tokens = size(requested.max_new_tokens, defaults.max_new_tokens);
    EngineParams {
        num_beams: size(requested.num_beams, defaults.num_beams),
        do_sample: requested.do_sample.unwrap_or(defaults.do_sample),
        temperature: requested.temperature.unwrap_or(defaults.temperature),
        top_k: size(requested.top_k, defaults.top_k),
        top_p: requested.top_p.unwrap_or(defaults.top_p),
        length_penalty: requested.length_penalty.unwrap_or(defaults.length_penalty),
        early_stopping: match requested.early_stopping {
            Some(RequestedStopping::Flag(early)) => early.into(),
            Some(RequestedStopping::Never(Never::Never)) => EarlyStopping::Never,
            None => defaults.early_stopping,
        },
        no_repeat_ngram_size: size(requested.no_repeat_ngram_size, defaults.no_repeat_ngram_size),
        repetition_penalty: requested
            .repetition_penalty
            .unwrap_or(defaults.repetition_penalty),
        // The model's default minimum must not reject a request for a shorter summary.
        min_new_tokens: match requested.min_new_tokens {
            Some(_) => size(requested.min_new_tokens, 0),
            None => defaults.min_new_tokens.min(max_new_tokens),
        },
        max_new_tokens,
        num_return_sequences: 1,
        seed: requested.seed.or(defaults.seed),
    }
}

/// Returns the parameters that generation used, with every default filled in.
pub fn params_as_used(
    requested: &GenerationParams,
    used: &EngineParams,
    seed: Option<u64>,
) -> GenerationParams {
    let count = |value: usize| Some(u32::try_from(value).unwrap_or(u32::MAX));
    GenerationParams {
        num_beams: count(used.num_beams),
        do_sample: Some(used.do_sample),
        temperature: Some(used.temperature),
        top_k: count(used.top_k),
        top_p: Some(used.top_p),
        length_penalty: Some(used.length_penalty),
        early_stopping: Some(match used.early_stopping {
            EarlyStopping::Heuristic => RequestedStopping::Flag(false),
            EarlyStopping::FirstBeams => RequestedStopping::Flag(true),
            EarlyStopping::Never => RequestedStopping::Never(Never::Never),
        }),
        no_repeat_ngram_size: count(used.no_repeat_ngram_size),
        repetition_penalty: Some(used.repetition_penalty),
        min_new_tokens: count(used.min_new_tokens),
        max_new_tokens: count(used.max_new_tokens),
        seed: seed.or(used.seed),
        first_sentence: Some(requested.first_sentence.unwrap_or(true)),
        long_text: Some(requested.long_text.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_parameters_get_the_models_defaults() {
        let defaults = EngineParams {
            num_beams: 4,
            min_new_tokens: 9,
            ..EngineParams::default()
        };
        let requested = GenerationParams {
            max_new_tokens: Some(5),
            do_sample: Some(true),
            ..Default::default()
        };
        let used = engine_params(&requested, &defaults);
        assert_eq!(
            (used.num_beams, used.min_new_tokens, used.max_new_tokens),
            (4, 5, 5)
        );
        let shown = params_as_used(&requested, &used, Some(7));
        assert_eq!(
            (shown.num_beams, shown.seed, shown.first_sentence),
            (Some(4), Some(7), Some(true))
        );
        assert!(shown.validate().is_ok());
        for text in ["true", "false", "\"never\""] {
            let json = format!(r#"{{"early_stopping":{text}}}"#);
            let requested: GenerationParams = serde_json::from_str(&json).unwrap();
            let shown = params_as_used(&requested, &engine_params(&requested, &defaults), None);
            assert_eq!(shown.early_stopping, requested.early_stopping);
        }
    }
}
