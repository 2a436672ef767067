//! The results of a batch in row order, as JSON Lines or CSV.

use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use http::HeaderMap;
use precis_schemas::JobHandle;
use precis_schemas::batch_view::BatchLine;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::manifest::{self, BatchHead, BatchRow};
use precis_schemas::rest::{JobError, Status};

use super::store;
use crate::access::Caller;
use crate::gateway::state::AppState;
use crate::http::accept;
use crate::jobs::view;
use crate::queue::ReadConsistency;

/// Rows to look up concurrently.
const MAX_IN_FLIGHT: usize = 32;

/// The format of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResultFormat {
    /// A JSON object per line.
    JsonLines,
    /// RFC 4180, with a header.
    Csv,
}

impl ResultFormat {
    /// Returns the format that the query names, or else the one that the client prefers.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidParameter`] if the query names an unknown format.
    pub(super) fn negotiate(query: Option<&str>, headers: &HeaderMap) -> Result<Self, Refusal> {
        match query {
            Some("jsonl") => Ok(Self::JsonLines),
            Some("csv") => Ok(Self::Csv),
            Some(other) => Err(Refusal::new(
                ErrorCode::InvalidParameter,
                format!(
                    "format must be jsonl or csv, not {:?}",
                    other.chars().take(40).collect::<String>()
                ),
            )),
            None => Ok(Self::preferred(headers)),
        }
    }

    /// Returns the format with the larger weight in `Accept`. CSV wins a tie, because a client must ask for it by name.
    fn preferred(headers: &HeaderMap) -> Self {
        let (mut csv, mut json) = (0.0_f32, 0.0_f32);
        for (name, weight) in accept::media_types(headers) {
            let of_format = match name.eq_ignore_ascii_case("text/csv") {
                true => &mut csv,
                false => &mut json,
            };
            *of_format = of_format.max(weight);
        }
        if csv > 0.0 && csv >= json {
            Self::Csv
        } else {
            Self::JsonLines
        }
    }

    /// The media type.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::JsonLines => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
        }
    }

    fn header(self, columns: &CsvColumns) -> Result<Bytes, std::io::Error> {
        match self {
            Self::JsonLines => Ok(Bytes::new()),
            Self::Csv => record(columns.header()),
        }
    }

    fn line(self, line: &BatchLine, columns: &CsvColumns) -> Result<Bytes, std::io::Error> {
        match self {
            Self::JsonLines => {
                let mut bytes = serde_json::to_vec(line)?;
                bytes.push(b'\n');
                Ok(bytes.into())
            }
            Self::Csv => csv_line(line, columns),
        }
    }
}

/// The columns of results as CSV.
const COLUMNS: [&str; 7] = [
    "index",
    "line",
    "id",
    "status",
    "summary",
    "error_code",
    "error_message",
];
/// The column with the value that identifies a row.
const ROW_ID: &str = "row_id";

/// The columns after [`COLUMNS`].
#[derive(Debug, Default)]
struct CsvColumns {
    has_row_id: bool,
    /// Metadata keys.
    keys: Vec<String>,
}

impl CsvColumns {
    fn of(head: &BatchHead) -> Self {
        let is_other = |key: &&String| head.id_column.as_ref() != Some(*key);
        Self {
            has_row_id: head.id_column.is_some(),
            keys: head.columns.iter().filter(is_other).cloned().collect(),
        }
    }

    /// The names of all columns. A key that another column has as its name gets a prefix.
    fn header(&self) -> impl Iterator<Item = String> {
        let row_id = self.has_row_id.then_some(ROW_ID);
        let keys = self
            .keys
            .iter()
            .map(|key| match COLUMNS.contains(&key.as_str()) || key == ROW_ID {
                true => format!("metadata.{key}"),
                false => key.clone(),
            });
        COLUMNS.into_iter().chain(row_id).map(str::to_owned).chain(keys)
    }
}

fn status_name(status: Status) -> &'static str {
    match status {
        Status::Queued => "queued",
        Status::Running => "running",
        Status::Succeeded => "succeeded",
        Status::Failed => "failed",
        Status::Cancelled => "cancelled",
        Status::Expired => "expired",
    }
}

fn csv_line(line: &BatchLine, columns: &CsvColumns) -> Result<Bytes, std::io::Error> {
    let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
    let (code, message) = match &line.error {
        Some(error) => (error.code.as_str(), error.message.as_str()),
        None => ("", ""),
    };
    let (index, line_number) = (number(line.index), number(line.line));
    let fixed = [
        index.as_str(),
        line_number.as_str(),
        line.id.as_deref().unwrap_or_default(),
        status_name(line.status),
        line.summary.as_deref().unwrap_or_default(),
        code,
        message,
    ];
    let row_id = columns
        .has_row_id
        .then(|| line.row_id.as_deref().unwrap_or_default());
    let keys = columns.keys.iter();
    let values = keys.map(|key| line.metadata.get(key).map_or("", String::as_str));
    record(fixed.into_iter().chain(row_id).chain(values))
}

/// Writes a CSV record.
fn record(fields: impl Iterator<Item = impl AsRef<[u8]>>) -> Result<Bytes, std::io::Error> {
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    writer.write_record(fields)?;
    writer
        .into_inner()
        .map(Bytes::from)
        .map_err(|error| std::io::Error::other(error.to_string()))
}

/// Streams the current result of each row. For a broken upload, a last line says why it is broken.
pub(super) fn stream(
    state: AppState,
    caller: Caller,
    head: BatchHead,
    format: ResultFormat,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
    let columns = CsvColumns::of(&head);
    let header = format.header(&columns);
    let broken = head.error.clone().map(|refusal| BatchLine {
        index: None,
        line: None,
        row_id: None,
        id: None,
        status: Status::Failed,
        summary: None,
        error: Some(JobError::from(&refusal)),
        metadata: Default::default(),
    });
    let head = Arc::new(head);
    let chunks = 0..head.chunks;
    let rows = {
        let (state, batch) = (state.clone(), head.id.clone());
        futures::stream::iter(chunks)
            .then(move |number| {
                let (state, caller, batch) = (state.clone(), caller.clone(), batch.clone());
                async move {
                    let chunk = store::chunk(state.queue(), caller.tenant(), &batch, number).await?;
                    Ok::<_, Refusal>(futures::stream::iter(chunk.rows.into_iter().map(Ok)))
                }
            })
            .try_flatten()
            .enumerate()
            .map(|(index, row)| row.map(|row| (index as u64, row)))
    };
    let lines = rows
        .map_ok(move |(index, row)| line_of(state.clone(), Arc::clone(&head), index, row))
        .try_buffered(MAX_IN_FLIGHT);
    futures::stream::iter([header])
        .chain(
            lines
                .chain(futures::stream::iter(broken.map(Ok)))
                // An error cuts the body off, so that the client doesn't take it for complete.
                .map(move |line| match line {
                    Ok(line) => format.line(&line, &columns),
                    Err(refusal) => Err(std::io::Error::other(refusal.to_string())),
                }),
        )
        .try_filter(|bytes| std::future::ready(!bytes.is_empty()))
}

/// Returns the current result of a row.
async fn line_of(
    state: AppState,
    head: Arc<BatchHead>,
    index: u64,
    row: BatchRow,
) -> Result<BatchLine, Refusal> {
    let line = look_up(state, &head, index, row).await?;
    let row_id = head
        .id_column
        .as_ref()
        .and_then(|key| line.metadata.get(key).cloned());
    Ok(BatchLine { row_id, ..line })
}

async fn look_up(state: AppState, head: &BatchHead, index: u64, row: BatchRow) -> Result<BatchLine, Refusal> {
    let line = BatchLine {
        index: Some(index),
        line: Some(row.line),
        row_id: None,
        id: None,
        status: Status::Failed,
        summary: None,
        error: row.refusal.as_ref().map(JobError::from),
        metadata: row.metadata,
    };
    let Some(sequence) = row.sequence else {
        return Ok(line);
    };
    let Some(id) = manifest::job_of(&head.id, index) else {
        return Err(Refusal::new(ErrorCode::Internal, "the batch id is too long"));
    };
    let handle = JobHandle {
        id,
        sequence: Some(sequence),
    };
    let line = BatchLine {
        id: Some(handle.to_string()),
        ..line
    };
    let mut result = state.queue().result(&handle.id, ReadConsistency::Any).await?;
    let mut queued = None;
    if result.is_none() {
        queued = state.queue().queued_job(&handle.id, sequence).await?;
    }
    if result.is_none() && queued.is_none() {
        result = state.queue().result(&handle.id, ReadConsistency::Leader).await?;
        if result.is_none() {
            let gone = Refusal::new(ErrorCode::JobGone, "the result is no longer kept");
            return Ok(BatchLine {
                error: Some(JobError::from(&gone)),
                ..line
            });
        }
    }
    Ok(match result {
        Some(result) => {
            let view = view::ended(result);
            BatchLine {
                status: view.status,
                summary: view.summary,
                error: view.error,
                metadata: view.metadata,
                ..line
            }
        }
        None => BatchLine {
            status: match state.running().get(&handle) {
                Some(_) => Status::Running,
                None => Status::Queued,
            },
            metadata: queued.map(|job| job.metadata).unwrap_or_default(),
            ..line
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_and_then_the_accept_header_choose_the_format() {
        let negotiate = |query: Option<&str>, accept: &'static str| {
            let mut headers = HeaderMap::new();
            if !accept.is_empty() {
                headers.insert("accept", http::HeaderValue::from_static(accept));
            }
            ResultFormat::negotiate(query, &headers)
        };
        for (query, accept, format) in [
            (None, "", ResultFormat::JsonLines),
            (None, "*/*", ResultFormat::JsonLines),
            (None, "text/csv", ResultFormat::Csv),
            (None, "text/csv, */*", ResultFormat::Csv),
            (
                None,
                "text/csv;q=0.5, application/x-ndjson",
                ResultFormat::JsonLines,
            ),
            (Some("csv"), "application/x-ndjson", ResultFormat::Csv),
            (Some("jsonl"), "text/csv", ResultFormat::JsonLines),
        ] {
            assert_eq!(negotiate(query, accept), Ok(format), "{query:?} {accept}");
        }
        assert!(negotiate(Some("xml"), "").is_err());
    }

    #[test]
    fn csv_fields_are_quoted_where_necessary() {
        let mut line = BatchLine {
            index: Some(3),
            line: Some(5),
            row_id: Some("a,7".into()),
            id: Some("b-3.9".into()),
            status: Status::Succeeded,
            summary: Some("A \"quoted\", long\nsummary.".into()),
            error: None,
            metadata: Default::default(),
        };
        let written = csv_line(&line, &CsvColumns::default()).unwrap();
        assert_eq!(
            &written[..],
            b"3,5,b-3.9,succeeded,\"A \"\"quoted\"\", long\nsummary.\",,\r\n"
        );
        line.summary = None;
        line.metadata.insert("title".into(), "T".into());
        let columns = CsvColumns {
            has_row_id: true,
            keys: vec!["id".into(), "title".into()],
        };
        let written = csv_line(&line, &columns).unwrap();
        assert_eq!(&written[..], b"3,5,b-3.9,succeeded,,,,\"a,7\",,T\r\n");
        assert_eq!(
            &ResultFormat::Csv.header(&columns).unwrap()[..],
            b"index,line,id,status,summary,error_code,error_message,row_id,metadata.id,title\r\n"
        );
    }
}
