//! Embeddings in a compact encoding: base64 of little-endian `f32`.
//!
//! The encoding is exact and half as long as a JSON array (512 numbers: 2.7 KB instead of about 5.5 KB).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An embedding vector.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EmbeddingVector(pub Vec<f32>);

impl EmbeddingVector {
    /// Returns its numbers.
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }
}

impl Serialize for EmbeddingVector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|number| number.to_le_bytes()).collect();
        serializer.serialize_str(&STANDARD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for EmbeddingVector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let bytes = STANDARD
            .decode(text.as_bytes())
            .map_err(|error| D::Error::custom(format!("a vector must be base64: {error}")))?;
        let (numbers, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(D::Error::custom("a vector must have four bytes for each number"));
        }
        Ok(Self(numbers.iter().copied().map(f32::from_le_bytes).collect()))
    }
}

impl JsonSchema for EmbeddingVector {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Vector".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "contentEncoding": "base64",
            "description": "The numbers of a vector, each as a little-endian f32."
        })
    }
}

/// Embeddings of the texts: the mean of the encoder's hidden states, as long as the model's width.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Embeddings {
    /// Embedding of the text, as far as the model reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<EmbeddingVector>,
    /// Embedding of the summary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<EmbeddingVector>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn vectors_are_base64_of_their_bytes() {
        let vector = EmbeddingVector(vec![1.0, -0.5]);
        assert_eq!(serde_json::to_value(&vector).unwrap(), "AACAPwAAAL8=");
        for bad in [r#""AACAPwAA""#, r#""?""#, "[1.0]"] {
            assert!(serde_json::from_str::<EmbeddingVector>(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn vectors_round_trip_exactly(bits in proptest::collection::vec(any::<u32>(), 0..40)) {
            let vector = EmbeddingVector(bits.iter().copied().map(f32::from_bits).collect());
            let json = serde_json::to_string(&vector).unwrap();
            let back: EmbeddingVector = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(back.0.iter().map(|number| number.to_bits()).collect::<Vec<_>>(), bits);
        }
    }
}
