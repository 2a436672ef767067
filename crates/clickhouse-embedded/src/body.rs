//! The request body, read by the thread that feeds the engine while the runtime receives it.

use std::io::{self, Read};
use std::time::Duration;

use axum::body::Body;
use bytes::{Buf, Bytes};
use futures::StreamExt;
use tokio::sync::mpsc;

use crate::errors::{EngineError, code};
use crate::request::Encoding;

/// Pieces of a body in flight between the runtime and the thread that reads them.
const IN_FLIGHT: usize = 8;

/// What goes from the receiving to the reading side. A channel that closes without `End` means that
/// the client went away.
enum Piece {
    Data(Bytes),
    End,
    Failed(EngineError),
}

/// Receives a body and passes it on.
pub(crate) struct BodyPump {
    body: Body,
    sender: mpsc::Sender<Piece>,
    limits: BodyLimits,
}

/// How much, and how slowly, a client may send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimits {
    /// Most bytes on the wire, and most bytes after unpacking.
    pub(crate) bytes: u64,
    /// Longest wait for the next piece.
    pub(crate) idle: Duration,
}

/// Splits a body into the side that receives it and the side that reads it.
pub(crate) fn channel(body: Body, limits: BodyLimits) -> (BodyPump, BodyReader) {
    let (sender, receiver) = mpsc::channel(IN_FLIGHT);
    (
        BodyPump { body, sender, limits },
        BodyReader {
            receiver,
            current: Bytes::new(),
            ended: false,
        },
    )
}

impl BodyPump {
    /// Receives until the body ends, fails, or nobody reads it any more. Dropping this future is
    /// how a client's disconnect reaches the reader.
    pub(crate) async fn run(self) {
        let Self { body, sender, limits } = self;
        let mut stream = body.into_data_stream();
        let mut received = 0_u64;
        let last = loop {
            match tokio::time::timeout(limits.idle, stream.next()).await {
                Err(_) => break Piece::Failed(idle(limits.idle)),
                Ok(None) => break Piece::End,
                Ok(Some(Err(error))) => {
                    break Piece::Failed(EngineError::new(
                        code::NETWORK_ERROR,
                        format!("the client's request body ended early: {error}"),
                    ));
                }
                Ok(Some(Ok(data))) => {
                    received = received.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
                    if received > limits.bytes {
                        break Piece::Failed(too_large(limits.bytes));
                    }
                    if sender.send(Piece::Data(data)).await.is_err() {
                        // The engine has refused already. What is still on its way is read and
                        // thrown away, so that the client sees the answer and not a reset.
                        while stream.next().await.is_some_and(|piece| piece.is_ok()) {}
                        return;
                    }
                }
            }
        };
        let _ = sender.send(last).await;
    }
}

fn idle(after: Duration) -> EngineError {
    EngineError::new(
        code::SOCKET_TIMEOUT,
        format!("nothing of the request body came for {} s", after.as_secs()),
    )
}

fn too_large(limit: u64) -> EngineError {
    EngineError::new(
        code::TOO_MANY_BYTES,
        format!("the request body is larger than {limit} bytes"),
    )
}

/// The reading side, for a thread that may block.
pub(crate) struct BodyReader {
    receiver: mpsc::Receiver<Piece>,
    current: Bytes,
    ended: bool,
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.receiver.blocking_recv() {
                Some(Piece::Data(data)) => self.current = data,
                Some(Piece::End) => self.ended = true,
                Some(Piece::Failed(error)) => return Err(io::Error::other(error)),
                None => {
                    return Err(io::Error::other(EngineError::new(
                        code::NETWORK_ERROR,
                        "the client went away before its request body was complete",
                    )));
                }
            }
        }
        let count = buffer.len().min(self.current.len());
        buffer[..count].copy_from_slice(&self.current[..count]);
        self.current.advance(count);
        Ok(count)
    }
}

/// Fails once more than `left` bytes were read: a small body may unpack to a huge one.
struct Limited<R> {
    inner: R,
    left: u64,
    limit: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        match self.left.checked_sub(u64::try_from(count).unwrap_or(u64::MAX)) {
            Some(left) => self.left = left,
            None => return Err(io::Error::other(too_large(self.limit))),
        }
        Ok(count)
    }
}

/// Unpacks a body by its `Content-Encoding`.
pub(crate) fn decoded<'a>(source: impl Read + 'a, encoding: Encoding, limit: u64) -> Box<dyn Read + 'a> {
    match encoding {
        Encoding::Plain => Box::new(source),
        Encoding::Gzip => Box::new(Limited {
            inner: flate2::read::MultiGzDecoder::new(source),
            left: limit,
            limit,
        }),
        Encoding::Deflate => Box::new(Limited {
            inner: flate2::read::ZlibDecoder::new(source),
            left: limit,
            limit,
        }),
        Encoding::Lz4 => Box::new(Limited {
            inner: lz4_flex::frame::FrameDecoder::new(source),
            left: limit,
            limit,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::native_frame::body_error;

    const LIMITS: BodyLimits = BodyLimits {
        bytes: 1000,
        idle: Duration::from_secs(5),
    };

    async fn read(body: Body, limits: BodyLimits) -> Result<Vec<u8>, u32> {
        let (pump, mut reader) = channel(body, limits);
        let task = tokio::task::spawn_blocking(move || {
            let mut all = Vec::new();
            reader
                .read_to_end(&mut all)
                .map(|_| all)
                .map_err(|error| body_error(error).code)
        });
        pump.run().await;
        task.await.unwrap()
    }

    #[tokio::test]
    async fn a_body_arrives_whole() {
        assert_eq!(read(Body::from(vec![7; 1000]), LIMITS).await, Ok(vec![7; 1000]));
        assert_eq!(read(Body::empty(), LIMITS).await, Ok(vec![]));
    }

    #[tokio::test]
    async fn too_much_or_too_slow_fails() {
        assert_eq!(
            read(Body::from(vec![7; 1001]), LIMITS).await,
            Err(code::TOO_MANY_BYTES)
        );
        let slow = Body::from_stream(futures::stream::pending::<Result<Bytes, io::Error>>());
        let limits = BodyLimits {
            idle: Duration::from_millis(10),
            ..LIMITS
        };
        assert_eq!(read(slow, limits).await, Err(code::SOCKET_TIMEOUT));
        let broken = Body::from_stream(futures::stream::iter([
            Ok(Bytes::from("a")),
            Err(io::Error::other("x")),
        ]));
        assert_eq!(read(broken, LIMITS).await, Err(code::NETWORK_ERROR));
    }

    #[tokio::test]
    async fn a_pump_that_is_dropped_is_an_error_not_an_end() {
        let (pump, mut reader) = channel(Body::from("half"), LIMITS);
        drop(pump);
        let outcome = tokio::task::spawn_blocking(move || {
            reader.read(&mut [0; 8]).map_err(|error| body_error(error).code)
        });
        assert_eq!(outcome.await.unwrap(), Err(code::NETWORK_ERROR));
    }

    #[test]
    fn encodings_are_unpacked_and_bombs_are_not() {
        let data = vec![b'a'; 100_000];
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&data).unwrap();
        let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
        lz4.write_all(&data).unwrap();
        for (packed, encoding) in [
            (gzip.finish().unwrap(), Encoding::Gzip),
            (lz4.finish().unwrap(), Encoding::Lz4),
        ] {
            let mut unpacked = Vec::new();
            decoded(packed.as_slice(), encoding, 100_000)
                .read_to_end(&mut unpacked)
                .unwrap();
            assert_eq!(unpacked, data);
            let bomb = decoded(packed.as_slice(), encoding, 99_999)
                .read_to_end(&mut Vec::new())
                .unwrap_err();
            assert_eq!(body_error(bomb).code, code::TOO_MANY_BYTES);
        }
    }
}
