//! `INSERT` with its data in the request body, passed to the engine as it arrives.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;

use crate::body::{self, BodyLimits, BodyReader};
use crate::engine::{Engine, Setup};
use crate::errors::{EngineError, code};
use crate::ffi::{Connection, Output};
use crate::native_frame::{FrameReader, body_error};
use crate::request::{Encoding, RequestHead};
use crate::sql::InsertHead;

/// Data is handed to the engine in pieces of this size.
const PIECE: usize = 256 * 1024;
/// How long what a refused client still sends is read, so that it sees why.
const DRAIN: Duration = Duration::from_secs(1);

/// How the data of a body is packed.
#[derive(Debug, Clone, Copy)]
struct Packing {
    encoding: Encoding,
    frames: bool,
    limit: u64,
}

/// Runs the insert. If the client leaves, or the body is damaged, nothing of the current block is
/// written; blocks are cut by the engine at about a million rows.
pub(crate) async fn run(
    engine: &Arc<Engine>,
    head: &RequestHead,
    setup: Setup,
    insert: InsertHead,
    body: Body,
    limits: BodyLimits,
) -> Result<Output, EngineError> {
    let (pump, reader) = body::channel(body, limits);
    let parameters = head.parameters.clone();
    let packing = Packing {
        encoding: head.encoding,
        frames: head.decompress,
        limit: limits.bytes,
    };
    let job = engine
        .run(setup, move |connection| {
            write(connection, &insert, &parameters, reader, packing)
        })
        .await?
        // A client that leaves ends the body early, and that ends the insert. One that leaves after
        // its last byte gets its data written.
        .detached();
    let (pump, finish) = (pump.run(), job.finish());
    tokio::pin!(pump, finish);
    tokio::select! {
        outcome = &mut finish => {
            if outcome.is_err() {
                let _ = tokio::time::timeout(DRAIN, &mut pump).await;
            }
            outcome
        }
        () = &mut pump => finish.await,
    }
}

/// Feeds the engine, on a thread that may block.
fn write(
    connection: &mut Connection,
    insert: &InsertHead,
    parameters: &[(String, String)],
    reader: BodyReader,
    packing: Packing,
) -> Result<Output, EngineError> {
    let mut stream = connection.insert(insert.statement.as_bytes(), &insert.format, parameters)?;
    let mut source = body::decoded(reader, packing.encoding, packing.limit);
    if packing.frames {
        let mut frames = FrameReader::new(source, packing.limit);
        while let Some(data) = frames.next()? {
            stream.append(&data)?;
        }
    } else {
        let mut piece = vec![0; PIECE];
        loop {
            match source.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => stream.append(&piece[..count])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(body_error(error)),
            }
        }
    }
    stream.finish()
}

/// Reads a whole body into memory: a statement, or one with its data behind it.
pub(crate) async fn collect(
    body: Body,
    encoding: Encoding,
    frames: bool,
    limits: BodyLimits,
) -> Result<Vec<u8>, EngineError> {
    let (pump, reader) = body::channel(body, limits);
    let read = tokio::task::spawn_blocking(move || {
        let mut source = body::decoded(reader, encoding, limits.bytes);
        let mut all = Vec::new();
        if frames {
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
