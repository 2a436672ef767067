//! The metadata of a model as a `config.json`.

use std::io::{Read, Seek};

use candle_core::Device;
use candle_core::quantized::gguf_file::Content;
use serde_json::{Map, Value, json};

use super::Metadata;
use crate::error::{LoadError, Result};

/// The model types by GGUF's names of architectures.
const ARCHITECTURES: [(&str, &str); 4] = [
    ("llama", "llama"),
    ("qwen2", "qwen2"),
    ("qwen3", "qwen3"),
    ("gemma3", "gemma3_text"),
];

/// Metadata keys of whole numbers, after the architecture, by their names in `config.json`.
const SIZES: [(&str, &str); 8] = [
    ("embedding_length", "hidden_size"),
    ("feed_forward_length", "intermediate_size"),
    ("block_count", "num_hidden_layers"),
    ("attention.head_count", "num_attention_heads"),
    ("attention.head_count_kv", "num_key_value_heads"),
    ("attention.key_length", "head_dim"),
    ("context_length", "max_position_embeddings"),
    ("attention.sliding_window", "sliding_window"),
];

/// Writes a `config.json`. `file` is read where a setting is stored as a tensor.
///
/// # Errors
/// An architecture that is not supported.
pub(super) fn config<R: Read + Seek>(
    metadata: &Metadata<'_>,
    content: &Content,
    file: &mut R,
) -> Result<Value> {
    let found = metadata.text("general.architecture").unwrap_or("(none)");
    let model_type = ARCHITECTURES.iter().find(|(name, _)| *name == found);
    let Some((name, model_type)) = model_type else {
        return Err(LoadError::Architecture {
            found: format!("{found} (GGUF)"),
        });
    };
    let key = |part: &str| format!("{name}.{part}");
    let mut config = Map::new();
    config.insert("model_type".to_owned(), (*model_type).into());
    for (part, own) in SIZES {
        if let Some(size) = metadata.whole(&key(part)) {
            config.insert(own.to_owned(), size.into());
        }
    }
    let tokens = metadata.list("tokenizer.ggml.tokens").map_or(0, <[_]>::len);
    let vocabulary = content
        .tensor_infos
        .get("token_embd.weight")
        .and_then(|info| info.shape.dims().first().copied());
    config.insert("vocab_size".to_owned(), vocabulary.unwrap_or(tokens).into());
    if let Some(epsilon) = metadata.number(&key("attention.layer_norm_rms_epsilon")) {
        // Stored as f32: 1e-5 reads as 9.999999747e-6, as the kernels use it anyway.
        config.insert("rms_norm_eps".to_owned(), epsilon.into());
    }
    let tied = !content.tensor_infos.contains_key("output.weight");
    config.insert("tie_word_embeddings".to_owned(), tied.into());
    if let Some(theta) = metadata.number(&key("rope.freq_base")) {
        config.insert("rope_theta".to_owned(), theta.into());
    }
    let width = config.get("head_dim").and_then(Value::as_u64);
    if let (Some(width), Some(rotated)) = (width, metadata.whole(&key("rope.dimension_count")))
        && rotated != width
    {
        return Err(LoadError::Architecture {
            found: format!("{found} that rotates {rotated} of {width} elements"),
        });
    }
    if *name == "gemma3"
        && let Some(width) = width
    {
        // The file does not say it. The 27B model, with 62 layers, scales by its hidden size.
        let sizes = ["num_hidden_layers", "hidden_size", "num_attention_heads"];
        let [layers, hidden, heads] = sizes.map(|size| config.get(size).and_then(Value::as_u64).unwrap_or(0));
        let scalar = if layers == 62 {
            hidden / heads.max(1)
        } else {
            width
        };
        config.insert("query_pre_attn_scalar".to_owned(), scalar.into());
    }
    config.insert("rope_scaling".to_owned(), scaling(metadata, &key, content, file)?);
    Ok(Value::Object(config))
}

/// Returns `rope_scaling`.
fn scaling<R: Read + Seek>(
    metadata: &Metadata<'_>,
    key: &dyn Fn(&str) -> String,
    content: &Content,
    file: &mut R,
) -> Result<Value> {
    if content.tensor_infos.contains_key("rope_freqs.weight") {
        let divisors = content.tensor(file, "rope_freqs.weight", &Device::Cpu)?;
        let divisors: Vec<f32> = divisors.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1()?;
        return Ok(json!({"rope_type": "divisors", "divisors": divisors}));
    }
    let kind = metadata.text(&key("rope.scaling.type")).unwrap_or("none");
    let factor = metadata.number(&key("rope.scaling.factor"));
    let (kind, factor) = match (kind, factor) {
        ("none", None) => return Ok(Value::Null),
        // Older files name the factor only.
        ("none", factor) => ("linear", factor),
        (kind, factor) => (kind, factor),
    };
    Ok(json!({
        "rope_type": kind,
        "factor": factor,
        "original_max_position_embeddings": metadata.number(&key("rope.scaling.original_context_length")),
    }))
}
