//! Every statement that isn't an insert with its data in the body: queries, DDL, the rest.
//!
//! A `SELECT` in a format that is a plain sequence of rows is streamed; whatever else is answered
//! when it is complete.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::{SendTimeoutError, TrySendError};

use crate::engine::{Engine, Setup};
use crate::errors::{EngineError, code, exception_block};
use crate::ffi::{Connection, Output};
use crate::job::CancelGuard;
use crate::native_frame;
use crate::request::RequestHead;
use crate::sql::Outline;

/// Chunks in flight between the engine and a client that reads slowly.
const IN_FLIGHT: usize = 4;
/// How long a client may take nothing of its answer before its query is given up.
const SEND_PATIENCE: Duration = Duration::from_secs(300);
/// After an error in mid-stream, how long the connection gets to send it before it is cut.
const FLUSH: Duration = Duration::from_millis(50);

/// Formats whose output can be cut between any two rows.
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

/// What the answer is made of.
pub(crate) enum Answer {
    /// All of it.
    Whole(Output),
    /// Its beginning and the rest to come.
    Streamed(Body),
}

/// What the engine's thread sends.
enum Event {
    Chunk(Bytes),
    Whole(Output),
    End,
    Failed(EngineError),
}

/// What the engine's thread needs.
struct Statement {
    sql: Vec<u8>,
    outline: Outline,
    format: String,
    parameters: Vec<(String, String)>,
    streamed: bool,
}

/// The format the rows of a statement come in.
pub(crate) fn effective_format(head: &RequestHead, outline: &Outline) -> String {
    outline
        .format
        .clone()
        .unwrap_or_else(|| head.default_format.clone())
}

/// Runs a statement. When the client leaves, a query is stopped; a statement that writes goes on.
pub(crate) async fn run(
    engine: &Arc<Engine>,
    head: &RequestHead,
    setup: Setup,
    sql: Vec<u8>,
    outline: Outline,
    tag: &str,
) -> Result<Answer, EngineError> {
    if outline.outfile {
        return Err(EngineError::new(
            code::INTO_OUTFILE_NOT_ALLOWED,
            "INTO OUTFILE is not allowed",
        ));
    }
    let format = effective_format(head, &outline);
    let set = |name| {
        head.setting(name)
            .is_some_and(|value| value != "0" && value != "false")
    };
    let streamed = outline.selects
        && !outline.whole
        && !head.wait_end_of_query
        && !set("extremes")
        && !set("output_format_json_array_of_rows")
        && STREAMED.contains(&format.as_str());
    let reads = outline.selects || setup.readonly;
    let compress = head.compress;
    let statement = Statement {
        sql,
        outline,
        format,
        parameters: head.parameters.clone(),
        streamed,
    };
    let (sender, mut events) = mpsc::channel(IN_FLIGHT);
    let job = engine
        .run(setup, move |connection| {
            let last = match execute(connection, &statement, &sender) {
                Ok(last) => last,
                Err(error) => Event::Failed(error),
            };
            // Fails if nobody listens any more, which is nothing to report to anybody.
            let _ = send(&sender, last);
            Ok(())
        })
        .await?;
    let job = if reads { job } else { job.detached() };
    match events.recv().await {
        Some(Event::Whole(mut output)) => {
            job.into_guard().disarm();
            if compress && !output.data.is_empty() {
                output.data = native_frame::pack(&output.data).into();
            }
            Ok(Answer::Whole(output))
        }
        Some(Event::End) => {
            job.into_guard().disarm();
            Ok(Answer::Whole(Output::default()))
        }
        Some(Event::Failed(error)) => {
            job.into_guard().disarm();
            Err(error)
        }
        Some(Event::Chunk(first)) => {
            let version = engine.identity().version.clone();
            let tail = Tail {
                events,
                guard: job.into_guard(),
                version,
                tag: tag.to_owned(),
                compress,
            };
            Ok(Answer::Streamed(tail.into_body(first)))
        }
        // The connection could not be opened or prepared, or the work panicked.
        None => Err(job.finish().await.err().unwrap_or_else(vanished)),
    }
}

fn vanished() -> EngineError {
    EngineError::new(code::LOGICAL_ERROR, "the query ended without an answer")
}

/// Runs the statement on the engine's thread; chunks are sent as they come.
fn execute(
    connection: &mut Connection,
    statement: &Statement,
    sender: &mpsc::Sender<Event>,
) -> Result<Event, EngineError> {
    let Statement {
        sql,
        outline,
        format,
        parameters,
        streamed,
    } = statement;
    if !outline.parallel && connection.statement_count(sql) > 1 {
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
            // `WITH … INSERT`, for one.
            Err(error) if error.is_not_streamable() => {}
            Err(error) => return Err(error),
        }
    }
    connection.query(sql, format, parameters).map(Event::Whole)
}

/// Passes an event on; waits while the client is behind, but not for ever.
fn send(sender: &mpsc::Sender<Event>, event: Event) -> Result<(), EngineError> {
    let sent = match sender.try_send(event) {
        Err(TrySendError::Full(event)) => tokio::runtime::Handle::current()
            .block_on(sender.send_timeout(event, SEND_PATIENCE))
            .map_err(|error| matches!(error, SendTimeoutError::Timeout(_))),
        Err(TrySendError::Closed(_)) => Err(false),
        Ok(()) => Ok(()),
    };
    sent.map_err(|stuck| {
        let why = if stuck {
            "the client doesn't read its answer"
        } else {
            "the client has left"
        };
        EngineError::new(code::QUERY_WAS_CANCELLED, why)
    })
}

/// The rest of a streamed answer.
struct Tail {
    events: mpsc::Receiver<Event>,
    guard: CancelGuard,
    version: String,
    tag: String,
    compress: bool,
}

impl Tail {
    /// Makes a response body that ends cleanly only if the query did: after an error it carries the
    /// error and is then cut off, so that no client can take it for complete.
    fn into_body(self, first: Bytes) -> Body {
        let start = (self, Some(Event::Chunk(first)), false);
        Body::from_stream(stream::unfold(start, |(mut tail, pending, failed)| async move {
            if failed {
                tokio::time::sleep(FLUSH).await;
                // `unfold` isn't polled again after an error: the server drops the body.
                return Some((Err(io::Error::other("the query failed")), (tail, None, true)));
            }
            let event = match pending {
                Some(event) => Some(event),
                None => tail.events.recv().await,
            };
            match event {
                Some(Event::Chunk(data)) => {
                    let data = if tail.compress {
                        native_frame::pack(&data).into()
                    } else {
                        data
                    };
                    Some((Ok(data), (tail, None, false)))
                }
                Some(Event::End) => {
                    tail.guard.disarm();
                    None
                }
                event => {
                    tail.guard.disarm();
                    let error = match event {
                        Some(Event::Failed(error)) => error,
                        _ => vanished(),
                    };
                    let block = exception_block(&error, &tail.version, &tail.tag);
                    Some((Ok(Bytes::from(block)), (tail, None, true)))
                }
            }
        }))
    }
}

/// Takes out the header that the engine repeats at the start of every chunk of a streamed result.
struct RepeatedHeader {
    /// How many strings the header has for each column; none for formats without a header.
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

    /// Gives the chunk as it must go out: with the header only if it is the first.
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

/// The length of a `RowBinaryWithNames…` header: a count, then so many strings per column.
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
    fn the_header_stays_only_in_the_first_chunk() {
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
    fn header_lengths() {
        assert_eq!(header_length(b"\x01\x01n\x06UInt64rest", 2), Some(10));
        assert_eq!(header_length(b"\x01\x01nrest", 1), Some(3));
        let long = [b"\x01\xac\x02".as_slice(), &[b'x'; 300], b"\x05UInt8"].concat();
        assert_eq!(header_length(&long, 2), Some(long.len()));
        assert_eq!(header_length(b"\x01\x01n\x06UInt", 2), None);
        assert_eq!(header_length(b"", 2), None);
        assert_eq!(header_length(&[0xff; 20], 2), None);
    }
}
