//! Parses uploads into rows. A malformed row becomes a row with an error.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use precis_schemas::error_code::{ErrorCode, Refusal};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::{Map, Value};

use crate::http::problem::ApiError;

/// The fields of a row.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RowContent {
    /// The text to summarize.
    #[serde(alias = "text")]
    pub(super) article: String,
    /// The reference.
    #[serde(default, alias = "reference")]
    pub(super) summ: Option<String>,
    /// The job's metadata.
    #[serde(default)]
    pub(super) metadata: BTreeMap<String, String>,
}

/// A row of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InputRow {
    /// The line on which the row starts, counted from 1. In a JSON list, the row's number.
    pub(super) line: u64,
    /// The fields, or why the row is malformed.
    pub(super) content: Result<RowContent, Refusal>,
}

/// An incremental parser of a file.
pub(super) trait RowParser: Send {
    /// Parses the next chunk and adds the rows that it completes.
    ///
    /// # Errors
    /// If the whole file is unreadable, for example without its header.
    fn push(&mut self, chunk: &[u8], rows: &mut VecDeque<InputRow>) -> Result<(), Refusal>;

    /// Adds the row that the end of the file completes.
    ///
    /// # Errors
    /// See [`RowParser::push`].
    fn finish(&mut self, rows: &mut VecDeque<InputRow>) -> Result<(), Refusal>;
}

/// Parses a file into rows as its chunks arrive.
pub(super) fn rows_of_file<'a>(
    mut parser: Box<dyn RowParser>,
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
    let list: Vec<UniqueValue> = serde_json::from_slice(body).map_err(|error| {
        ApiError::new(
            ErrorCode::InvalidRequest,
            format!("the body is not a JSON list of texts or objects: {error}"),
        )
    })?;
    let row = |(index, value)| InputRow {
        line: index as u64 + 1,
        content: content_of(value),
    };
    Ok(list.into_iter().enumerate().map(row).collect())
}

/// A JSON value, and the first key that one of its objects has twice.
#[derive(Debug, PartialEq)]
pub(super) struct UniqueValue {
    value: Value,
    repeated: Option<String>,
}

impl<'de> Deserialize<'de> for UniqueValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyValue;

        fn plain(value: impl Into<Value>) -> UniqueValue {
            UniqueValue {
                value: value.into(),
                repeated: None,
            }
        }

        impl<'de> Visitor<'de> for AnyValue {
            type Value = UniqueValue;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_unit<E: de::Error>(self) -> Result<UniqueValue, E> {
                Ok(plain(Value::Null))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<UniqueValue, E> {
                Ok(plain(value))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<UniqueValue, E> {
                Ok(plain(value))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<UniqueValue, E> {
                Ok(plain(value))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<UniqueValue, E> {
                Ok(plain(value))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<UniqueValue, E> {
                Ok(plain(value))
            }

            fn visit_string<E: de::Error>(self, value: String) -> Result<UniqueValue, E> {
                Ok(plain(value))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<UniqueValue, A::Error> {
                let (mut values, mut repeated) = (Vec::new(), None);
                while let Some(item) = items.next_element::<UniqueValue>()? {
                    repeated = repeated.or(item.repeated);
                    values.push(item.value);
                }
                Ok(UniqueValue {
                    value: values.into(),
                    repeated,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<UniqueValue, A::Error> {
                let (mut values, mut repeated) = (Map::new(), None);
                while let Some(name) = fields.next_key::<String>()? {
                    let field = fields.next_value::<UniqueValue>()?;
                    repeated = repeated.or(field.repeated);
                    if values.insert(name.clone(), field.value).is_some() {
                        repeated = repeated.or(Some(name));
                    }
                }
                Ok(UniqueValue {
                    value: values.into(),
                    repeated,
                })
            }
        }

        deserializer.deserialize_any(AnyValue)
    }
}

/// Parses a JSON value into the fields of a row: a string is the text, an object has all fields.
///
/// # Errors
/// [`ErrorCode::InvalidRequest`] for another kind of value, an unknown field, or a key that occurs twice.
pub(super) fn content_of(read: UniqueValue) -> Result<RowContent, Refusal> {
    if let Some(name) = &read.repeated {
        let message = format!("the row: duplicate field `{}`", shortened(name));
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    let value = read.value;
    match value {
        Value::String(article) => Ok(RowContent {
            article,
            summ: None,
            metadata: BTreeMap::new(),
        }),
        Value::Object(_) => serde_json::from_value(value).map_err(|error| {
            Refusal::new(
                ErrorCode::InvalidRequest,
                format!("the row: {}", shortened(&error.to_string())),
            )
        }),
        _ => Err(Refusal::new(
            ErrorCode::InvalidRequest,
            "a row must be a text, or an object with `article` and optionally `summ`",
        )),
    }
}

/// Cuts an error message, which may quote a whole article.
pub(super) fn shortened(message: &str) -> String {
    message.chars().take(300).collect()
}

/// A row with more than `max_row_bytes` bytes.
pub(super) fn too_long(line: u64, max_row_bytes: usize) -> InputRow {
    InputRow {
        line,
        content: Err(Refusal::new(
            ErrorCode::TextTooLong,
            format!("the row has more than {max_row_bytes} bytes"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_occurs_twice_refuses_its_row() {
        let body = br#"[{"article":"A","article":"B"}, {"article":"A","metadata":{"k":"1","k":"2"}}, {"article":"C"}]"#;
        let rows = rows_of_list(body).unwrap();
        for (row, name) in rows.iter().zip(["article", "k"]) {
            let refusal = row.content.as_ref().unwrap_err();
            assert_eq!(refusal.message, format!("the row: duplicate field `{name}`"));
        }
        assert_eq!(rows[2].content.as_ref().unwrap().article, "C");
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
}
