//! Request bodies: the runtime receives chunks, and a blocking thread reads them for the engine.

use std::io::{self, Read};
use std::time::Duration;

use axum::body::Body;
use bytes::{Buf, Bytes};
use futures::StreamExt;
use tokio::sync::mpsc;

use crate::errors::{EngineError, code};
use crate::request::Encoding;

/// Maximum chunks between the runtime and the reading thread.
const MAX_IN_FLIGHT: usize = 8;

/// A message to the reading side. If the channel closes without `End`, the client has disconnected.
enum BodyEvent {
    Data(Bytes),
    End,
    Failed(EngineError),
}

/// The receiving side.
pub(crate) struct BodyPump {
    body: Body,
    sender: mpsc::Sender<BodyEvent>,
    limits: BodyLimits,
}

/// Limits on request bodies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimits {
    /// Maximum bytes, both on the wire and after decompression.
    pub(crate) bytes: u64,
    /// Maximum wait for the next chunk.
    pub(crate) idle: Duration,
}

/// Splits a body into its receiving side and its reading side.
pub(crate) fn channel(body: Body, limits: BodyLimits) -> (BodyPump, BodyReader) {
    let (sender, receiver) = mpsc::channel(MAX_IN_FLIGHT);
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
    /// Receives until the body ends, an error occurs, or the reader is dropped.
    ///
    /// When a client disconnects, the server drops this future, and the reader gets an error.
    pub(crate) async fn run(self) {
        let Self { body, sender, limits } = self;
        let mut stream = body.into_data_stream();
        let mut received = 0_u64;
        let last = loop {
            match tokio::time::timeout(limits.idle, stream.next()).await {
                Err(_) => break BodyEvent::Failed(stalled(limits.idle)),
                Ok(None) => break BodyEvent::End,
                Ok(Some(Err(error))) => {
                    break BodyEvent::Failed(EngineError::new(
                        code::NETWORK_ERROR,
                        format!("the request body ended early: {error}"),
                    ));
                }
                Ok(Some(Ok(data))) => {
                    received = received.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
                    if received > limits.bytes {
                        break BodyEvent::Failed(too_large(limits.bytes));
                    }
                    if sender.send(BodyEvent::Data(data)).await.is_err() {
                        // The engine has rejected the request. Discard the rest of the body, so that the client
                        // gets the response instead of a connection reset.
                        while stream.next().await.is_some_and(|chunk| chunk.is_ok()) {}
                        return;
                    }
                }
            }
        };
        let _ = sender.send(last).await;
    }
}

fn stalled(after: Duration) -> EngineError {
    EngineError::new(
        code::SOCKET_TIMEOUT,
        format!("the request body stalled for {} s", after.as_secs()),
    )
}

fn too_large(limit: u64) -> EngineError {
    EngineError::new(
        code::TOO_MANY_BYTES,
        format!("the request body is larger than {limit} bytes"),
    )
}

/// The reading side, for a blocking thread.
pub(crate) struct BodyReader {
    receiver: mpsc::Receiver<BodyEvent>,
    current: Bytes,
    ended: bool,
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.receiver.blocking_recv() {
                Some(BodyEvent::Data(data)) => self.current = data,
                Some(BodyEvent::End) => self.ended = true,
                Some(BodyEvent::Failed(error)) => return Err(io::Error::other(error)),
                None => {
                    return Err(io::Error::other(EngineError::new(
                        code::NETWORK_ERROR,
                        "the client disconnected before the request body was complete",
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

/// Fails after `limit` bytes: a small body may decompress to a huge one.
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

/// Decompresses a body by its `Content-Encoding`.
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
    async fn body_within_the_limit_arrives_complete() {
        assert_eq!(read(Body::from(vec![7; 1000]), LIMITS).await, Ok(vec![7; 1000]));
        assert_eq!(read(Body::empty(), LIMITS).await, Ok(vec![]));
    }

    #[tokio::test]
    async fn large_slow_and_broken_bodies_fail() {
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
    async fn disconnect_is_an_error_not_an_end() {
        let (pump, mut reader) = channel(Body::from("half"), LIMITS);
        drop(pump);
        let outcome = tokio::task::spawn_blocking(move || {
            reader.read(&mut [0; 8]).map_err(|error| body_error(error).code)
        });
        assert_eq!(outcome.await.unwrap(), Err(code::NETWORK_ERROR));
    }

    #[test]
    fn encodings_are_decompressed_up_to_the_limit() {
        let data = vec![b'a'; 100_000];
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&data).unwrap();
        let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
        lz4.write_all(&data).unwrap();
        for (compressed, encoding) in [
            (gzip.finish().unwrap(), Encoding::Gzip),
            (lz4.finish().unwrap(), Encoding::Lz4),
        ] {
            let mut data_read = Vec::new();
            decoded(compressed.as_slice(), encoding, 100_000)
                .read_to_end(&mut data_read)
                .unwrap();
            assert_eq!(data_read, data);
            let bomb = decoded(compressed.as_slice(), encoding, 99_999)
                .read_to_end(&mut Vec::new())
                .unwrap_err();
            assert_eq!(body_error(bomb).code, code::TOO_MANY_BYTES);
        }
    }
}
