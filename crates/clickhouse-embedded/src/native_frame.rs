//! ClickHouse's native compressed frames: the format of `decompress=1` bodies and `compress=1` responses.
//!
//! | bytes | content |
//! | --- | --- |
//! | 16 | CityHash 1.0.2 checksum of the rest of the frame |
//! | 1 | compression method |
//! | 4 | compressed size, including these 9 bytes of header |
//! | 4 | uncompressed size |
//! | rest | compressed data |

use std::io::{self, Read};

use crate::errors::{EngineError, code};

const CHECKSUM: usize = 16;
const HEADER: usize = 9;
const METHOD_NONE: u8 = 0x02;
const METHOD_LZ4: u8 = 0x82;
/// Maximum size of a frame, compressed or not. ClickHouse has the same limit.
const MAX_FRAME: usize = 1 << 30;

/// Returns the checksum. ClickHouse stores its two halves in the opposite order.
fn checksum(bytes: &[u8]) -> u128 {
    cityhash_rs::cityhash_102_128(bytes).rotate_right(64)
}

/// Reads a little-endian `u32`.
fn size_at(header: &[u8; CHECKSUM + HEADER], at: usize) -> usize {
    let bytes = [header[at], header[at + 1], header[at + 2], header[at + 3]];
    usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX)
}

/// Reads frames and returns their data, one frame at a time.
pub(crate) struct FrameReader<R> {
    source: R,
    frame: Vec<u8>,
    /// Maximum size of a frame, compressed or not.
    limit: usize,
}

impl<R: Read> FrameReader<R> {
    /// Creates a reader that rejects frames larger than `limit` bytes.
    pub(crate) fn new(source: R, limit: u64) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(MAX_FRAME);
        Self {
            source,
            frame: Vec::new(),
            limit,
        }
    }

    /// Returns the data of the next frame, or `None` at the end of the body.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<u8>>, EngineError> {
        let mut header = [0_u8; CHECKSUM + HEADER];
        if !self.fill_header(&mut header)? {
            return Ok(None);
        }
        let (compressed, uncompressed) = (size_at(&header, CHECKSUM + 1), size_at(&header, CHECKSUM + 5));
        if compressed < HEADER || compressed > self.limit.saturating_add(HEADER) || uncompressed > self.limit
        {
            return Err(EngineError::new(
                code::TOO_LARGE_SIZE_COMPRESSED,
                format!("a compressed block declares {compressed} bytes for {uncompressed} bytes of data"),
            ));
        }
        self.frame.clear();
        self.frame.extend_from_slice(&header[CHECKSUM..]);
        let wanted = u64::try_from(compressed - HEADER).unwrap_or(u64::MAX);
        // `read_to_end` grows the buffer with the received data, so a wrong header can't make it allocate a gigabyte.
        let read = (&mut self.source)
            .take(wanted)
            .read_to_end(&mut self.frame)
            .map_err(body_error)?;
        if read < compressed - HEADER {
            return Err(truncated());
        }
        let expected = u128::from_le_bytes(std::array::from_fn(|index| header[index]));
        if checksum(&self.frame) != expected {
            return Err(EngineError::new(
                code::CHECKSUM_DOESNT_MATCH,
                "Checksum doesn't match: corrupted data in a compressed block",
            ));
        }
        decompress(header[CHECKSUM], &self.frame[HEADER..], uncompressed).map(Some)
    }

    /// Reads a frame's header. Returns `false` if the body ends before it.
    fn fill_header(&mut self, header: &mut [u8]) -> Result<bool, EngineError> {
        let mut filled = 0;
        while filled < header.len() {
            match self.source.read(&mut header[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(truncated()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(body_error(error)),
            }
        }
        Ok(true)
    }
}

fn truncated() -> EngineError {
    EngineError::new(
        code::CANNOT_READ_ALL_DATA,
        "Cannot read all data: the body ends inside a compressed block",
    )
}

fn decompress(method: u8, data: &[u8], size: usize) -> Result<Vec<u8>, EngineError> {
    match method {
        METHOD_LZ4 => {
            let decompressed = lz4_flex::block::decompress(data, size)
                .map_err(|error| EngineError::new(code::CANNOT_DECOMPRESS, error))?;
            if decompressed.len() == size {
                Ok(decompressed)
            } else {
                Err(EngineError::new(
                    code::CANNOT_DECOMPRESS,
                    "a compressed block is shorter than it declares",
                ))
            }
        }
        METHOD_NONE => Ok(data.to_vec()),
        other => Err(EngineError::new(
            code::UNKNOWN_COMPRESSION_METHOD,
            format!("Unknown compression method {other:#04x}: send LZ4 or uncompressed blocks"),
        )),
    }
}

/// Extracts the error that the body reader wrapped in an I/O error.
pub(crate) fn body_error(error: io::Error) -> EngineError {
    let text = error.to_string();
    match error.into_inner().map(|inner| inner.downcast::<EngineError>()) {
        Some(Ok(error)) => *error,
        _ => EngineError::new(
            code::CANNOT_DECOMPRESS,
            format!("the body could not be read: {text}"),
        ),
    }
}

/// Compresses data into one LZ4 frame.
pub(crate) fn compress_frame(data: &[u8]) -> Vec<u8> {
    let compressed = lz4_flex::block::compress(data);
    let mut frame = Vec::with_capacity(CHECKSUM + HEADER + compressed.len());
    frame.extend_from_slice(&[0; CHECKSUM]);
    frame.push(METHOD_LZ4);
    for size in [compressed.len() + HEADER, data.len()] {
        frame.extend_from_slice(&u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes());
    }
    frame.extend_from_slice(&compressed);
    let sum = checksum(&frame[CHECKSUM..]);
    frame[..CHECKSUM].copy_from_slice(&sum.to_le_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(bytes: &[u8]) -> Result<Vec<Vec<u8>>, u32> {
        let mut reader = FrameReader::new(bytes, 1 << 20);
        let mut frames = Vec::new();
        while let Some(frame) = reader.next().map_err(|error| error.code)? {
            frames.push(frame);
        }
        Ok(frames)
    }

    #[test]
    fn frames_round_trip() {
        let long = b"abc".repeat(10_000);
        let body = [
            compress_frame(b"first"),
            compress_frame(&long),
            compress_frame(b""),
        ]
        .concat();
        assert_eq!(read_all(&body), Ok(vec![b"first".to_vec(), long, Vec::new()]));
        assert_eq!(read_all(b""), Ok(vec![]));
    }

    #[test]
    fn uncompressed_frame_is_read() {
        // "hello" stored uncompressed, with a checksum over method, sizes and data.
        let mut rest = vec![METHOD_NONE, 14, 0, 0, 0, 5, 0, 0, 0];
        rest.extend_from_slice(b"hello");
        let body = [checksum(&rest).to_le_bytes().to_vec(), rest].concat();
        assert_eq!(read_all(&body), Ok(vec![b"hello".to_vec()]));
    }

    #[test]
    fn damaged_frames_are_rejected() {
        let good = compress_frame(b"some data that is long enough");
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert_eq!(read_all(&flipped), Err(code::CHECKSUM_DOESNT_MATCH));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            assert!(read_all(&bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn truncated_body_is_rejected() {
        let good = compress_frame(b"some data");
        for length in 1..good.len() {
            assert_eq!(
                read_all(&good[..length]),
                Err(code::CANNOT_READ_ALL_DATA),
                "{length} bytes"
            );
        }
    }

    #[test]
    fn wrong_sizes_are_rejected() {
        let mut huge = compress_frame(b"x");
        huge[CHECKSUM + 5..CHECKSUM + 9].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(read_all(&huge), Err(code::TOO_LARGE_SIZE_COMPRESSED));
        let mut tiny = compress_frame(b"x");
        tiny[CHECKSUM + 1..CHECKSUM + 5].copy_from_slice(&3_u32.to_le_bytes());
        assert_eq!(read_all(&tiny), Err(code::TOO_LARGE_SIZE_COMPRESSED));
    }
}
