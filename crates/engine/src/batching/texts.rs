//! A cache of encoder states: a repeated text with other parameters skips the encoder.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::model::{Backend, Prefilled};

/// The encoder states of a text, shared by all requests that decode from it.
pub(super) type Text<B> = Arc<Prefilled<B>>;

struct Entry<B: Backend> {
    text: Text<B>,
    bytes: usize,
    used: u64,
}

struct Entries<B: Backend> {
    by_ids: HashMap<Arc<[u32]>, Entry<B>>,
    bytes: usize,
    clock: u64,
}

/// The most recently used texts, bounded in bytes.
pub(super) struct Texts<B: Backend> {
    most_bytes: usize,
    entries: Mutex<Entries<B>>,
}

impl<B: Backend> Texts<B> {
    /// Creates a cache of at most `most_bytes` bytes.
    pub(super) fn new(most_bytes: usize) -> Self {
        Self {
            most_bytes,
            entries: Mutex::new(Entries {
                by_ids: HashMap::new(),
                bytes: 0,
                clock: 0,
            }),
        }
    }

    /// Returns the cached text with these ids.
    pub(super) fn get(&self, ids: &[u32]) -> Option<Text<B>> {
        let mut entries = self.entries.lock();
        entries.clock += 1;
        let clock = entries.clock;
        let entry = entries.by_ids.get_mut(ids)?;
        entry.used = clock;
        Some(entry.text.clone())
    }

    /// Caches a text of `bytes` bytes and evicts the least recently used ones.
    pub(super) fn put(&self, ids: Arc<[u32]>, text: Text<B>, bytes: usize) {
        if bytes > self.most_bytes {
            return;
        }
        let mut guard = self.entries.lock();
        let entries = &mut *guard;
        entries.clock += 1;
        let used = entries.clock;
        if let Some(old) = entries.by_ids.insert(ids, Entry { text, bytes, used }) {
            entries.bytes -= old.bytes;
        }
        entries.bytes += bytes;
        while entries.bytes > self.most_bytes {
            let oldest = entries.by_ids.iter().min_by_key(|(_, entry)| entry.used);
            let Some(ids) = oldest.map(|(ids, _)| ids.clone()) else {
                return;
            };
            if let Some(entry) = entries.by_ids.remove(&ids) {
                entries.bytes -= entry.bytes;
            }
        }
    }
}
