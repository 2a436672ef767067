//! Parses uploads into rows. A malformed row becomes a row with an error.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use precis_producer::rows::RowParser;
use precis_schemas::decode_error::explain_field;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::strict_json;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::value::RawValue;

use crate::http::problem::ApiError;

/// The texts of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowContent {
    /// The text to summarize.
    pub(super) article: String,
    /// The reference.
    pub(super) summ: Option<String>,
}

/// A row as a JSON object.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RowObject {
    #[serde(alias = "text")]
    article: String,
    #[serde(default, alias = "reference")]
    summ: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

/// A row of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InputRow {
    /// The line on which the row starts, counted from 1. In a JSON list, the row's number.
    pub(super) line: u64,
    /// The job's metadata. A malformed row has what could be read.
    pub(super) metadata: BTreeMap<String, String>,
    /// The texts, or why the row is malformed.
    pub(super) content: Result<RowContent, Refusal>,
}

impl InputRow {
    /// A malformed row.
    pub(super) fn refused(line: u64, refusal: Refusal) -> Self {
        Self {
            line,
            metadata: BTreeMap::new(),
            content: Err(refusal),
        }
    }
}

/// Parses a file into rows as its chunks arrive.
pub(super) fn rows_of_file<'a>(
    mut parser: Box<dyn RowParser<InputRow>>,
    chunks: impl Stream<Item = Result<Bytes, ApiError>> + Send + 'a,
) -> impl Stream<Item = Result<InputRow, ApiError>> + Send + 'a {
    let mut is_broken = false;
    chunks
        .map_ok(Some)
        .chain(futures::stream::iter([Ok(None)]))
        .map(move |chunk| {
            let mut rows = VecDeque::new();
            match chunk.inspect_err(|_| is_broken = true)? {
                Some(chunk) => parser.push(&chunk, &mut rows)?,
                // An interrupted upload ends in half a row.
                None if is_broken => {}
                None => parser.finish(&mut rows)?,
            }
            Ok::<_, ApiError>(futures::stream::iter(rows).map(Ok::<InputRow, ApiError>))
        })
        .try_flatten()
}

/// Parses a JSON list into rows.
///
/// # Errors
/// If the body is not a list.
pub(super) fn rows_of_list(body: &[u8]) -> Result<Vec<InputRow>, ApiError> {
    let list: Vec<&RawValue> = serde_json::from_slice(strict_json::without_mark(body)).map_err(|error| {
        ApiError::new(
            ErrorCode::InvalidRequest,
            format!("the body is not a JSON list of texts or objects: {error}"),
        )
    })?;
    let row = |(index, text): (usize, &RawValue)| row_of(index as u64 + 1, text.get().as_bytes());
    Ok(list.into_iter().enumerate().map(row).collect())
}

/// Parses a row: a JSON string is the text, an object has all fields. Another kind of value, an unknown field, or a key
/// that occurs twice makes it malformed.
pub(super) fn row_of(line: u64, text: &[u8]) -> InputRow {
    let error = match strict_json::from_slice(text) {
        Ok(JsonRow { content, metadata }) => {
            return InputRow {
                line,
                metadata,
                content: Ok(content),
            };
        }
        Err(error) => error,
    };
    let problem = match named_twice(text) {
        Some(names) => format!("{names} mean the same; keep one"),
        None => explain_field::<RowObject>(text, &error),
    };
    // A row is one line of its file.
    let message = match error.line() {
        0 => format!("the row: {}", shortened(&problem)),
        _ => format!("the row: {} (column {})", shortened(&problem), error.column()),
    };
    InputRow {
        metadata: serde_json::from_slice(text).map_or_else(|_| BTreeMap::new(), |row: Notes| row.metadata),
        ..InputRow::refused(line, Refusal::new(ErrorCode::InvalidRequest, message))
    }
}

/// Returns two names that a row uses for one text, if there are any.
fn named_twice(text: &[u8]) -> Option<&'static str> {
    let row: HashMap<String, &RawValue> = serde_json::from_slice(text).ok()?;
    let has = |name| row.contains_key(name);
    match (has("article") && has("text"), has("summ") && has("reference")) {
        (true, _) => Some("`article` and `text`"),
        (_, true) => Some("`summ` and `reference`"),
        _ => None,
    }
}

/// The metadata of a malformed row.
#[derive(Deserialize)]
struct Notes {
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

/// A well-formed row.
struct JsonRow {
    content: RowContent,
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for JsonRow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrObject;

        impl<'de> Visitor<'de> for TextOrObject {
            type Value = JsonRow;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or an object with `article` and optionally `summ` and `metadata`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<JsonRow, E> {
                let article = text.to_owned();
                Ok(JsonRow {
                    content: RowContent { article, summ: None },
                    metadata: BTreeMap::new(),
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<JsonRow, A::Error> {
                let RowObject {
                    article,
                    summ,
                    metadata,
                } = RowObject::deserialize(MapAccessDeserializer::new(fields))?;
                Ok(JsonRow {
                    content: RowContent { article, summ },
                    metadata,
                })
            }
        }

        deserializer.deserialize_any(TextOrObject)
    }
}

/// Cuts an error message, which may quote a whole article.
pub(super) fn shortened(message: &str) -> String {
    message.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_occurs_twice_refuses_its_row() {
        let body = br#"[{"article":"A","article":"B"}, {"article":"A","metadata":{"k":"1","k":"2"}}, {"article":"C"}]"#;
        let rows = rows_of_list(body).unwrap();
        for (row, problem) in rows.iter().zip([
            "the row: duplicate field `article`",
            "the row: metadata: duplicate field `k`",
        ]) {
            let refusal = row.content.as_ref().unwrap_err();
            assert!(refusal.message.starts_with(problem), "{refusal}");
        }
        assert_eq!(rows[2].content.as_ref().unwrap().article, "C");
    }

    #[test]
    fn a_malformed_row_says_which_field_is_wrong() {
        let body = br#"[{"article":"A","text":"B"}, {"article":"A","summ":"B","reference":"C"}, {"article":7}, {"article":"A","metadata":{"k":1}}]"#;
        let rows = rows_of_list(body).unwrap();
        for (row, problem) in rows.iter().zip([
            "the row: `article` and `text` mean the same; keep one",
            "the row: `summ` and `reference` mean the same; keep one",
            "the row: article: invalid type: integer `7`, expected a string",
            "the row: metadata.k: invalid type: integer `1`, expected a string",
        ]) {
            let refusal = row.content.as_ref().unwrap_err();
            assert!(refusal.message.starts_with(problem), "{refusal}");
        }
        assert_eq!(rows_of_list("\u{feff}[\"a\"]".as_bytes()).unwrap().len(), 1);
    }

    #[test]
    fn a_list_has_texts_and_objects_and_keeps_its_bad_rows() {
        let rows =
            rows_of_list(br#"["a", {"article": "b", "summ": "c"}, 7, {"text": "d", "x": 1}]"#).unwrap();
        let articles: Vec<Option<&str>> = rows
            .iter()
            .map(|row| row.content.as_ref().ok().map(|content| content.article.as_str()))
            .collect();
        assert_eq!(articles, [Some("a"), Some("b"), None, None]);
        assert_eq!(rows[1].content.as_ref().unwrap().summ.as_deref(), Some("c"));
        let refusal = rows[3].content.as_ref().unwrap_err();
        assert!(refusal.message.contains("unknown field `x`"), "{refusal}");
        assert!(rows_of_list(br#"{"rows": []}"#).is_err());
    }

    #[test]
    fn a_row_that_is_not_text_refuses_only_itself() {
        let body =
            br#"["a \ud800", {"article": "b", "metadata": [1]}, ["c"], {"article": "d", "text": "e"}, "f"]"#;
        let rows = rows_of_list(body).unwrap();
        let read: Vec<bool> = rows.iter().map(|row| row.content.is_ok()).collect();
        assert_eq!(read, [false, false, false, false, true]);
        let refusal = rows[2].content.as_ref().unwrap_err();
        assert!(
            refusal.message.contains("expected a text, or an object"),
            "{refusal}"
        );
    }
}
