//! All statements except an `INSERT` with data in the body: queries, DDL and others.
//!
//! The result of a `SELECT` is streamed if its format is a plain sequence of rows. Other results are sent when complete.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use precis_runtime::http_server::Flushes;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::{SendTimeoutError, TrySendError};

use crate::engine::{Engine, SessionOptions};
use crate::errors::{EngineError, code, exception_block};
use crate::ffi::{Connection, Output};
use crate::native_frame;
use crate::query_ids::EngineIds;
use crate::request::RequestHead;
use crate::sql::{self, StatementInfo};
use crate::task::CancelGuard;

/// Maximum chunks between the engine and a slow client.
const MAX_IN_FLIGHT: usize = 4;
/// Time without progress after which a slow client's query is cancelled.
const SEND_TIMEOUT: Duration = Duration::from_secs(300);
/// Time between the flush of an error block and the end of its connection. HTTP/2 may still wait for its client then.
const FLUSH_DELAY: Duration = Duration::from_millis(50);

/// Formats whose output can be split between any two rows.
const STREAMED: &[&str] = &[
    "RowBinary",
    "RowBinaryWithNames",
    "RowBinaryWithNamesAndTypes",
    "Native",
    "TabSeparated",
    "TSV",
    "TabSeparatedRaw",
    "TSVRaw",
    "CSV",
    "JSONEachRow",
    "JSONLines",
    "NDJSON",
    "JSONCompactEachRow",
];

/// The result of a statement.
pub(crate) enum StatementResult {
    /// A complete result.
    Complete(Output),
    /// A result that is being streamed.
    Streamed(Body),
}

/// A message from the engine's thread.
enum Event {
    Chunk(Bytes),
    Complete(Output),
    End,
    Failed(EngineError),
}

/// A statement for the engine's thread.
struct Statement {
    sql: Vec<u8>,
    info: StatementInfo,
    format: String,
    parameters: Vec<(String, String)>,
    streamed: bool,
}

/// Asks the engine's parser for the `FORMAT` of a statement. Returns `None` if it has none or doesn't parse.
pub(crate) async fn stated_format(engine: &Arc<Engine>, sql: &[u8]) -> Result<Option<String>, EngineError> {
    // A parameter is read as a field of TabSeparated.
    let escaped = String::from_utf8_lossy(sql)
        .replace('\\', "\\\\")
        .replace('\t', "\\t")
        .replace('\n', "\\n");
    let parameters = [("sql".to_owned(), escaped)];
    let task = engine.run(SessionOptions::default(), move |connection| {
        connection.query(
            b"SELECT formatQueryOrNull({sql:String})",
            "TabSeparatedRaw",
            &parameters,
        )
    });
    let formatted = task.await?.finish().await?.data;
    Ok(sql::stated_format(&String::from_utf8_lossy(&formatted)))
}

/// Runs a statement. If the client disconnects, a query stops, but a statement that writes continues.
pub(crate) async fn run(
    engine: &Arc<Engine>,
    head: &RequestHead,
    session: SessionOptions,
    text: Vec<u8>,
    info: StatementInfo,
    format: String,
    tag: &str,
) -> Result<StatementResult, EngineError> {
    if info.outfile {
        return Err(EngineError::new(
            code::INTO_OUTFILE_NOT_ALLOWED,
            "INTO OUTFILE is not allowed",
        ));
    }
    let set = |name| {
        head.setting(name)
            .is_some_and(|value| value != "0" && value != "false")
    };
    let streamed = info.selects
        && !info.needs_complete_result
        && !head.wait_end_of_query
        && !set("extremes")
        && !set("output_format_json_array_of_rows")
        && STREAMED.contains(&format.as_str());
    let only_reads = info.selects || session.readonly;
    let compress = head.compress;
    let statement = Statement {
        sql: text,
        info,
        format,
        parameters: head.parameters.clone(),
        streamed,
    };
    let (sender, mut events) = mpsc::channel(MAX_IN_FLIGHT);
    let task = engine
        .run(session, move |connection| {
            let last = match execute(connection, &statement, &sender) {
                Ok(last) => last,
                Err(error) => Event::Failed(error),
            };
            // Fails if the client has disconnected.
            let _ = send(&sender, last);
            Ok(())
        })
        .await?;
    let task = if only_reads { task } else { task.detached() };
    match events.recv().await {
        Some(Event::Complete(mut output)) => {
            task.into_guard().disarm();
            if compress && !output.data.is_empty() {
                output.data = native_frame::compress_frame(&output.data).into();
            }
            Ok(StatementResult::Complete(output))
        }
        Some(Event::End) => {
            task.into_guard().disarm();
            Ok(StatementResult::Complete(Output::default()))
        }
        Some(Event::Failed(error)) => {
            task.into_guard().disarm();
            Err(error)
        }
        Some(Event::Chunk(first)) => {
            let version = engine.identity().version.clone();
            let rest = StreamedBody {
                events,
                guard: task.into_guard(),
                version,
                tag: tag.to_owned(),
                compress,
                flushes: head.flushes.clone(),
            };
            Ok(StatementResult::Streamed(rest.into_body(first)))
        }
        // Opening or preparing the connection failed, or the task panicked.
        None => Err(task.finish().await.err().unwrap_or_else(ended_without_result)),
    }
}

fn ended_without_result() -> EngineError {
    EngineError::new(code::LOGICAL_ERROR, "the query ended without a result")
}

/// Runs the statement on the engine's thread, sends chunks, and returns the last event.
fn execute(
    connection: &mut Connection,
    statement: &Statement,
    sender: &mpsc::Sender<Event>,
) -> Result<Event, EngineError> {
    let Statement {
        sql,
        info,
        format,
        parameters,
        streamed,
    } = statement;
    if !info.parallel && connection.statement_count(sql) > 1 {
        return Err(EngineError::new(
            code::SYNTAX_ERROR,
            "Syntax error (Multi-statements are not allowed)",
        ));
    }
    if *streamed {
        match connection.stream(sql, format, parameters) {
            Ok(mut stream) => {
                let mut header = RepeatedHeader::new(format);
                while let Some(output) = stream.next()? {
                    let data = header.strip(output.data);
                    if !data.is_empty() {
                        send(sender, Event::Chunk(data))?;
                    }
                }
                return Ok(Event::End);
            }
            // For example `WITH … INSERT`.
            Err(error) if error.is_not_streamable() => {}
            Err(error) => return Err(error),
        }
    }
    let ids = match info.kills {
        true => EngineIds::read(connection)?,
        false => EngineIds::default(),
    };
    let mut output = connection.query(sql, format, parameters)?;
    output.data = ids.replaced(output.data, format);
    Ok(Event::Complete(output))
}

/// Sends an event. Waits up to [`SEND_TIMEOUT`] for a slow client.
fn send(sender: &mpsc::Sender<Event>, event: Event) -> Result<(), EngineError> {
    let sent = match sender.try_send(event) {
        Err(TrySendError::Full(event)) => tokio::runtime::Handle::current()
            .block_on(sender.send_timeout(event, SEND_TIMEOUT))
            .map_err(|error| matches!(error, SendTimeoutError::Timeout(_))),
        Err(TrySendError::Closed(_)) => Err(false),
        Ok(()) => Ok(()),
    };
    sent.map_err(|timed_out| {
        let why = if timed_out {
            "the client doesn't read the response"
        } else {
            "the client has disconnected"
        };
        EngineError::new(code::QUERY_WAS_CANCELLED, why)
    })
}

/// The body of a streamed response, after its first chunk.
struct StreamedBody {
    events: mpsc::Receiver<Event>,
    guard: CancelGuard,
    version: String,
    tag: String,
    compress: bool,
    flushes: Option<Flushes>,
}

impl StreamedBody {
    /// Returns a response body that ends cleanly only if the query succeeds.
    ///
    /// After an error it sends the error block and then aborts, so that no client mistakes it for complete.
    fn into_body(self, first: Bytes) -> Body {
        let start = (self, Some(Event::Chunk(first)), false);
        Body::from_stream(stream::unfold(start, |(mut state, pending, failed)| async move {
            if failed {
                // A slow client leaves the block in buffers, which the end of the connection would discard.
                if let Some(flushes) = &state.flushes {
                    flushes.next().await;
                }
                tokio::time::sleep(FLUSH_DELAY).await;
                // The server drops the body after an error and doesn't poll `unfold` again.
                return Some((Err(io::Error::other("the query failed")), (state, None, true)));
            }
            let event = match pending {
                Some(event) => Some(event),
                None => state.events.recv().await,
            };
            match event {
                Some(Event::Chunk(data)) => {
                    let data = if state.compress {
                        native_frame::compress_frame(&data).into()
                    } else {
                        data
                    };
                    Some((Ok(data), (state, None, false)))
                }
                Some(Event::End) => {
                    state.guard.disarm();
                    None
                }
                event => {
                    state.guard.disarm();
                    let error = match event {
                        Some(Event::Failed(error)) => error,
                        _ => ended_without_result(),
                    };
                    let block = exception_block(&error, &state.version, &state.tag);
                    Some((Ok(Bytes::from(block)), (state, None, true)))
                }
            }
        }))
    }
}

/// Removes the header that the engine repeats at the start of every chunk of a streamed result.
struct RepeatedHeader {
    /// Strings per column in the header; 0 for formats without a header.
    strings: usize,
    header: Option<Bytes>,
}

impl RepeatedHeader {
    fn new(format: &str) -> Self {
        let strings = match format {
            "RowBinaryWithNames" => 1,
            "RowBinaryWithNamesAndTypes" => 2,
            _ => 0,
        };
        Self {
            strings,
            header: None,
        }
    }

    /// Returns the chunk to send. Only the first one keeps its header.
    fn strip(&mut self, chunk: Bytes) -> Bytes {
        if self.strings == 0 {
            return chunk;
        }
        match &self.header {
            Some(header) if chunk.starts_with(header) => chunk.slice(header.len()..),
            Some(_) => chunk,
            None => {
                let length = header_length(&chunk, self.strings).unwrap_or(0);
                self.header = Some(chunk.slice(..length));
                chunk
            }
        }
    }
}

/// Returns the length of a `RowBinaryWithNames…` header: the number of columns, then `strings` strings per column.
fn header_length(chunk: &[u8], strings: usize) -> Option<usize> {
    let mut position = 0;
    let columns = variable_length(chunk, &mut position)?;
    for _ in 0..columns.checked_mul(strings)? {
        let length = variable_length(chunk, &mut position)?;
        position = position.checked_add(length)?;
    }
    (position <= chunk.len()).then_some(position)
}

/// Reads an unsigned LEB128 number.
fn variable_length(bytes: &[u8], position: &mut usize) -> Option<usize> {
    let mut value = 0_usize;
    for shift in (0..63).step_by(7) {
        let byte = *bytes.get(*position)?;
        *position += 1;
        value |= usize::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_chunk_keeps_its_header() {
        let header = b"\x02\x01a\x01b\x06UInt64\x06String";
        let chunk = |rows: &[u8]| Bytes::from([header.as_slice(), rows].concat());
        let mut repeated = RepeatedHeader::new("RowBinaryWithNamesAndTypes");
        assert_eq!(repeated.strip(chunk(b"one")), chunk(b"one"));
        assert_eq!(repeated.strip(chunk(b"two")), b"two".as_slice());
        assert_eq!(repeated.strip(chunk(b"")), b"".as_slice());
        assert_eq!(
            repeated.strip(Bytes::from_static(b"no header")),
            b"no header".as_slice()
        );
        let mut none = RepeatedHeader::new("RowBinary");
        none.strip(chunk(b"one"));
        assert_eq!(none.strip(chunk(b"two")), chunk(b"two"));
    }

    #[test]
    fn header_length_is_parsed() {
        assert_eq!(header_length(b"\x01\x01n\x06UInt64rest", 2), Some(10));
        assert_eq!(header_length(b"\x01\x01nrest", 1), Some(3));
        let long = [b"\x01\xac\x02".as_slice(), &[b'x'; 300], b"\x05UInt8"].concat();
        assert_eq!(header_length(&long, 2), Some(long.len()));
        assert_eq!(header_length(b"\x01\x01n\x06UInt", 2), None);
        assert_eq!(header_length(b"", 2), None);
        assert_eq!(header_length(&[0xff; 20], 2), None);
    }
}
