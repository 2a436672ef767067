//! Sizes of what the fake queue stores.

use bytes::Bytes;

use super::FakeQueue;

impl FakeQueue {
    /// Size of the largest batch record, in bytes.
    pub(crate) fn largest_batch_record(&self) -> usize {
        let batches = self.batches.lock().unwrap();
        batches.values().map(Bytes::len).max().unwrap_or(0)
    }

    /// Returns the size of the largest record, in bytes.
    pub(crate) fn largest_record(&self) -> usize {
        let records = self.records.lock().unwrap();
        records
            .values()
            .map(|record| record.body.len())
            .max()
            .unwrap_or_default()
    }
}
