//! What is remembered of requests, in memory: idempotency keys, batches of scores.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use precis_runtime::clock;
use precis_schemas::Token;
use tokio::time::Instant;

use crate::queue::{CreateOutcome, Record};

/// How long a record is kept, as in the stream `CALLS`.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// Records by name, each with a revision of its own.
#[derive(Default)]
pub(super) struct Records {
    last_revision: u64,
    by_name: HashMap<Token, Record>,
    /// Revisions rise, so that this is the order of their arrival.
    by_revision: BTreeMap<u64, (Instant, Token)>,
}

impl Records {
    /// Stores a record under a name unless there is one. At most `most` are kept; the oldest go first.
    pub(super) fn create(&mut self, name: &Token, body: Bytes, most: usize) -> CreateOutcome {
        match self.get(name) {
            Some(record) => CreateOutcome::Exists(record),
            None => CreateOutcome::Created(self.store(name, body, most)),
        }
    }

    /// Stores `body` in the place of the record at `revision`, and says where; none when another is there by now.
    pub(super) fn update(&mut self, name: &Token, revision: u64, body: Bytes, most: usize) -> Option<u64> {
        self.get(name).filter(|record| record.revision == revision)?;
        self.by_revision.remove(&revision);
        Some(self.store(name, body, most))
    }

    /// The record of this name.
    pub(super) fn get(&mut self, name: &Token) -> Option<Record> {
        self.forget(usize::MAX);
        self.by_name.get(name).cloned()
    }

    /// Removes the record at `revision`.
    pub(super) fn remove(&mut self, revision: u64) {
        if let Some((_, name)) = self.by_revision.remove(&revision) {
            self.by_name.remove(&name);
        }
    }

    fn store(&mut self, name: &Token, body: Bytes, most: usize) -> u64 {
        self.last_revision += 1;
        let revision = self.last_revision;
        let record = Record {
            body,
            revision,
            stored_at: clock::now(),
        };
        self.by_name.insert(name.clone(), record);
        self.by_revision.insert(revision, (Instant::now(), name.clone()));
        self.forget(most);
        revision
    }

    fn forget(&mut self, most: usize) {
        while let Some((revision, (at, _))) = self.by_revision.first_key_value()
            && (self.by_revision.len() > most || at.elapsed() >= MAX_AGE)
        {
            let revision = *revision;
            self.remove(revision);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Token {
        Token::new("a name", text).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_is_compared_and_set() {
        let mut records = Records::default();
        let a = name("a");
        let CreateOutcome::Created(first) = records.create(&a, "1".into(), 9) else {
            panic!("there was one");
        };
        assert!(
            matches!(records.create(&a, "2".into(), 9), CreateOutcome::Exists(record) if record.body == "1")
        );
        assert!(records.update(&a, first, "3".into(), 9).is_some());
        assert_eq!(records.update(&a, first, "4".into(), 9), None);
        let record = records.get(&a).unwrap();
        assert_eq!(record.body, "3");
        // Who was late removes nothing.
        records.remove(first);
        assert_eq!(records.get(&a), Some(record.clone()));
        records.remove(record.revision);
        assert_eq!(records.get(&a), None);
    }

    #[tokio::test(start_paused = true)]
    async fn records_are_bounded_in_number_and_age() {
        let mut records = Records::default();
        for text in ["a", "b", "c"] {
            records.create(&name(text), Bytes::new(), 2);
        }
        assert_eq!(records.get(&name("a")), None);
        assert!(records.get(&name("b")).is_some());
        tokio::time::advance(MAX_AGE).await;
        assert_eq!(records.get(&name("c")), None);
        assert!(records.by_name.is_empty() && records.by_revision.is_empty());
    }
}
