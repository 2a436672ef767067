//! A bounded map whose entries expire.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// A map that drops each entry a fixed time after its last write, and its oldest entries when it is full.
///
/// An expired entry is never returned. Its memory is freed by the next write. All methods take `&self`: share the map
/// in an `Arc`. Closures run under the map's lock, so they must be short and must not call the same map.
pub struct ExpiringMap<K, V> {
    ttl: Duration,
    capacity: usize,
    entries: Mutex<Entries<K, V>>,
}

struct Entries<K, V> {
    by_key: HashMap<K, Entry<V>>,
    /// Keys by the number of their last write: the first is the oldest and the first to expire.
    by_age: BTreeMap<u64, K>,
    last_write: u64,
}

struct Entry<V> {
    value: V,
    write: u64,
    written_at: Instant,
}

impl<K: Clone + Eq + Hash, V> ExpiringMap<K, V> {
    /// Creates a map that keeps at most `capacity` entries, each for `ttl`. `Duration::MAX` keeps them until they are
    /// displaced.
    pub fn new(ttl: Duration, capacity: usize) -> Self {
        let entries = Entries {
            by_key: HashMap::new(),
            by_age: BTreeMap::new(),
            last_write: 0,
        };
        Self {
            ttl,
            capacity,
            entries: Mutex::new(entries),
        }
    }

    /// Stores `value`, starts its time to live, and returns the value it replaces unless that one has expired.
    pub fn insert(&self, key: K, value: V) -> Option<V> {
        let now = Instant::now();
        let mut entries = self.entries.lock();
        let replaced = entries.take(&key);
        entries.put(key, value, now);
        entries.trim(now, self.ttl, self.capacity);
        replaced
            .filter(|entry| entry.is_live(now, self.ttl))
            .map(|entry| entry.value)
    }

    /// Returns the value of `key`, created by `create` if there is none, and restarts its time to live.
    ///
    /// With this as the only access, the map drops the least recently used entry when it is full.
    pub fn get_or_insert_with(&self, key: K, create: impl FnOnce() -> V) -> V
    where
        V: Clone,
    {
        let now = Instant::now();
        let mut entries = self.entries.lock();
        let value = entries
            .take(&key)
            .filter(|entry| entry.is_live(now, self.ttl))
            .map_or_else(create, |entry| entry.value);
        entries.put(key, value.clone(), now);
        entries.trim(now, self.ttl, self.capacity);
        value
    }

    /// Returns a copy of the value of `key`.
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
        V: Clone,
    {
        self.read(key, V::clone)
    }

    /// Applies `read` to the value of `key`, for a value that is costly to copy.
    pub fn read<Q, R>(&self, key: &Q, read: impl FnOnce(&V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let now = Instant::now();
        let entries = self.entries.lock();
        let entry = entries.by_key.get(key)?;
        entry.is_live(now, self.ttl).then(|| read(&entry.value))
    }

    /// Reports whether `key` has an entry.
    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.read(key, |_| ()).is_some()
    }

    /// Applies `read` to an iterator over all entries, in no particular order.
    pub fn scan<R>(&self, read: impl FnOnce(&mut dyn Iterator<Item = (&K, &V)>) -> R) -> R {
        let now = Instant::now();
        let entries = self.entries.lock();
        let mut live = entries
            .by_key
            .iter()
            .filter(|(_, entry)| entry.is_live(now, self.ttl))
            .map(|(key, entry)| (key, &entry.value));
        read(&mut live)
    }

    /// Removes `key` and returns its value.
    pub fn remove<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.remove_if(key, |_| true)
    }

    /// Removes `key` and returns its value if `condition` holds for it.
    pub fn remove_if<Q>(&self, key: &Q, condition: impl FnOnce(&V) -> bool) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let now = Instant::now();
        let mut entries = self.entries.lock();
        if !condition(&entries.by_key.get(key)?.value) {
            return None;
        }
        entries
            .take(key)
            .filter(|entry| entry.is_live(now, self.ttl))
            .map(|entry| entry.value)
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.scan(|entries| entries.count())
    }

    /// Reports whether the map has no entries.
    pub fn is_empty(&self) -> bool {
        self.scan(|entries| entries.next().is_none())
    }
}

impl<V> Entry<V> {
    fn is_live(&self, now: Instant, ttl: Duration) -> bool {
        now.duration_since(self.written_at) < ttl
    }
}

impl<K: Clone + Eq + Hash, V> Entries<K, V> {
    fn put(&mut self, key: K, value: V, now: Instant) {
        self.last_write += 1;
        let entry = Entry {
            value,
            write: self.last_write,
            written_at: now,
        };
        self.by_age.insert(entry.write, key.clone());
        self.by_key.insert(key, entry);
    }

    fn take<Q>(&mut self, key: &Q) -> Option<Entry<V>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let entry = self.by_key.remove(key)?;
        self.by_age.remove(&entry.write);
        Some(entry)
    }

    fn trim(&mut self, now: Instant, ttl: Duration, capacity: usize) {
        while let Some(oldest) = self.by_age.first_entry() {
            let is_live = |entry: &Entry<V>| entry.is_live(now, ttl);
            if self.by_key.len() <= capacity && self.by_key.get(oldest.get()).is_some_and(is_live) {
                break;
            }
            self.by_key.remove(&oldest.remove());
        }
    }
}

impl<K, V> fmt::Debug for ExpiringMap<K, V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ExpiringMap")
            .field("ttl", &self.ttl)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::advance;

    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    fn stored<V>(map: &ExpiringMap<u32, V>) -> (usize, usize) {
        let entries = map.entries.lock();
        (entries.by_key.len(), entries.by_age.len())
    }

    #[tokio::test(start_paused = true)]
    async fn entries_expire_after_the_time_to_live() {
        let map = ExpiringMap::new(TTL, 10);
        map.insert(1, "a");
        advance(TTL / 2).await;
        map.insert(2, "b");
        advance(TTL / 2).await;
        assert_eq!((map.get(&1), map.get(&2)), (None, Some("b")));
        assert!(!map.contains_key(&1));
        assert_eq!((map.len(), map.remove(&1)), (1, None));
        assert!(!map.is_empty());
        // A write frees expired entries.
        map.insert(3, "c");
        assert_eq!(stored(&map), (2, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_restarts_the_time_to_live() {
        let map = ExpiringMap::new(TTL, 10);
        assert_eq!(map.insert(1, "a"), None);
        advance(TTL / 2).await;
        assert_eq!(map.insert(1, "b"), Some("a"));
        advance(TTL / 2).await;
        assert_eq!(map.get(&1), Some("b"));
        advance(TTL / 2).await;
        assert_eq!(map.insert(1, "c"), None);
        assert_eq!(stored(&map), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_map_drops_its_oldest_entry() {
        let map = ExpiringMap::new(Duration::MAX, 2);
        for key in [1, 2, 1, 3] {
            map.insert(key, key);
        }
        assert_eq!([1, 2, 3].map(|key| map.contains_key(&key)), [true, false, true]);
        assert_eq!(stored(&map), (2, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn get_or_insert_with_keeps_the_recently_used_entries() {
        let map = ExpiringMap::new(TTL, 2);
        let first = map.get_or_insert_with(1, || Arc::new(1));
        map.get_or_insert_with(2, || Arc::new(2));
        assert!(Arc::ptr_eq(&first, &map.get_or_insert_with(1, || Arc::new(3))));
        map.get_or_insert_with(3, || Arc::new(3));
        assert_eq!([1, 2, 3].map(|key| map.contains_key(&key)), [true, false, true]);
        advance(TTL).await;
        assert_eq!(*map.get_or_insert_with(1, || Arc::new(4)), 4);
        assert_eq!(stored(&map), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn removal_is_conditional_and_leaves_nothing_behind() {
        let map = ExpiringMap::new(TTL, 10);
        map.insert(1, "a");
        assert_eq!(map.remove_if(&1, |value| *value == "b"), None);
        assert_eq!(map.remove_if(&1, |value| *value == "a"), Some("a"));
        assert_eq!(stored(&map), (0, 0));
        assert!(map.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_scan_sees_live_entries_only() {
        let map = ExpiringMap::new(TTL, 10);
        map.insert(1, 10);
        advance(TTL).await;
        // Expired, but still stored: removals free nothing else.
        assert_eq!(stored(&map), (1, 1));
        assert_eq!(
            map.scan(|entries| entries.map(|(_, value)| value).sum::<i32>()),
            0
        );
        map.insert(2, 20);
        assert_eq!(map.read(&2, |value| value + 1), Some(21));
        assert_eq!(
            map.scan(|entries| entries.map(|(_, value)| value).sum::<i32>()),
            20
        );
    }

    #[test]
    fn a_map_without_capacity_keeps_nothing() {
        let map = ExpiringMap::new(TTL, 0);
        map.insert(1, 1);
        assert!(map.is_empty());
    }
}
