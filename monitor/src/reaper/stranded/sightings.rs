//! What consecutive sweeps found.

use std::collections::HashMap;
use std::hash::Hash;

use precis_runtime::clock::Instant;

/// When each message was first seen, for those that are seen in every sweep since.
#[derive(Debug)]
pub(super) struct Sightings<K>(HashMap<K, Instant>);

impl<K> Default for Sightings<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Sightings<K> {
    /// Replaces the messages by those of a sweep at `now`. Messages that were seen before keep their time.
    pub(super) fn update(&mut self, found: impl IntoIterator<Item = K>, now: Instant) {
        let mut earlier = std::mem::take(&mut self.0);
        self.0 = found
            .into_iter()
            .map(|key| {
                let since = earlier.remove(&key).unwrap_or(now);
                (key, since)
            })
            .collect();
    }

    /// Forgets a message. The next sweep that finds it is the first.
    pub(super) fn forget(&mut self, key: &K) {
        self.0.remove(key);
    }

    /// Returns the messages of the last sweep and when each was first seen.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &Instant)> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_message_that_a_sweep_misses_is_new_afterwards() {
        let (mut sightings, start) = (Sightings::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let since = |sightings: &Sightings<u64>, key| sightings.0.get(&key).copied();
        sightings.update([1, 2], at(0));
        sightings.update([2, 3], at(10));
        assert_eq!(since(&sightings, 1), None);
        assert_eq!(since(&sightings, 2), Some(at(0)));
        assert_eq!(since(&sightings, 3), Some(at(10)));
        sightings.update([1, 2], at(20));
        assert_eq!(since(&sightings, 1), Some(at(20)));
        assert_eq!(since(&sightings, 2), Some(at(0)));
    }
}
