//! `INSERT` with data in the request body, which is streamed to the engine.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;

use crate::body::{self, BodyLimits, BodyReader};
use crate::engine::{Engine, SessionOptions};
use crate::errors::{EngineError, code};
use crate::ffi::{Connection, Output};
use crate::native_frame::{FrameReader, body_error};
use crate::request::{Encoding, RequestHead};
use crate::sql::InsertStatement;

/// Bytes passed to the engine at a time.
const CHUNK_BYTES: usize = 256 * 1024;
/// Time to read the rest of a rejected body, so that the client gets the error response.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Compression of a body.
#[derive(Debug, Clone, Copy)]
struct Compression {
    encoding: Encoding,
    native_frames: bool,
    limit: u64,
}

/// Runs the insert.
///
/// If the client disconnects or the body is damaged, the engine discards the current block. A block holds about a million
/// rows.
pub(crate) async fn run(
    engine: &Arc<Engine>,
    head: &RequestHead,
    session: SessionOptions,
    insert: InsertStatement,
    body: Body,
    limits: BodyLimits,
) -> Result<Output, EngineError> {
    let (pump, reader) = body::channel(body, limits);
    let parameters = head.parameters.clone();
    let compression = Compression {
        encoding: head.encoding,
        native_frames: head.decompress,
        limit: limits.bytes,
    };
    let task = engine
        .run(session, move |connection| {
            write(connection, &insert, &parameters, reader, compression)
        })
        .await?
        // A disconnect ends the body early, which fails the insert. After the last byte, the insert completes.
        .detached();
    let (pump, finish) = (pump.run(), task.finish());
    tokio::pin!(pump, finish);
    tokio::select! {
        outcome = &mut finish => {
            if outcome.is_err() {
                let _ = tokio::time::timeout(DRAIN_TIMEOUT, &mut pump).await;
            }
            outcome
        }
        () = &mut pump => finish.await,
    }
}

/// Streams the data to the engine on a blocking thread.
fn write(
    connection: &mut Connection,
    insert: &InsertStatement,
    parameters: &[(String, String)],
    reader: BodyReader,
    compression: Compression,
) -> Result<Output, EngineError> {
    let mut stream = connection.insert(insert.statement.as_bytes(), &insert.format, parameters)?;
    let mut source = body::decoded(reader, compression.encoding, compression.limit);
    if compression.native_frames {
        let mut frames = FrameReader::new(source, compression.limit);
        while let Some(data) = frames.next()? {
            stream.append(&data)?;
        }
    } else {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match source.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => stream.append(&chunk[..count])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(body_error(error)),
            }
        }
    }
    stream.finish()
}

/// Reads a whole body into memory: a statement, possibly followed by its data.
pub(crate) async fn collect(
    body: Body,
    encoding: Encoding,
    native_frames: bool,
    limits: BodyLimits,
) -> Result<Vec<u8>, EngineError> {
    let (pump, reader) = body::channel(body, limits);
    let read = tokio::task::spawn_blocking(move || {
        let mut source = body::decoded(reader, encoding, limits.bytes);
        let mut all = Vec::new();
        if native_frames {
            let mut reader = FrameReader::new(source, limits.bytes);
            while let Some(data) = reader.next()? {
                all.extend_from_slice(&data);
            }
        } else {
            source.read_to_end(&mut all).map_err(body_error)?;
        }
        Ok(all)
    });
    let (read, ()) = tokio::join!(read, async {
        let _ = tokio::time::timeout(limits.idle.saturating_mul(10), pump.run()).await;
    });
    read.unwrap_or_else(|error| {
        Err(EngineError::new(
            code::LOGICAL_ERROR,
            format!("reading the body failed: {error}"),
        ))
    })
}
