//! Errors while loading, and their messages.

use std::path::Path;

use precis_engine::{DeviceChoice, Engine, EngineOptions, LoadError, ModelSource};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{tiny, tiny_folder};

fn load(folder: &Path) -> Result<Engine, LoadError> {
    let options = EngineOptions {
        device: DeviceChoice::Cpu,
        threads: 1,
        ..Default::default()
    };
    Engine::load(&ModelSource::Path(folder.to_owned()), &options)
}

/// Copies the small T5 into a new folder.
fn copy(of: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(tiny_folder(of)).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    folder
}

fn change_config(folder: &Path, change: impl Fn(&mut Value)) {
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    std::fs::write(path, config.to_string()).unwrap();
}

#[test]
fn missing_files_are_named() {
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        let folder = copy("t5");
        std::fs::remove_file(folder.path().join(file)).unwrap();
        let error = load(folder.path()).unwrap_err();
        assert!(
            matches!(&error, LoadError::MissingFile { file: missing, .. } if missing == file),
            "{error}"
        );
        assert!(
            error.to_string().contains(&folder.path().display().to_string()),
            "{error}"
        );
    }
    let folder = copy("t5-v1_1");
    std::fs::remove_file(folder.path().join("model-00002-of-00002.safetensors")).unwrap();
    let error = load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("model-00002-of-00002.safetensors"), "{error}");
    assert!(matches!(
        load(Path::new("/no/such/folder")),
        Err(LoadError::MissingFile { .. })
    ));
}

#[test]
fn generation_config_is_optional() {
    let folder = copy("t5");
    std::fs::remove_file(folder.path().join("generation_config.json")).unwrap();
    assert_eq!(load(folder.path()).unwrap().default_params().max_new_tokens, 63);
    assert_eq!(tiny("t5").default_params().max_new_tokens, 31);
}

#[test]
fn corrupt_weights_are_refused() {
    let whole = std::fs::read(tiny_folder("t5").join("model.safetensors")).unwrap();
    let damage: [Vec<u8>; 5] = [
        Vec::new(),
        whole[..4].to_vec(),
        whole[..whole.len() / 2].to_vec(),
        b"not a safetensors file at all, but long enough".to_vec(),
        [&whole[..], b"more"].concat(),
    ];
    for bytes in damage {
        let folder = copy("t5");
        std::fs::write(folder.path().join("model.safetensors"), &bytes).unwrap();
        let error = load(folder.path()).unwrap_err();
        assert!(
            matches!(error, LoadError::Weights { .. }),
            "{} bytes: {error:?}",
            bytes.len()
        );
        assert!(
            error.to_string().contains("model.safetensors are corrupt"),
            "{error}"
        );
    }
    let folder = copy("t5");
    let mut overwritten = whole;
    let end = overwritten.len() - 64;
    overwritten[end..].fill(0xff);
    std::fs::write(folder.path().join("model.safetensors"), overwritten).unwrap();
    assert!(matches!(load(folder.path()), Err(LoadError::NotFinite { .. })));
}

#[test]
fn unexpected_shapes_and_types_are_refused() {
    let error = |change: &dyn Fn(&mut Value)| {
        let folder = copy("t5");
        change_config(folder.path(), change);
        load(folder.path()).unwrap_err()
    };
    let wrong = error(&|config| config["model_type"] = "bart".into());
    assert!(matches!(&wrong, LoadError::Architecture { found } if found == "bart"));
    let wrong = error(&|config| config["d_ff"] = 64.into());
    assert!(
        matches!(&wrong, LoadError::Shape { name, .. } if name.ends_with("DenseReluDense.wi.weight")),
        "{wrong}"
    );
    assert!(
        wrong.to_string().contains("[48, 32]") && wrong.to_string().contains("[64, 32]"),
        "{wrong}"
    );
    let wrong = error(&|config| config["num_layers"] = 3.into());
    assert!(
        matches!(&wrong, LoadError::MissingTensor { name } if name.starts_with("encoder.block.2.")),
        "{wrong}"
    );
    let wrong = error(&|config| config["feed_forward_proj"] = "gated-gelu".into());
    assert!(matches!(wrong, LoadError::MissingTensor { .. }), "{wrong}");
    let wrong = error(&|config| config["vocab_size"] = 200.into());
    assert!(
        matches!(wrong, LoadError::TokenizerVocabulary { vocabulary: 200, .. }),
        "{wrong}"
    );
    let wrong = error(&|config| config["n_positions"] = 1.into());
    assert!(wrong.to_string().contains("input limit"), "{wrong}");
}

#[test]
fn an_invalid_tokenizer_is_refused() {
    let folder = copy("t5");
    std::fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
    assert!(matches!(load(folder.path()), Err(LoadError::Tokenizer { .. })));
}

#[test]
fn a_device_without_a_backend_is_refused() {
    if cfg!(any(feature = "cuda", feature = "metal")) {
        return;
    }
    let options = EngineOptions {
        device: DeviceChoice::Cuda,
        ..Default::default()
    };
    let error = Engine::load(&ModelSource::Path(tiny_folder("t5")), &options).unwrap_err();
    assert!(matches!(error, LoadError::Device(_)), "{error}");
    assert!(error.to_string().contains("cargo feature `cuda`"), "{error}");
}

#[test]
fn model_info_describes_the_model() {
    let engine = tiny("t5-v1_1");
    let info = engine.info();
    assert_eq!(
        (info.name.as_str(), info.architecture, info.vocabulary),
        ("t5-v1_1", "t5", 300)
    );
    assert_eq!(
        (info.max_input_tokens, info.d_model, info.device, info.precision),
        (512, 32, "cpu", "f32")
    );
    assert_eq!((info.prompt_prefix.as_str(), info.threads), ("summarize: ", 2));
    // The shards store 2 bytes per parameter.
    let folder = tiny_folder("t5-v1_1");
    let shards = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ];
    let bytes: u64 = shards
        .iter()
        .map(|shard| folder.join(shard).metadata().unwrap().len())
        .sum();
    assert!(
        info.parameters * 2 < bytes && info.parameters * 2 > bytes - 16_384,
        "{}",
        info.parameters
    );
    assert!(info.revision.len() == 12 && info.revision.chars().all(|digit| digit.is_ascii_hexdigit()));
}

#[test]
fn truncation_is_reported() {
    let engine = tiny("t5");
    let short = engine.tokenize("The river").unwrap();
    assert_eq!((short.tokens, short.truncated_tokens), (short.ids.len(), 0));
    assert_eq!(short.ids.last(), Some(&1));
    let long = engine.tokenize(&"the river of the city ".repeat(200)).unwrap();
    assert_eq!((long.ids.len(), long.ids[511]), (512, 1));
    assert_eq!(long.tokens, 512 + long.truncated_tokens);
    let whole = engine.tokenize(&"the river of the city ".repeat(100)).unwrap();
    assert_eq!(long.ids[..500], whole.ids[..500]);
    // Every text has ids, and ids have a text.
    assert_eq!(engine.tokenize("").unwrap().ids.last(), Some(&1));
    let text = "summarize: naïve 漢字 🙂";
    let odd = engine.tokenize("naïve 漢字 🙂").unwrap();
    assert_eq!(engine.decode(&odd.ids).unwrap(), text);
}

#[cfg(not(feature = "embedded-model"))]
#[test]
fn a_missing_embedded_model_is_reported() {
    let error = Engine::load(&ModelSource::Embedded, &EngineOptions::default()).unwrap_err();
    assert!(matches!(error, LoadError::NotEmbedded));
}

#[cfg(feature = "embedded-model")]
#[test]
fn the_embedded_model_loads() {
    let options = EngineOptions {
        device: DeviceChoice::Cpu,
        threads: 1,
        ..Default::default()
    };
    let engine = Engine::load(&ModelSource::Embedded, &options).unwrap();
    assert_eq!(engine.info().name, "precis-mini");
    assert_eq!(engine.info().max_input_tokens, 512);
}

#[test]
fn a_model_that_exceeds_memory_is_refused_before_loading() {
    let options = EngineOptions {
        device: DeviceChoice::Cpu,
        memory_bytes: 100_000,
        ..Default::default()
    };
    let error = Engine::load(&ModelSource::Path(tiny_folder("t5")), &options).unwrap_err();
    let LoadError::Memory { needed, available } = error else {
        panic!("{error}")
    };
    // 48 000 parameters of 4 bytes, plus a copy of the embedding.
    assert!((150_000..400_000).contains(&needed), "{needed}");
    assert_eq!(available, 100_000);
    let options = EngineOptions {
        memory_bytes: needed,
        ..options
    };
    let engine = Engine::load(&ModelSource::Path(tiny_folder("t5")), &options).unwrap();
    let info = engine.info();
    assert!(!info.load_time.is_zero());
    assert!(info.resident_bytes.is_none_or(|bytes| bytes > needed));
}

#[test]
fn spiece_model_alone_tokenizes_like_sentencepiece() {
    let folder = copy("t5");
    std::fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    let pieces = tiny_folder("sentencepiece");
    std::fs::copy(pieces.join("t5.model"), folder.path().join("spiece.model")).unwrap();
    let engine = load(folder.path()).unwrap();
    let golden = std::fs::read_to_string(pieces.join("t5.jsonl")).unwrap();
    let case: Value = serde_json::from_str(golden.lines().nth(10).unwrap()).unwrap();
    let ids = engine.tokenize(case["text"].as_str().unwrap()).unwrap().ids;
    let expected: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
    assert!(
        ids.ends_with(&[&expected[1..], &[1]].concat()),
        "{ids:?} {expected:?}"
    );
    // 280 pieces and 100 sentinels exceed this model's vocabulary.
    std::fs::write(
        folder.path().join("tokenizer_config.json"),
        r#"{"extra_ids":100}"#,
    )
    .unwrap();
    assert!(matches!(
        load(folder.path()),
        Err(LoadError::TokenizerVocabulary {
            highest: 379,
            vocabulary: 300
        })
    ));
    std::fs::write(folder.path().join("spiece.model"), b"nothing").unwrap();
    let error = load(folder.path()).unwrap_err().to_string();
    assert!(
        error.starts_with("spiece.model of the model is invalid"),
        "{error}"
    );
}
