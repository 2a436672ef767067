//! The body of an upload as pieces of bytes: bounded in size and time, never held as a whole.

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

use super::rows::FileFormat;
use crate::http::extract::{self, discard, leave};
use crate::http::media_type::{MediaType, announced_length, check_coding};
use crate::http::problem::ApiError;
use crate::state::AppState;

/// The body of a batch, by its form.
pub(super) enum Upload {
    /// A JSON list.
    List(Box<Request>),
    /// A file by itself.
    File(FileFormat, Body),
    /// A form with a file in its field `file`.
    Form(Box<Form>),
}

/// A form whose file is read as it comes.
pub(super) struct Form {
    parts: Multipart,
    beginning: Arc<Beginning>,
}

/// How far a form has come before its file.
#[derive(Debug, Default)]
struct Beginning {
    is_over: AtomicBool,
    is_too_long: AtomicBool,
}

/// Most bytes of a form before its file begins: a boundary and a few header fields.
const MOST_BEFORE_FILE: usize = 64 << 10;

/// How often the reader may ask for more without a look at what it has: once for each part of a head.
const LOOKS: usize = 16;

/// The body of a form as its reader may have it. The reader keeps all that it is given until the file begins, and takes
/// whatever is there at once: it gets one piece at a time, and only so many before the file.
fn bounded(body: Body, beginning: Arc<Beginning>) -> Body {
    let pieces = body.into_data_stream();
    let all = futures::stream::unfold(Some((pieces, 0)), move |state| {
        let beginning = beginning.clone();
        async move {
            let (mut pieces, given) = state?;
            // Time for the reader to look at what it has. It may ask for more several times before it does.
            let is_much = given > MOST_BEFORE_FILE && !beginning.is_over.load(Ordering::Relaxed);
            for _ in 0..if is_much { LOOKS } else { 1 } {
                tokio::task::yield_now().await;
            }
            if is_much && !beginning.is_over.load(Ordering::Relaxed) {
                beginning.is_too_long.store(true, Ordering::Relaxed);
                return Some((Err(axum::Error::new("the file does not begin")), None));
            }
            let piece = pieces.next().await?;
            let given = given.saturating_add(piece.as_ref().map_or(0, Bytes::len));
            Some((piece, Some((pieces, given))))
        }
    });
    Body::from_stream(all)
}

/// Takes the request apart by its media type.
pub(super) async fn of_request(request: Request, limits: &BatchesConfig) -> Result<Upload, ApiError> {
    let essence = essence(request.headers())?;
    if let Some(length) = announced_length(request.headers())
        && length > limits.max_upload_bytes
    {
        leave(request).await;
        return Err(too_large(limits.max_upload_bytes));
    }
    if essence == "multipart/form-data" {
        let beginning = Arc::<Beginning>::default();
        let request = request.map(|body| bounded(body, beginning.clone()));
        return match Multipart::from_request(request, &()).await {
            Ok(parts) => Ok(Upload::Form(Box::new(Form { parts, beginning }))),
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
                "the content type is {essence}; send application/json, application/x-ndjson, text/csv or multipart/form-data"
            ),
        )),
    }
}

/// The body of a list, which is read whole.
///
/// # Errors
/// When it is larger than other bodies may be, breaks off, or does not arrive in time.
pub(super) async fn list(state: &AppState, request: Request) -> Result<Bytes, ApiError> {
    let patience = state.http().body_timeout();
    extract::read_body(request, state.limits().max_body_bytes, patience).await
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

/// How much may still come, and by when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    bytes_left: u64,
    limit: u64,
    pause: Duration,
    end: Instant,
}

impl Bounds {
    /// The bounds of an upload that begins now.
    pub(super) fn new(limits: &BatchesConfig) -> Self {
        Self {
            bytes_left: limits.max_upload_bytes,
            limit: limits.max_upload_bytes,
            pause: limits.idle_timeout(),
            end: Instant::now() + limits.upload_timeout(),
        }
    }

    /// Waits for a piece, as long as the bounds allow.
    async fn piece<E: std::fmt::Display>(
        &mut self,
        next: impl Future<Output = Option<Result<Bytes, E>>>,
    ) -> Option<Result<Bytes, ApiError>> {
        let now = Instant::now();
        let until = (now + self.pause).min(self.end);
        let Ok(piece) = timeout_at(until, next).await else {
            let reason = if until == self.end {
                "the upload did not end in time".to_owned()
            } else {
                format!("nothing came for {} seconds", self.pause.as_secs())
            };
            return Some(Err(ApiError::new(ErrorCode::RequestTimeout, reason)));
        };
        Some(match piece? {
            Ok(piece) => match self.bytes_left.checked_sub(piece.len() as u64) {
                Some(left) => {
                    self.bytes_left = left;
                    Ok(piece)
                }
                None => Err(too_large(self.limit)),
            },
            Err(error) => Err(invalid(format!("the upload broke off: {error}"))),
        })
    }
}

/// The pieces of a body.
pub(super) fn of_body(body: Body, bounds: Bounds) -> impl Stream<Item = Result<Bytes, ApiError>> + Send {
    let chunks = body.into_data_stream();
    futures::stream::unfold(Some((chunks, bounds)), |state| async {
        let (mut chunks, mut bounds) = state?;
        match bounds.piece(chunks.next()).await? {
            Ok(piece) => Some((Ok(piece), Some((chunks, bounds)))),
            Err(error) => {
                if error.is_too_large() {
                    discard(chunks).await;
                }
                Some((Err(error), None))
            }
        }
    })
}

/// The pieces of a file in a form.
pub(super) fn of_field<'a>(
    field: Field<'a>,
    bounds: Bounds,
) -> impl Stream<Item = Result<Bytes, ApiError>> + Send + 'a {
    futures::stream::unfold(Some((field, bounds)), |state| async {
        let (mut field, mut bounds) = state?;
        let next = async { field.chunk().await.transpose() };
        let piece = bounds.piece(next).await?;
        let goes_on = piece.is_ok().then_some((field, bounds));
        Some((piece, goes_on))
    })
}

/// The file of a form, and its format.
pub(super) async fn file_of_form<'a>(
    form: &'a mut Form,
    bounds: &Bounds,
) -> Result<(FileFormat, Field<'a>), ApiError> {
    let beginning = form.beginning.clone();
    let next = tokio::time::timeout(bounds.pause, form.parts.next_field()).await;
    let field = next
        .map_err(|_| ApiError::new(ErrorCode::RequestTimeout, "the form did not begin in time"))?
        .map_err(|error| match beginning.is_too_long.load(Ordering::Relaxed) {
            true => invalid(format!(
                "the form has more than {MOST_BEFORE_FILE} bytes before its file begins"
            )),
            false => invalid(format!("the form: {}", error.body_text())),
        })?
        .ok_or_else(|| invalid("the form is empty; send the file in its field `file`"))?;
    beginning.is_over.store(true, Ordering::Relaxed);
    if field.name() != Some("file") {
        return Err(invalid(format!(
            "the form begins with the field {:?}; send only the file, in the field `file`, and everything else in the query",
            field.name().unwrap_or_default()
        )));
    }
    let by_type = field
        .content_type()
        .and_then(|text| FileFormat::of_media_type(&text.split(';').next()?.trim().to_ascii_lowercase()));
    let format = by_type.or_else(|| field.file_name().and_then(FileFormat::of_name));
    match format {
        Some(format) => Ok((format, field)),
        None => Err(ApiError::new(
            ErrorCode::UnsupportedMediaType,
            "neither the content type nor the name of the file says whether it is CSV or JSON Lines",
        )),
    }
}
