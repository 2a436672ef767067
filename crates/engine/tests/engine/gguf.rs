//! Models in GGUF files, written here from the small models in Hugging Face's format.

use std::collections::HashMap;
use std::path::Path;

use candle_core::quantized::gguf_file::{Value, write};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use precis_engine::{Engine, EngineOptions, GenerationParams, LoadError, ModelSource};

use crate::common::{alone, tiny, tiny_folder};

fn load(path: &Path) -> Result<Engine, LoadError> {
    let options = EngineOptions {
        device: "cpu".parse().unwrap(),
        threads: 1,
        ..Default::default()
    };
    Engine::load(&ModelSource::Path(path.to_owned()), &options)
}

fn tensors(kind: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(tiny_folder(kind).join("model.safetensors"), &Device::Cpu).unwrap()
}

/// Converts a tensor as llama.cpp's converter does.
fn converted(
    architecture: &str,
    name: &str,
    tensor: &Tensor,
    heads: usize,
    kv_heads: usize,
) -> (String, Tensor) {
    let name = name
        .replace("model.embed_tokens", "token_embd")
        .replace("model.norm", "output_norm")
        .replace("lm_head", "output")
        .replace("model.layers", "blk")
        .replace("input_layernorm", "attn_norm")
        .replace("self_attn.o_proj", "attn_output")
        .replace("self_attn.", "attn_")
        .replace("mlp.", "ffn_")
        .replace("_proj", "");
    let name = match architecture {
        "gemma3" => name
            .replace("post_attention_layernorm", "post_attention_norm")
            .replace("pre_feedforward_layernorm", "ffn_norm")
            .replace("post_feedforward_layernorm", "post_ffw_norm"),
        _ => name.replace("post_attention_layernorm", "ffn_norm"),
    };
    let tensor = tensor.to_dtype(DType::F32).unwrap();
    let interleaved = |heads: usize| {
        let rows = tensor.dim(0).unwrap();
        let pairs = tensor.reshape((heads, 2, rows / heads / 2, ())).unwrap();
        let pairs = pairs.transpose(1, 2).unwrap().contiguous().unwrap();
        pairs.reshape(tensor.dims()).unwrap()
    };
    let tensor = match (architecture, name.as_str()) {
        ("llama", name) if name.contains("attn_q.") => interleaved(heads),
        ("llama", name) if name.contains("attn_k.") => interleaved(kv_heads),
        ("gemma3", name) if name.contains("norm") => (tensor + 1.0).unwrap(),
        _ => tensor,
    };
    (name, tensor)
}

/// Writes a GGUF file, with matrices in `format`.
fn write_gguf(kind: &str, architecture: &str, format: GgmlDType, path: &Path, change: &[(&str, Value)]) {
    let read = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(tiny_folder(kind).join(name)).unwrap()).unwrap()
    };
    let (config, tokenizer) = (read("config.json"), read("tokenizer.json"));
    let size = |name: &str| config[name].as_u64().unwrap();
    let text = |text: &str| Value::String(text.to_owned());
    let mut vocabulary: Vec<(u64, String)> = tokenizer["model"]["vocab"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(token, id)| (id.as_u64().unwrap(), token.clone()))
        .collect();
    vocabulary.sort();
    let merges = tokenizer["model"]["merges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|merge| {
            let part = |index: usize| merge[index].as_str().unwrap();
            text(&format!("{} {}", part(0), part(1)))
        });
    let whole = |name: &str| Value::U32(size(name) as u32);
    let of = |part: &str| format!("{architecture}.{part}");
    let heads = size("num_attention_heads");
    let head_dim = config["head_dim"].as_u64().unwrap_or(size("hidden_size") / heads) as u32;
    let mut metadata = vec![
        ("general.architecture".to_owned(), text(architecture)),
        (of("embedding_length"), whole("hidden_size")),
        (of("feed_forward_length"), whole("intermediate_size")),
        (of("block_count"), whole("num_hidden_layers")),
        (of("attention.head_count"), whole("num_attention_heads")),
        (of("attention.head_count_kv"), whole("num_key_value_heads")),
        (of("attention.key_length"), Value::U32(head_dim)),
        (of("context_length"), whole("max_position_embeddings")),
        (of("attention.layer_norm_rms_epsilon"), Value::F32(1e-5)),
        (of("rope.freq_base"), Value::F32(10_000.0)),
        ("tokenizer.ggml.model".to_owned(), text("gpt2")),
        ("tokenizer.ggml.pre".to_owned(), text("gpt-2")),
        ("tokenizer.ggml.eos_token_id".to_owned(), Value::U32(2)),
        ("tokenizer.ggml.bos_token_id".to_owned(), Value::U32(1)),
        (
            "tokenizer.ggml.tokens".to_owned(),
            Value::Array(vocabulary.iter().map(|(_, token)| text(token)).collect()),
        ),
        (
            "tokenizer.ggml.token_type".to_owned(),
            Value::Array(
                vocabulary
                    .iter()
                    .map(|(id, _)| Value::I32(if *id < 4 { 3 } else { 1 }))
                    .collect(),
            ),
        ),
        ("tokenizer.ggml.merges".to_owned(), Value::Array(merges.collect())),
        (
            "tokenizer.chat_template".to_owned(),
            text(read("tokenizer_config.json")["chat_template"].as_str().unwrap()),
        ),
    ];
    for (name, value) in change {
        metadata.retain(|(own, _)| own != name);
        metadata.push(((*name).to_owned(), value.clone()));
    }
    let tensors: Vec<(String, QTensor)> = tensors(kind)
        .iter()
        .map(|(name, tensor)| {
            let kv_heads = size("num_key_value_heads") as usize;
            let (name, tensor) = converted(architecture, name, tensor, heads as usize, kv_heads);
            let format = if tensor.rank() == 2 {
                format
            } else {
                GgmlDType::F32
            };
            (name, QTensor::quantize(&tensor, format).unwrap())
        })
        .collect();
    let tensors: Vec<(&str, &QTensor)> = tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor))
        .collect();
    let metadata: Vec<(&str, &Value)> = metadata
        .iter()
        .map(|(name, value)| (name.as_str(), value))
        .collect();
    let mut file = std::fs::File::create(path).unwrap();
    write(&mut file, &metadata, &tensors).unwrap();
}

const PROMPT: [u32; 9] = [7, 80, 31, 200, 31, 5, 99, 100, 250];

fn params() -> GenerationParams {
    GenerationParams {
        min_new_tokens: 20,
        max_new_tokens: 20,
        ..Default::default()
    }
}

#[test]
fn a_gguf_file_gives_the_results_of_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let none = [];
    // Both have unscaled positions in their configurations.
    for (kind, architecture) in [("llama", "llama"), ("qwen3", "qwen3")] {
        let path = folder.path().join(format!("{kind}.F32.gguf"));
        write_gguf(kind, architecture, GgmlDType::F32, &path, &none);
        let (found, expected) = (load(&path).unwrap(), tiny(kind));
        assert_eq!(found.info().name, format!("{kind}.F32"));
        assert_eq!(found.info().parameters, expected.info().parameters);
        let text = "The river: the 12 bridges.\n\n It's öpen.";
        assert_eq!(found.tokenize(text).unwrap(), expected.tokenize(text).unwrap());
        let (found, expected) = (
            alone(&found, &PROMPT, &params()).unwrap(),
            alone(&expected, &PROMPT, &params()).unwrap(),
        );
        assert_eq!((found.ids, found.score), (expected.ids, expected.score), "{kind}");
    }
}

#[test]
fn linear_scaling_and_divisors_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scaled.gguf");
    let scaled = [
        ("llama.rope.scaling.type", Value::String("linear".to_owned())),
        ("llama.rope.scaling.factor", Value::F32(4.0)),
    ];
    write_gguf("llama", "llama", GgmlDType::F32, &path, &scaled);
    let found = load(&path).unwrap();
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(tiny_folder("llama")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    let mut config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(copy.path().join("config.json")).unwrap()).unwrap();
    config["rope_parameters"] =
        serde_json::json!({"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0});
    std::fs::write(copy.path().join("config.json"), config.to_string()).unwrap();
    let expected = alone(&load(copy.path()).unwrap(), &PROMPT, &params()).unwrap();
    let plain = alone(&tiny("llama"), &PROMPT, &params()).unwrap();
    let found = alone(&found, &PROMPT, &params()).unwrap();
    assert_eq!((&found.ids, found.score), (&expected.ids, expected.score));
    assert_ne!(found.score, plain.score);
}

#[test]
fn quantized_matrices_give_the_results_of_their_dequantized_values() {
    let folder = tempfile::tempdir().unwrap();
    for format in [
        GgmlDType::F16,
        GgmlDType::BF16,
        GgmlDType::Q8_0,
        GgmlDType::Q4_0,
        GgmlDType::Q4_1,
        GgmlDType::Q5_0,
        GgmlDType::Q5_1,
    ] {
        let path = folder.path().join(format!("{format:?}.gguf"));
        let source = tensors("qwen3");
        write_gguf("qwen3", "qwen3", format, &path, &[]);
        let copy = tempfile::tempdir().unwrap();
        for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
            std::fs::copy(tiny_folder("qwen3").join(name), copy.path().join(name)).unwrap();
        }
        let rounded: HashMap<String, Tensor> = source
            .into_iter()
            .map(|(name, tensor)| {
                let tensor = tensor.to_dtype(DType::F32).unwrap();
                let tensor = match tensor.rank() {
                    2 => QTensor::quantize(&tensor, format)
                        .unwrap()
                        .dequantize(&Device::Cpu)
                        .unwrap(),
                    _ => tensor,
                };
                (name, tensor)
            })
            .collect();
        candle_core::safetensors::save(&rounded, copy.path().join("model.safetensors")).unwrap();
        let found = alone(&load(&path).unwrap(), &PROMPT, &params()).unwrap();
        let expected = alone(&load(copy.path()).unwrap(), &PROMPT, &params()).unwrap();
        assert_eq!(
            (found.ids, found.score),
            (expected.ids, expected.score),
            "{format:?}"
        );
    }
}

#[test]
fn a_folder_may_hold_one_gguf_file() {
    let folder = tempfile::tempdir().unwrap();
    write_gguf(
        "llama",
        "llama",
        GgmlDType::F32,
        &folder.path().join("only.gguf"),
        &[],
    );
    assert_eq!(load(folder.path()).unwrap().info().name, "only");
    write_gguf(
        "llama",
        "llama",
        GgmlDType::F32,
        &folder.path().join("second.gguf"),
        &[],
    );
    assert!(matches!(load(folder.path()), Err(LoadError::MissingFile { .. })));
}

#[test]
fn files_that_cannot_be_used_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let refused = |change: &[(&str, Value)]| {
        write_gguf("llama", "llama", GgmlDType::F32, &path, change);
        load(&path).unwrap_err().to_string()
    };
    let text = |text: &str| Value::String(text.to_owned());
    let spm = refused(&[("tokenizer.ggml.model", text("llama"))]);
    assert!(
        spm.contains("model.gguf") && spm.contains("byte-level BPE"),
        "{spm}"
    );
    assert!(refused(&[("tokenizer.ggml.pre", text("unheard-of"))]).contains("unheard-of"));
    assert!(refused(&[("general.architecture", text("mamba"))]).contains("mamba"));
    assert!(refused(&[("llama.rope.dimension_count", Value::U32(4))]).contains("rotates 4 of 8"));
    assert!(refused(&[("general.alignment", Value::U32(0))]).contains("damaged"));
    let whole = std::fs::read(&path).unwrap();
    for length in [0, 3, 20, 200, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = load(&path).unwrap_err().to_string();
        assert!(!error.is_empty());
    }
    assert!(load(Path::new("/no/such/model.gguf")).is_err());
}
