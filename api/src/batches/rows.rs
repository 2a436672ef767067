//! Bytes to rows. A row that can't be read is a row too: with the reason, and without a text.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use precis_schemas::error_code::{ErrorCode, Refusal};
use serde::Deserialize;
use serde_json::Value;

use super::csv::Csv;
use super::json_lines::JsonLines;
use crate::http::problem::ApiError;

/// What a row asks for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Content {
    /// The text to summarize.
    #[serde(alias = "text")]
    pub(super) article: String,
    /// A summary by a human.
    #[serde(default, alias = "reference")]
    pub(super) summ: Option<String>,
    /// The client's notes.
    #[serde(default)]
    pub(super) metadata: BTreeMap<String, String>,
}

/// A row of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// Line on which it began, counted from 1.
    pub(super) line: u64,
    /// What it asks for, or why that can't be read.
    pub(super) content: Result<Content, Refusal>,
}

/// Takes a file apart, piece by piece as it comes.
pub(super) trait Splitter: Send {
    /// Takes the next piece and adds the rows that it completes.
    ///
    /// # Errors
    /// When the whole can't be read, as without the right header.
    fn push(&mut self, piece: &[u8], rows: &mut VecDeque<Row>) -> Result<(), Refusal>;

    /// Adds the row that the end of the file completes.
    ///
    /// # Errors
    /// As [`Splitter::push`].
    fn finish(&mut self, rows: &mut VecDeque<Row>) -> Result<(), Refusal>;
}

/// How the rows of an upload are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileFormat {
    /// RFC 4180, with a header.
    Csv,
    /// A JSON object or string a line.
    JsonLines,
}

impl FileFormat {
    /// The format that a media type names.
    pub(super) fn of_media_type(essence: &str) -> Option<Self> {
        match essence {
            "text/csv" => Some(Self::Csv),
            "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/x-jsonlines"
            | "application/jsonlines" => Some(Self::JsonLines),
            _ => None,
        }
    }

    /// The format that the end of a file's name tells.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        let (_, end) = name.rsplit_once('.')?;
        match end.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            _ => None,
        }
    }

    fn splitter(self, max_row_bytes: usize) -> Box<dyn Splitter> {
        match self {
            Self::Csv => Box::new(Csv::new(max_row_bytes)),
            Self::JsonLines => Box::new(JsonLines::new(max_row_bytes)),
        }
    }
}

/// The rows of a file whose bytes come in pieces.
pub(super) fn rows_of_file<'a>(
    format: FileFormat,
    max_row_bytes: usize,
    pieces: impl Stream<Item = Result<Bytes, ApiError>> + Send + 'a,
) -> impl Stream<Item = Result<Row, ApiError>> + Send + 'a {
    let mut splitter = format.splitter(max_row_bytes);
    let mut is_broken = false;
    pieces
        .map_ok(Some)
        .chain(futures::stream::iter([Ok(None)]))
        .map(move |piece| {
            let mut rows = VecDeque::new();
            match piece.inspect_err(|_| is_broken = true)? {
                Some(piece) => splitter.push(&piece, &mut rows)?,
                // What the file was cut off in is no row.
                None if is_broken => {}
                None => splitter.finish(&mut rows)?,
            }
            Ok::<_, ApiError>(futures::stream::iter(rows).map(Ok::<Row, ApiError>))
        })
        .try_flatten()
}

/// The rows of a JSON list.
///
/// # Errors
/// When the body is not a list.
pub(super) fn rows_of_list(body: &[u8]) -> Result<Vec<Row>, ApiError> {
    let list: Vec<Value> = serde_json::from_slice(body).map_err(|error| {
        ApiError::new(
            ErrorCode::InvalidRequest,
            format!("the body is not a JSON list of texts or objects: {error}"),
        )
    })?;
    let row = |(index, value)| Row {
        line: index as u64 + 1,
        content: content_of(value),
    };
    Ok(list.into_iter().enumerate().map(row).collect())
}

/// The row that a JSON value is: a text by itself, or an object.
pub(super) fn content_of(value: Value) -> Result<Content, Refusal> {
    match value {
        Value::String(article) => Ok(Content {
            article,
            summ: None,
            metadata: BTreeMap::new(),
        }),
        Value::Object(_) => serde_json::from_value(value).map_err(|error| {
            Refusal::new(
                ErrorCode::InvalidRequest,
                format!("the row: {}", short(&error.to_string())),
            )
        }),
        _ => Err(Refusal::new(
            ErrorCode::InvalidRequest,
            "a row is a text or an object with `article` and perhaps `summ`",
        )),
    }
}

/// What is quoted may be a whole article.
pub(super) fn short(message: &str) -> String {
    message.chars().take(300).collect()
}

/// A row with more bytes than any good one can have.
pub(super) fn too_long(line: u64, max_row_bytes: usize) -> Row {
    Row {
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
    fn a_list_has_texts_and_objects_and_its_bad_rows_keep_their_place() {
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
    fn the_format_is_told_by_the_media_type_or_the_name() {
        assert_eq!(FileFormat::of_media_type("text/csv"), Some(FileFormat::Csv));
        assert_eq!(FileFormat::of_media_type("text/plain"), None);
        assert_eq!(FileFormat::of_name("a.b.JSONL"), Some(FileFormat::JsonLines));
        assert_eq!(FileFormat::of_name("csv"), None);
    }
}
