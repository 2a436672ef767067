//! Records of calls in memory: idempotency keys and batches of scores.

use std::time::Duration;

use bytes::Bytes;
use precis_api::queue::{CreateOutcome, Record};
use precis_runtime::clock;
use precis_runtime::expiring_map::ExpiringMap;
use precis_schemas::Token;

/// How long a record is kept, as in the stream `CALLS`.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// Records by name, each with a unique revision.
pub(crate) struct Records {
    last_revision: u64,
    by_name: ExpiringMap<Token, Record>,
}

impl Records {
    /// Creates an empty table that keeps at most `capacity` records and drops the oldest first.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            last_revision: 0,
            by_name: ExpiringMap::new(MAX_AGE, capacity),
        }
    }

    /// Creates a record, unless the name is taken.
    pub(crate) fn create(&mut self, name: &Token, body: Bytes) -> CreateOutcome {
        match self.by_name.get(name) {
            Some(record) => CreateOutcome::Exists(record),
            None => CreateOutcome::Created(self.store(name, body)),
        }
    }

    /// Replaces the record if it is still at `revision`. Returns the new revision.
    pub(crate) fn update(&mut self, name: &Token, revision: u64, body: Bytes) -> Option<u64> {
        self.get(name).filter(|record| record.revision == revision)?;
        Some(self.store(name, body))
    }

    /// Returns the record of this name.
    pub(crate) fn get(&self, name: &Token) -> Option<Record> {
        self.by_name.get(name)
    }

    /// Removes the record at `revision`.
    pub(crate) fn remove(&mut self, revision: u64) {
        let name = self.by_name.scan(|records| {
            for (name, record) in records {
                if record.revision == revision {
                    return Some(name.clone());
                }
            }
            None
        });
        if let Some(name) = name {
            self.by_name.remove(&name);
        }
    }

    fn store(&mut self, name: &Token, body: Bytes) -> u64 {
        self.last_revision += 1;
        let record = Record {
            body,
            revision: self.last_revision,
            stored_at: clock::now(),
        };
        self.by_name.insert(name.clone(), record);
        self.last_revision
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Token {
        Token::new("a name", text).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn updates_and_removals_need_the_current_revision() {
        let mut records = Records::new(9);
        let a = name("a");
        let CreateOutcome::Created(first) = records.create(&a, "1".into()) else {
            panic!("the name is in use");
        };
        assert!(
            matches!(records.create(&a, "2".into()), CreateOutcome::Exists(record) if record.body == "1")
        );
        assert!(records.update(&a, first, "3".into()).is_some());
        assert_eq!(records.update(&a, first, "4".into()), None);
        let record = records.get(&a).unwrap();
        assert_eq!(record.body, "3");
        records.remove(first);
        assert_eq!(records.get(&a), Some(record.clone()));
        records.remove(record.revision);
        assert_eq!(records.get(&a), None);
    }

    #[tokio::test(start_paused = true)]
    async fn records_are_bounded_in_number_and_age() {
        let mut records = Records::new(2);
        for text in ["a", "b", "c"] {
            records.create(&name(text), Bytes::new());
        }
        assert_eq!(records.get(&name("a")), None);
        assert!(records.get(&name("b")).is_some());
        tokio::time::advance(MAX_AGE).await;
        assert_eq!(records.get(&name("c")), None);
        assert!(matches!(
            records.create(&name("c"), Bytes::new()),
            CreateOutcome::Created(_)
        ));
    }
}
