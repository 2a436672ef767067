//! What an upload in progress has to write: its last rows, and the keys of its rows' metadata.

use std::sync::Arc;

use parking_lot::Mutex;
use precis_schemas::manifest::{BatchChunk, BatchRow, CHUNK_ROWS, MAX_COLUMNS};

use super::rows::InputRow;

/// Size of the texts in a chunk at which it is written, in bytes. As JSON they fit the smallest message of a NATS server,
/// 1 MiB, even if every byte takes six.
const MAX_CHUNK_BYTES: usize = 128 << 10;

/// Rows that are not written yet.
#[derive(Debug, Default)]
pub(super) struct PendingRows {
    chunk: BatchChunk,
    /// Size of their texts, in bytes.
    bytes: usize,
}

impl PendingRows {
    /// Adds a row.
    pub(super) fn push(&mut self, row: BatchRow) {
        let metadata = row.metadata.iter().map(|(key, value)| key.len() + value.len());
        let message = row.refusal.as_ref().map_or(0, |refusal| refusal.message.len());
        self.bytes += message + metadata.sum::<usize>();
        self.chunk.rows.push(row);
    }

    /// Whether the rows must be written before another one is added.
    pub(super) fn is_full(&self) -> bool {
        self.chunk.rows.len() >= CHUNK_ROWS || self.bytes >= MAX_CHUNK_BYTES
    }

    /// The rows.
    pub(super) fn chunk(&self) -> &BatchChunk {
        &self.chunk
    }

    /// Forgets the rows, which are written.
    pub(super) fn clear(&mut self) {
        self.chunk.rows.clear();
        self.bytes = 0;
    }
}

/// The metadata keys of rows, in the order of their first appearance. Clones share the keys.
#[derive(Debug, Clone, Default)]
pub(super) struct MetadataKeys(Arc<Mutex<Vec<String>>>);

impl MetadataKeys {
    /// Adds the keys of a row.
    pub(super) fn add(&self, row: &InputRow) {
        let mut keys = self.0.lock();
        for key in row.metadata.keys() {
            if keys.len() < MAX_COLUMNS && !keys.contains(key) {
                keys.push(key.clone());
            }
        }
    }

    /// Returns the keys so far.
    pub(super) fn list(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}
