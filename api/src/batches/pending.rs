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

/// Longest column of a batch's results, in bytes: all of them together fit into a message of NATS.
const MAX_COLUMN_BYTES: usize = 4 << 10;

/// The metadata keys of rows, in the order of their first appearance. Clones share the keys.
#[derive(Debug, Clone, Default)]
pub(super) struct MetadataKeys(Arc<Mutex<Vec<String>>>);

impl MetadataKeys {
    /// Adds the keys of a row.
    pub(super) fn add(&self, row: &InputRow) {
        let mut keys = self.0.lock();
        for key in row.metadata.keys() {
            // A row with a longer key is refused. Each head of the batch contains the keys.
            if keys.len() < MAX_COLUMNS && key.len() <= MAX_COLUMN_BYTES && !keys.contains(key) {
                keys.push(key.clone());
            }
        }
    }

    /// Returns the keys so far.
    pub(super) fn list(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use precis_schemas::ErrorCode;
    use precis_schemas::error_code::Refusal;

    use super::*;

    #[test]
    fn a_very_long_key_of_a_refused_row_is_not_a_column() {
        let keys = MetadataKeys::default();
        let mut row = InputRow::refused(2, Refusal::new(ErrorCode::InvalidRequest, "no text"));
        for key in ["desk".to_owned(), "k".repeat(2 << 20)] {
            row.metadata.insert(key, String::new());
        }
        keys.add(&row);
        assert_eq!(keys.list(), ["desk"]);
    }
}
