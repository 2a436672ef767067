//! Uploads as a form with a file in its field `file`, and no other field.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use multer::{Field, Multipart};
use precis_schemas::error_code::ErrorCode;

use super::upload::{FileFormat, UploadLimits, invalid};
use crate::http::media_type::MediaType;
use crate::http::problem::ApiError;

/// A form whose file is streamed.
pub(super) struct FileForm {
    parts: Multipart<'static>,
    framing: Arc<Framing>,
}

/// What the form parser reads: the file, or everything before and after it.
#[derive(Debug, Default)]
struct Framing {
    is_in_file: AtomicBool,
    is_too_long: AtomicBool,
}

/// Largest part of a form before or after its file, in bytes. A boundary and a few header fields fit.
const MAX_FRAMING_BYTES: usize = 64 << 10;

/// Reads that the form parser may request before it parses what it has: one for each part of a field's head.
const READS_BEFORE_PARSE: usize = 16;

/// Limits the bytes before and after the file, which the form parser buffers. The parser reads all that is available, so
/// it gets one chunk at a time.
fn with_bounded_framing(
    body: Body,
    framing: Arc<Framing>,
) -> impl Stream<Item = Result<Bytes, axum::Error>> + Send + 'static {
    let chunks = body.into_data_stream();
    futures::stream::unfold(Some((chunks, 0)), move |state| {
        let framing = framing.clone();
        async move {
            let (mut chunks, bytes) = state?;
            // Yield, so that the parser can parse what it has. It may read several times before it does.
            let is_suspicious = bytes > MAX_FRAMING_BYTES && !framing.is_in_file.load(Ordering::Relaxed);
            for _ in 0..if is_suspicious { READS_BEFORE_PARSE } else { 1 } {
                tokio::task::yield_now().await;
            }
            let is_in_file = framing.is_in_file.load(Ordering::Relaxed);
            if is_suspicious && !is_in_file {
                framing.is_too_long.store(true, Ordering::Relaxed);
                return Some((Err(axum::Error::new("the file does not begin")), None));
            }
            let chunk = chunks.next().await?;
            let before = if is_in_file { 0 } else { bytes };
            let bytes = before.saturating_add(chunk.as_ref().map_or(0, Bytes::len));
            Some((chunk, Some((chunks, bytes))))
        }
    })
}

impl FileForm {
    /// Reads a form from `body`.
    ///
    /// # Errors
    /// If the boundary is missing.
    pub(super) fn new(body: Body, boundary: &str) -> Result<Self, ApiError> {
        if boundary.is_empty() {
            return Err(invalid("the content type of the form has no boundary"));
        }
        let framing = Arc::<Framing>::default();
        Ok(Self {
            parts: Multipart::new(with_bounded_framing(body, framing.clone()), boundary),
            framing,
        })
    }

    /// Returns the next field.
    async fn next_field(&mut self, limits: &UploadLimits) -> Result<Option<Field<'static>>, ApiError> {
        self.framing.is_in_file.store(false, Ordering::Relaxed);
        let field = limits.within(self.parts.next_field()).await?;
        field.map_err(|error| match self.framing.is_too_long.load(Ordering::Relaxed) {
            true => invalid(format!(
                "the form has more than {MAX_FRAMING_BYTES} bytes before its file begins or after it ends"
            )),
            false => invalid(format!("the form: {error}")),
        })
    }

    /// Returns the file, and its format.
    ///
    /// # Errors
    /// If the form is malformed, its first field is not `file`, or the file's format is unknown.
    pub(super) async fn file(mut self, limits: UploadLimits) -> Result<(FileFormat, FormFile), ApiError> {
        let field = self
            .next_field(&limits)
            .await?
            .ok_or_else(|| invalid("the form is empty; send the file in its field `file`"))?;
        self.framing.is_in_file.store(true, Ordering::Relaxed);
        if field.name() != Some("file") {
            return Err(invalid(format!(
                "the form begins with the field {:?}; {ALONE}",
                field.name().unwrap_or_default()
            )));
        }
        let by_media_type = match MediaType::of(field.headers()) {
            Some(media_type) => FileFormat::of_media_type(media_type)?,
            None => None,
        };
        let format = by_media_type.or_else(|| field.file_name().and_then(FileFormat::of_name));
        let format = format.ok_or_else(|| {
            ApiError::new(
                ErrorCode::UnsupportedMediaType,
                "neither the content type nor the name of the file identifies it as CSV or JSON Lines",
            )
        })?;
        let file = FormFile {
            form: self,
            field: Some(field),
            held: None,
            error: None,
            limits,
        };
        Ok((format, file))
    }
}

/// What a form may have.
const ALONE: &str = "send the file alone, in the field `file`, and options in the query";

/// The file of a form.
pub(super) struct FormFile {
    form: FileForm,
    /// `None` at the end of the file.
    field: Option<Field<'static>>,
    /// The last chunk. It is held back until something follows it, so that a short file with another field after it is
    /// refused before one of its rows is queued.
    held: Option<Bytes>,
    /// The error that follows the held chunk.
    error: Option<ApiError>,
    limits: UploadLimits,
}

impl FormFile {
    /// Streams the chunks of the file. Fails at its end if another field follows it.
    pub(super) fn chunks(self) -> impl Stream<Item = Result<Bytes, ApiError>> + Send + 'static {
        futures::stream::unfold(self, |mut file| async move {
            let chunk = file.next_chunk().await?;
            Some((chunk, file))
        })
    }

    async fn next_chunk(&mut self) -> Option<Result<Bytes, ApiError>> {
        while let Some(field) = &mut self.field {
            match self.limits.chunk(async { field.chunk().await.transpose() }).await {
                Some(Ok(chunk)) => {
                    if let Some(held) = self.held.replace(chunk) {
                        return Some(Ok(held));
                    }
                }
                Some(Err(error)) => {
                    self.field = None;
                    self.error = Some(error);
                }
                None => {
                    // The form parser waits until the field is dropped.
                    self.field = None;
                    if let Err(error) = self.check_end().await {
                        self.held = None;
                        self.error = Some(error);
                    }
                }
            }
        }
        match self.held.take() {
            Some(held) => Some(Ok(held)),
            None => self.error.take().map(Err),
        }
    }

    /// Checks that nothing follows the file.
    async fn check_end(&mut self) -> Result<(), ApiError> {
        match self.form.next_field(&self.limits).await? {
            None => Ok(()),
            Some(field) => Err(invalid(format!(
                "the form has the field {:?} after its file; {ALONE}",
                field.name().unwrap_or_default()
            ))),
        }
    }
}
