//! Limits the parallel attempts to one receiver, so that a slow one does not take up all of them.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use reqwest::Url;

/// The number of running attempts for each receiver (scheme, host and port). Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Receivers(Arc<Mutex<HashMap<String, usize>>>);

/// A slot in a receiver's concurrency limit. Dropping it frees the slot.
#[derive(Debug)]
pub(super) struct ReceiverSlot {
    receiver: String,
    receivers: Receivers,
}

impl Receivers {
    /// Takes a slot, unless the receiver already has `limit` attempts running.
    pub(super) fn try_acquire(&self, url: &str, limit: usize) -> Option<ReceiverSlot> {
        let receiver = Url::parse(url).ok()?.origin().ascii_serialization();
        let mut attempts = self.0.lock();
        let running = attempts.entry(receiver.clone()).or_default();
        if *running >= limit {
            return None;
        }
        *running += 1;
        Some(ReceiverSlot {
            receiver,
            receivers: self.clone(),
        })
    }
}

impl Drop for ReceiverSlot {
    fn drop(&mut self) {
        let mut attempts = self.receivers.0.lock();
        if let Some(running) = attempts.get_mut(&self.receiver) {
            *running -= 1;
            if *running == 0 {
                attempts.remove(&self.receiver);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_receiver_has_its_own_limit() {
        let receivers = Receivers::default();
        let first = receivers.try_acquire("https://a.example/x", 2).unwrap();
        let _second = receivers.try_acquire("https://a.example:443/y", 2).unwrap();
        assert!(receivers.try_acquire("https://a.example/z", 2).is_none());
        assert!(receivers.try_acquire("https://b.example/", 2).is_some());
        drop(first);
        assert!(receivers.try_acquire("https://a.example/z", 2).is_some());
    }
}
