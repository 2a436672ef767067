//! The body of an upload as a stream of chunks, bounded in size and time. A file is never held in memory as a whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::multipart::{Field, Multipart};
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::HeaderMap;
use precis_runtime::config::BatchesConfig;
use precis_schemas::error_code::ErrorCode;
use tokio::time::{Instant, timeout_at};

use super::csv::CsvParser;
use super::json_lines::JsonLinesParser;
use super::rows::RowParser;
use crate::gateway::state::AppState;
use crate::http::extract;
use crate::http::media_type::{MediaType, announced_length, check_coding};
use crate::http::problem::ApiError;

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
    /// RFC 4180, with a header.
    Csv,
    /// A JSON object or string per line.
    JsonLines,
}

impl FileFormat {
    /// Returns the format of a media type.
    fn of_media_type(essence: &str) -> Option<Self> {
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

    /// Returns the format of a file name, by its extension.
    fn of_name(name: &str) -> Option<Self> {
        let (_, extension) = name.rsplit_once('.')?;
        match extension.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            _ => None,
        }
    }

    /// Creates a parser of this format for rows with at most `max_row_bytes` bytes.
    pub(super) fn parser(self, max_row_bytes: usize) -> Box<dyn RowParser> {
        match self {
            Self::Csv => Box::new(CsvParser::new(max_row_bytes)),
            Self::JsonLines => Box::new(JsonLinesParser::new(max_row_bytes)),
        }
    }
}

/// A form whose file is streamed.
pub(super) struct FileForm {
    parts: Multipart,
    preamble: Arc<Preamble>,
}

/// The preamble of a form: everything before the content of its file.
#[derive(Debug, Default)]
struct Preamble {
    is_over: AtomicBool,
    is_too_long: AtomicBool,
}

/// Longest preamble, in bytes. A boundary and a few header fields fit.
const MAX_PREAMBLE_BYTES: usize = 64 << 10;

/// Reads that the form parser may request before it parses what it has: one for each part of a field's head.
const READS_BEFORE_PARSE: usize = 16;

/// Limits the preamble of a form. The form parser buffers everything before the file, and reads all that is available,
/// so it gets one chunk at a time.
fn with_bounded_preamble(body: Body, preamble: Arc<Preamble>) -> Body {
    let chunks = body.into_data_stream();
    let bounded = futures::stream::unfold(Some((chunks, 0)), move |state| {
        let preamble = preamble.clone();
        async move {
            let (mut chunks, bytes) = state?;
            // Yield, so that the parser can parse what it has. It may read several times before it does.
            let is_suspicious = bytes > MAX_PREAMBLE_BYTES && !preamble.is_over.load(Ordering::Relaxed);
            for _ in 0..if is_suspicious { READS_BEFORE_PARSE } else { 1 } {
                tokio::task::yield_now().await;
            }
            if is_suspicious && !preamble.is_over.load(Ordering::Relaxed) {
                preamble.is_too_long.store(true, Ordering::Relaxed);
                return Some((Err(axum::Error::new("the file does not begin")), None));
            }
            let chunk = chunks.next().await?;
            let bytes = bytes.saturating_add(chunk.as_ref().map_or(0, Bytes::len));
            Some((chunk, Some((chunks, bytes))))
        }
    });
    Body::from_stream(bounded)
}

/// Classifies a request by its media type.
///
/// # Errors
/// If the media type is not supported, the announced length is too large, or a form is malformed.
pub(super) async fn of_request(request: Request, limits: &BatchesConfig) -> Result<Upload, ApiError> {
    let essence = essence(request.headers())?;
    if let Some(length) = announced_length(request.headers())
        && length > limits.max_upload_bytes
    {
        return Err(too_large(limits.max_upload_bytes));
    }
    if essence == "multipart/form-data" {
        let preamble = Arc::<Preamble>::default();
        let request = request.map(|body| with_bounded_preamble(body, preamble.clone()));
        return match Multipart::from_request(request, &()).await {
            Ok(parts) => Ok(Upload::Form(Box::new(FileForm { parts, preamble }))),
            Err(rejection) => Err(invalid(format!("the form: {}", rejection.body_text()))),
        };
    }
    if essence == "application/json" {
        return Ok(Upload::List(Box::new(request)));
    }
    match FileFormat::of_media_type(&essence) {
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

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, message)
}

fn too_large(limit: u64) -> ApiError {
    ApiError::new(
        ErrorCode::BodyTooLarge,
        format!("the upload has more than {limit} bytes"),
    )
}

fn essence(headers: &HeaderMap) -> Result<String, ApiError> {
    check_coding(headers)?;
    MediaType::of(headers).map(MediaType::essence).ok_or_else(|| {
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

    /// Waits for the next chunk within the limits.
    async fn chunk<E: std::fmt::Display>(
        &mut self,
        next: impl Future<Output = Option<Result<Bytes, E>>>,
    ) -> Option<Result<Bytes, ApiError>> {
        let now = Instant::now();
        let until = (now + self.idle_timeout).min(self.deadline);
        let Ok(chunk) = timeout_at(until, next).await else {
            let reason = if until == self.deadline {
                "the upload did not end in time".to_owned()
            } else {
                format!("no data arrived for {} seconds", self.idle_timeout.as_secs())
            };
            return Some(Err(ApiError::new(ErrorCode::RequestTimeout, reason)));
        };
        Some(match chunk? {
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

/// Streams the chunks of a file in a form.
pub(super) fn field_chunks<'a>(
    field: Field<'a>,
    limits: UploadLimits,
) -> impl Stream<Item = Result<Bytes, ApiError>> + Send + 'a {
    futures::stream::unfold(Some((field, limits)), |state| async {
        let (mut field, mut limits) = state?;
        let next = async { field.chunk().await.transpose() };
        let chunk = limits.chunk(next).await?;
        let rest = chunk.is_ok().then_some((field, limits));
        Some((chunk, rest))
    })
}

/// Returns the file of a form, and its format.
///
/// # Errors
/// If the form is malformed, its first field is not `file`, or the file's format is unknown.
pub(super) async fn file_of_form<'a>(
    form: &'a mut FileForm,
    limits: &UploadLimits,
) -> Result<(FileFormat, Field<'a>), ApiError> {
    let preamble = form.preamble.clone();
    let next = tokio::time::timeout(limits.idle_timeout, form.parts.next_field()).await;
    let field = next
        .map_err(|_| ApiError::new(ErrorCode::RequestTimeout, "the form did not begin in time"))?
        .map_err(|error| match preamble.is_too_long.load(Ordering::Relaxed) {
            true => invalid(format!(
                "the form has more than {MAX_PREAMBLE_BYTES} bytes before its file begins"
            )),
            false => invalid(format!("the form: {}", error.body_text())),
        })?
        .ok_or_else(|| invalid("the form is empty; send the file in its field `file`"))?;
    preamble.is_over.store(true, Ordering::Relaxed);
    if field.name() != Some("file") {
        return Err(invalid(format!(
            "the form begins with the field {:?}; send the file alone, in the field `file`, and options in the query",
            field.name().unwrap_or_default()
        )));
    }
    let by_media_type = field
        .content_type()
        .and_then(|text| FileFormat::of_media_type(&text.split(';').next()?.trim().to_ascii_lowercase()));
    let format = by_media_type.or_else(|| field.file_name().and_then(FileFormat::of_name));
    match format {
        Some(format) => Ok((format, field)),
        None => Err(ApiError::new(
            ErrorCode::UnsupportedMediaType,
            "neither the content type nor the name of the file identifies it as CSV or JSON Lines",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_follows_the_media_type_or_the_file_name() {
        assert_eq!(FileFormat::of_media_type("text/csv"), Some(FileFormat::Csv));
        assert_eq!(FileFormat::of_media_type("text/plain"), None);
        assert_eq!(FileFormat::of_name("a.b.JSONL"), Some(FileFormat::JsonLines));
        assert_eq!(FileFormat::of_name("csv"), None);
    }
}
