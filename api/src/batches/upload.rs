//! The body of an upload as a stream of chunks, bounded in size and time. A file is never held in memory as a whole.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use encoding_rs::{Encoding, UTF_8};
use futures::{Stream, StreamExt};
use http::HeaderMap;
use precis_producer::rows::{CsvParser, DecodingParser, JsonLinesParser, RowParser};
use precis_runtime::config::BatchesConfig;
use precis_schemas::error_code::ErrorCode;
use tokio::time::{Instant, timeout_at};

use super::columns::{ColumnOptions, UploadRows};
use super::form::FileForm;
use super::rows::InputRow;
use crate::gateway::state::AppState;
use crate::http::media_type::{MediaType, announced_length, check_coding};
use crate::http::problem::ApiError;
use crate::http::{charset, extract};

/// The body of an upload, by its media type.
pub(super) enum Upload {
    /// A JSON list.
    List(Box<Request>),
    /// A file as the whole body.
    File(FileFormat, Body),
    /// A form with a file in its field `file`.
    Form(Box<FileForm>),
}

/// The format of an uploaded file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileFormat {
    /// RFC 4180, with a header, in this character set if it isn't UTF-8.
    Csv(Option<&'static Encoding>),
    /// A JSON object or string per line.
    JsonLines,
}

impl FileFormat {
    /// Returns the file format of a media type, or `None` for other types.
    ///
    /// # Errors
    /// If the media type declares an unknown character set.
    pub(super) fn of_media_type(media_type: MediaType<'_>) -> Result<Option<Self>, ApiError> {
        Ok(match media_type.essence().as_str() {
            "text/csv" => Some(Self::Csv(charset::declared(media_type)?)),
            "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/x-jsonlines"
            | "application/jsonlines" => Some(Self::JsonLines),
            _ => None,
        })
    }

    /// Returns the format of a file name, by its extension.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        let (_, extension) = name.rsplit_once('.')?;
        match extension.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Csv(None)),
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            _ => None,
        }
    }

    /// Creates a parser of this format for rows with at most `max_row_bytes` bytes.
    pub(super) fn parser(self, max_row_bytes: usize, columns: ColumnOptions) -> Box<dyn RowParser<InputRow>> {
        let rows = UploadRows::new(columns);
        match self {
            Self::Csv(charset) => {
                let parser = CsvParser::new(max_row_bytes, rows);
                Box::new(DecodingParser::new(charset.unwrap_or(UTF_8), parser))
            }
            Self::JsonLines => Box::new(JsonLinesParser::new(max_row_bytes, rows)),
        }
    }
}

/// Classifies a request by its media type.
///
/// # Errors
/// If the media type is not supported, the announced length is too large, or a form is malformed.
pub(super) fn of_request(request: Request, limits: &BatchesConfig) -> Result<Upload, ApiError> {
    let media_type = media_type(request.headers())?;
    if let Some(length) = announced_length(request.headers())
        && length > limits.max_upload_bytes
    {
        return Err(too_large(limits.max_upload_bytes));
    }
    let essence = media_type.essence();
    if essence == "multipart/form-data" {
        let boundary = media_type.parameter("boundary").unwrap_or_default();
        return Ok(Upload::Form(Box::new(FileForm::new(
            request.into_body(),
            &boundary,
        )?)));
    }
    if media_type.is_json() {
        return Ok(Upload::List(Box::new(request)));
    }
    match FileFormat::of_media_type(media_type)? {
        Some(format) => Ok(Upload::File(format, request.into_body())),
        None => Err(ApiError::new(
            ErrorCode::UnsupportedMediaType,
            format!(
                "the content type is {essence}; send application/json, application/x-ndjson, text/csv or \
                 multipart/form-data"
            ),
        )),
    }
}

/// Reads the body of a JSON list as a whole.
///
/// # Errors
/// If it is larger than `limits.max_body_bytes`, is cut off, or does not arrive in time.
pub(super) async fn list(state: &AppState, request: Request) -> Result<Bytes, ApiError> {
    let timeout = state.http().body_timeout();
    extract::read_body(request, state.limits().body_bytes(), timeout).await
}

pub(super) fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, message)
}

fn too_large(limit: u64) -> ApiError {
    ApiError::new(
        ErrorCode::BodyTooLarge,
        format!("the upload has more than {limit} bytes"),
    )
}

fn media_type(headers: &HeaderMap) -> Result<MediaType<'_>, ApiError> {
    check_coding(headers)?;
    MediaType::of(headers).ok_or_else(|| {
        ApiError::new(
            ErrorCode::UnsupportedMediaType,
            "there is no content type; send application/json, application/x-ndjson or text/csv",
        )
    })
}

/// The limits of an upload in size and time.
#[derive(Debug, Clone, Copy)]
pub(super) struct UploadLimits {
    bytes_left: u64,
    max_bytes: u64,
    idle_timeout: Duration,
    deadline: Instant,
}

impl UploadLimits {
    /// The limits of an upload that begins now.
    pub(super) fn new(limits: &BatchesConfig) -> Self {
        Self {
            bytes_left: limits.max_upload_bytes,
            max_bytes: limits.max_upload_bytes,
            idle_timeout: limits.idle_timeout(),
            deadline: Instant::now() + limits.upload_timeout(),
        }
    }

    /// Waits for the next part of the upload, at most as long as the client may pause.
    ///
    /// # Errors
    /// [`ErrorCode::RequestTimeout`].
    pub(super) async fn within<T>(&self, next: impl Future<Output = T>) -> Result<T, ApiError> {
        let until = (Instant::now() + self.idle_timeout).min(self.deadline);
        timeout_at(until, next).await.map_err(|_| {
            let reason = if until == self.deadline {
                "the upload did not end in time".to_owned()
            } else {
                format!("no data arrived for {} seconds", self.idle_timeout.as_secs())
            };
            ApiError::new(ErrorCode::RequestTimeout, reason)
        })
    }

    /// Waits for the next chunk within the limits.
    pub(super) async fn chunk<E: std::fmt::Display>(
        &mut self,
        next: impl Future<Output = Option<Result<Bytes, E>>>,
    ) -> Option<Result<Bytes, ApiError>> {
        let chunk = match self.within(next).await {
            Ok(chunk) => chunk?,
            Err(error) => return Some(Err(error)),
        };
        Some(match chunk {
            Ok(chunk) => match self.bytes_left.checked_sub(chunk.len() as u64) {
                Some(left) => {
                    self.bytes_left = left;
                    Ok(chunk)
                }
                None => Err(too_large(self.max_bytes)),
            },
            Err(error) => Err(invalid(format!("the upload was cut off: {error}"))),
        })
    }
}

/// Streams the chunks of a body.
pub(super) fn body_chunks(
    body: Body,
    limits: UploadLimits,
) -> impl Stream<Item = Result<Bytes, ApiError>> + Send {
    let chunks = body.into_data_stream();
    futures::stream::unfold(Some((chunks, limits)), |state| async {
        let (mut chunks, mut limits) = state?;
        match limits.chunk(chunks.next()).await? {
            Ok(chunk) => Some((Ok(chunk), Some((chunks, limits)))),
            Err(error) => Some((Err(error), None)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_follows_the_media_type_or_the_file_name() {
        let of_media_type = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(text));
            FileFormat::of_media_type(MediaType::of(&headers).unwrap())
        };
        assert_eq!(of_media_type("Text/CSV"), Ok(Some(FileFormat::Csv(None))));
        let latin = Some(FileFormat::Csv(Some(encoding_rs::WINDOWS_1252)));
        assert_eq!(of_media_type("text/csv; charset=latin1"), Ok(latin));
        assert!(of_media_type("text/csv; charset=klingon").is_err());
        // JSON is always UTF-8.
        let lines = Ok(Some(FileFormat::JsonLines));
        assert_eq!(of_media_type("application/x-ndjson; charset=klingon"), lines);
        assert_eq!(of_media_type("text/plain"), Ok(None));
        assert_eq!(FileFormat::of_name("a.b.JSONL"), Some(FileFormat::JsonLines));
        assert_eq!(FileFormat::of_name("csv"), None);
    }
}
