//! Limits the parallel attempts to one receiver, and those for one tenant, so that slow receivers do not take up all of
//! them.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use precis_schemas::Token;
use reqwest::Url;

/// Whose attempts are counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Counted {
    /// A receiver: scheme, host and port.
    Receiver(String),
    /// A tenant. Its receivers may be many.
    Tenant(Token),
}

/// Most parallel attempts.
#[derive(Debug, Clone, Copy)]
pub(super) struct AttemptLimits {
    /// To one receiver.
    pub(super) per_receiver: usize,
    /// For one tenant.
    pub(super) per_tenant: usize,
}

/// The number of running attempts of each receiver and tenant. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Receivers(Arc<Mutex<HashMap<Counted, usize>>>);

/// A running attempt. Dropping it ends the attempt.
#[derive(Debug)]
pub(super) struct ReceiverSlot {
    counted: [Counted; 2],
    receivers: Receivers,
}

impl Receivers {
    /// Takes a slot, unless the receiver or the tenant already has as many attempts running as `limits` allow.
    pub(super) fn try_acquire(
        &self,
        url: &str,
        tenant: &Token,
        limits: AttemptLimits,
    ) -> Option<ReceiverSlot> {
        let receiver = Url::parse(url).ok()?.origin().ascii_serialization();
        let counted = [Counted::Receiver(receiver), Counted::Tenant(tenant.clone())];
        let mut attempts = self.0.lock();
        let running = |counted: &Counted| attempts.get(counted).copied().unwrap_or_default();
        if running(&counted[0]) >= limits.per_receiver || running(&counted[1]) >= limits.per_tenant {
            return None;
        }
        for counted in &counted {
            *attempts.entry(counted.clone()).or_default() += 1;
        }
        Some(ReceiverSlot {
            counted,
            receivers: self.clone(),
        })
    }
}

impl Drop for ReceiverSlot {
    fn drop(&mut self) {
        let mut attempts = self.receivers.0.lock();
        for counted in &self.counted {
            if let Some(running) = attempts.get_mut(counted) {
                *running -= 1;
                if *running == 0 {
                    attempts.remove(counted);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: AttemptLimits = AttemptLimits {
        per_receiver: 2,
        per_tenant: 3,
    };

    #[test]
    fn each_receiver_has_its_own_limit() {
        let receivers = Receivers::default();
        let (one, other) = (Token::sanitized("one"), Token::sanitized("other"));
        let try_acquire = |url, tenant| receivers.try_acquire(url, tenant, LIMITS);
        let first = try_acquire("https://a.example/x", &one).unwrap();
        let _second = try_acquire("https://a.example:443/y", &other).unwrap();
        assert!(try_acquire("https://a.example/z", &one).is_none());
        assert!(try_acquire("https://b.example/", &one).is_some());
        drop(first);
        assert!(try_acquire("https://a.example/z", &one).is_some());
    }

    #[test]
    fn a_tenant_with_many_slow_receivers_leaves_room_for_others() {
        let receivers = Receivers::default();
        let (one, other) = (Token::sanitized("one"), Token::sanitized("other"));
        let url = |host: usize| format!("https://h{host}.example/");
        let slow: Vec<_> = (0..10)
            .filter_map(|host| receivers.try_acquire(&url(host), &one, LIMITS))
            .collect();
        assert_eq!(slow.len(), LIMITS.per_tenant);
        assert!(receivers.try_acquire(&url(0), &other, LIMITS).is_some());
        drop(slow);
        assert!(receivers.0.lock().is_empty());
    }
}
