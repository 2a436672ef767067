//! Damaged model files load or are refused with an error. Nothing panics, and nothing allocates excessive memory.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use precis_engine::{
    DeviceChoice, Engine, EngineOptions, GenerateRequest, GenerationParams, ModelSource, RowError,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::common::tiny_folder;

/// Loads the folder and, if that works, generates three tokens.
fn use_it(folder: &Path) -> Result<(), TestCaseError> {
    let options = EngineOptions {
        device: DeviceChoice::Cpu,
        threads: 1,
        memory_bytes: 1 << 30,
        ..Default::default()
    };
    let load = || Engine::load(&ModelSource::Path(folder.to_owned()), &options);
    let engine = match catch_unwind(AssertUnwindSafe(load)) {
        Ok(Ok(engine)) => engine,
        Ok(Err(error)) => {
            prop_assert!(!error.to_string().is_empty());
            return Ok(());
        }
        Err(_) => return Err(TestCaseError::fail("loading panicked")),
    };
    let Ok(encoded) = engine.tokenize("The river town said that it will open a bridge.") else {
        return Ok(());
    };
    let params = GenerationParams {
        num_beams: 2,
        max_new_tokens: 3,
        ..Default::default()
    };
    let request = GenerateRequest::new(encoded, params);
    let outcome = engine.submit(&request).and_then(|generation| generation.wait());
    prop_assert!(!matches!(outcome, Err(RowError::Panicked(_))), "{outcome:?}");
    Ok(())
}

/// Copies a small model with one file changed.
fn with_file(file: &str, bytes: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "model.safetensors",
    ] {
        std::fs::copy(tiny_folder("t5").join(name), folder.path().join(name)).unwrap();
    }
    std::fs::write(folder.path().join(file), bytes).unwrap();
    folder
}

fn original(file: &str) -> Vec<u8> {
    std::fs::read(tiny_folder("t5").join(file)).unwrap()
}

/// Plausible wrong values for a key.
fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!([])),
        Just(json!({})),
        Just(json!("")),
        Just(json!("gated-silu")),
        Just(json!(-1)),
        Just(json!(0)),
        Just(json!(1e308)),
        Just(json!(u64::MAX)),
        Just(json!([1, 2, 3])),
        Just(json!(true)),
        (0u64..5000).prop_map(|number| json!(number)),
        any::<f64>()
            .prop_filter("JSON has no others", |number| number.is_finite())
            .prop_map(|number| json!(number)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_configuration_with_a_wrong_value_is_refused_or_used(key in any::<prop::sample::Index>(), value in values()) {
        for (file, more) in [
            ("config.json", &["tie_word_embeddings", "task_specific_params", "scale_decoder_outputs"][..]),
            ("generation_config.json", &["num_beams", "top_k", "top_p", "length_penalty", "early_stopping", "min_length"]),
        ] {
            let mut config: Value = serde_json::from_slice(&original(file)).unwrap();
            let mut keys: Vec<String> = config.as_object().unwrap().keys().cloned().collect();
            keys.extend(more.iter().map(|key| (*key).to_owned()));
            config[key.get(&keys).as_str()] = value.clone();
            use_it(with_file(file, config.to_string().as_bytes()).path())?;
        }
    }

    #[test]
    fn a_file_with_wrong_bytes_is_refused_or_used(
        file in prop::sample::select(vec!["config.json", "generation_config.json", "tokenizer.json", "model.safetensors"]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        in_head: bool,
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut bytes = original(file);
        for (place, byte) in changes {
            // Parsers depend most on the beginning of a file.
            let most = if in_head { bytes.len().min(200) } else { bytes.len() };
            bytes[place.index(most)] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        use_it(with_file(file, &bytes).path())?;
    }
}
