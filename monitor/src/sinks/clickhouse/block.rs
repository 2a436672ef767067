//! A block: rows that are inserted together, and the rows that ClickHouse rejects.

use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::consumer::StreamPosition;
use crate::row::PredictionRow;

/// Why rows were not inserted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InsertError {
    /// ClickHouse rejects their content. Retrying changes nothing.
    #[error("{0}")]
    Rejected(String),
    /// A temporary failure.
    #[error("{0}")]
    Unavailable(String),
}

/// A table that rows are inserted into.
pub(crate) trait Insert {
    /// Returns for each row whether the table has it.
    fn stored(&self, rows: &[PredictionRow]) -> impl Future<Output = Result<Vec<bool>, InsertError>> + Send;
    /// Inserts `rows` as one block. A second insert with the same `token` has no effect.
    fn insert(
        &self,
        rows: &[PredictionRow],
        token: &str,
    ) -> impl Future<Output = Result<(), InsertError>> + Send;
    /// Marks the minutes of `rows`, so that their rollups are recomputed.
    fn mark(&self, rows: &[PredictionRow]) -> impl Future<Output = Result<(), InsertError>> + Send;
}

/// A block and its progress. [`Block::insert_into`] can be repeated until it succeeds.
#[derive(Debug)]
pub(crate) struct Block {
    /// `results` or `references`: the source of the rows, and the prefix of the deduplication token.
    kind: &'static str,
    /// Whether rows that are already stored have been removed.
    stored_removed: bool,
    /// Whether an insert may have stored rows without marking their minutes.
    in_doubt: bool,
    rows: Vec<PredictionRow>,
    positions: Vec<StreamPosition>,
    /// Ranges of rows that are neither stored nor rejected. The last one is next.
    open: Vec<Range<usize>>,
    rejected: Vec<(usize, String)>,
    /// Rows that an earlier process stored, perhaps without marking their minutes.
    unmarked: Vec<PredictionRow>,
}

impl Block {
    /// Creates a block of rows and their equally many positions. Rows that the table has are left out.
    pub(crate) fn new(kind: &'static str, rows: Vec<PredictionRow>, positions: Vec<StreamPosition>) -> Self {
        debug_assert_eq!(rows.len(), positions.len());
        let whole = 0..rows.len();
        Self {
            kind,
            stored_removed: false,
            in_doubt: false,
            rows,
            positions,
            open: if whole.is_empty() { vec![] } else { vec![whole] },
            rejected: vec![],
            unmarked: vec![],
        }
    }

    /// Creates a block of new versions: all rows are inserted, even if the table has other versions of them.
    pub(crate) fn of_versions(
        kind: &'static str,
        rows: Vec<PredictionRow>,
        positions: Vec<StreamPosition>,
    ) -> Self {
        Self {
            stored_removed: true,
            ..Self::new(kind, rows, positions)
        }
    }

    /// Adds stored rows whose minutes may not have been marked.
    pub(crate) fn with_unmarked(self, rows: Vec<PredictionRow>) -> Self {
        Self {
            unmarked: rows,
            ..self
        }
    }

    /// Returns the source of the rows: `results` or `references`.
    pub(crate) fn kind(&self) -> &'static str {
        self.kind
    }

    /// Leaves out rows that the table has.
    async fn remove_stored(&mut self, table: &impl Insert) -> Result<(), InsertError> {
        if self.stored_removed || self.rows.is_empty() {
            return Ok(());
        }
        let stored = table.stored(&self.rows).await?;
        let mut open: Vec<Range<usize>> = Vec::new();
        for (index, _) in stored.iter().enumerate().filter(|(_, stored)| !**stored) {
            match open.last_mut() {
                Some(part) if part.end == index => part.end += 1,
                _ => open.push(index..index + 1),
            }
        }
        open.reverse();
        self.in_doubt |= stored.contains(&true);
        self.open = open;
        self.stored_removed = true;
        Ok(())
    }

    /// Inserts the open rows. Halves a rejected range until single rows are left, so that a bad row rejects no other.
    ///
    /// A server that dies during an insert may store the rows without marking their minutes. Repeating the insert then
    /// has no effect, so the minutes are marked again after every failure.
    ///
    /// # Errors
    /// When the table is unavailable. Rows that are stored by then are not inserted again.
    pub(crate) async fn insert_into(&mut self, table: &impl Insert) -> Result<(), InsertError> {
        self.remove_stored(table).await?;
        while let Some(part) = self.open.last().cloned() {
            let token = token(self.kind, &self.positions[part.clone()]);
            match table.insert(&self.rows[part.clone()], &token).await {
                Ok(()) => {
                    self.open.pop();
                }
                Err(InsertError::Rejected(reason)) => {
                    self.open.pop();
                    if part.len() == 1 {
                        self.rejected.push((part.start, reason));
                    } else {
                        let middle = part.start + part.len() / 2;
                        self.open.push(middle..part.end);
                        self.open.push(part.start..middle);
                    }
                }
                Err(unavailable) => {
                    self.in_doubt = true;
                    return Err(unavailable);
                }
            }
        }
        if self.in_doubt {
            table.mark(&self.rows).await?;
            self.in_doubt = false;
        }
        if !self.unmarked.is_empty() {
            table.mark(&self.unmarked).await?;
            self.unmarked.clear();
        }
        Ok(())
    }

    /// Returns the index of each rejected row and the reason, in order.
    pub(crate) fn rejected(&self) -> &[(usize, String)] {
        &self.rejected
    }
}

/// Returns the deduplication token of a range: the same messages in the same order always get the same token.
fn token(kind: &str, positions: &[StreamPosition]) -> String {
    let mut hash = Sha256::new();
    for position in positions {
        hash.update(position.sequence.to_le_bytes());
        hash.update(position.published_at.as_nanosecond().to_le_bytes());
    }
    let digest: String = hash
        .finalize()
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let first = positions.first().map_or(0, |position| position.sequence);
    let last = positions.last().map_or(0, |position| position.sequence);
    format!("{kind}-{first}-{last}-{}-{digest}", positions.len())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    use jiff::{SignedDuration, Timestamp};
    use proptest::prelude::*;

    use super::*;
    use crate::row::{Scorer, TextFilter};

    /// A fake table: its first inserts fail, then it rejects poisoned rows.
    #[derive(Default)]
    struct Table {
        poison: BTreeSet<u64>,
        already_stored: BTreeSet<u64>,
        failures: Mutex<u32>,
        stored: Mutex<Vec<u64>>,
        tokens: Mutex<Vec<String>>,
        marked: Mutex<usize>,
    }

    impl Insert for Table {
        async fn stored(&self, rows: &[PredictionRow]) -> Result<Vec<bool>, InsertError> {
            let stored = |row: &PredictionRow| self.already_stored.contains(&row.result_sequence);
            Ok(rows.iter().map(stored).collect())
        }

        async fn insert(&self, rows: &[PredictionRow], token: &str) -> Result<(), InsertError> {
            self.tokens.lock().unwrap().push(token.to_owned());
            let mut failures = self.failures.lock().unwrap();
            if *failures > 0 {
                *failures -= 1;
                return Err(InsertError::Unavailable("away".into()));
            }
            if rows.iter().any(|row| self.poison.contains(&row.result_sequence)) {
                return Err(InsertError::Rejected("poison".into()));
            }
            let mut stored = self.stored.lock().unwrap();
            stored.extend(rows.iter().map(|row| row.result_sequence));
            Ok(())
        }

        async fn mark(&self, rows: &[PredictionRow]) -> Result<(), InsertError> {
            *self.marked.lock().unwrap() += rows.len();
            Ok(())
        }
    }

    fn block(sequences: Range<u64>) -> Block {
        let json = include_str!("../../../../schemas/wire/v1/result.succeeded.json");
        let result = serde_json::from_str(json).unwrap();
        let scorer = Scorer::default();
        let texts = TextFilter::new(&precis_runtime::config::MonitorConfig::default());
        let rows = sequences
            .clone()
            .map(|sequence| crate::row::build(&result, position(sequence), &scorer, texts));
        Block::new("results", rows.collect(), sequences.map(position).collect())
    }

    fn position(sequence: u64) -> StreamPosition {
        StreamPosition {
            sequence,
            published_at: Timestamp::from_nanosecond(1_000 + i128::from(sequence)).unwrap(),
        }
    }

    fn insert(block: &mut Block, table: &Table) -> Result<(), InsertError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(block.insert_into(table))
    }

    #[test]
    fn a_block_is_one_insert_and_an_empty_block_is_none() {
        let table = Table::default();
        insert(&mut block(1..9), &table).unwrap();
        insert(&mut block(1..1), &table).unwrap();
        assert_eq!(table.tokens.lock().unwrap().len(), 1);
        assert_eq!(*table.stored.lock().unwrap(), (1..9).collect::<Vec<_>>());
    }

    #[test]
    fn a_retried_block_keeps_its_token() {
        let table = Table {
            failures: Mutex::new(2),
            ..Table::default()
        };
        let mut block = block(1..9);
        assert!(insert(&mut block, &table).is_err());
        assert!(insert(&mut block, &table).is_err());
        insert(&mut block, &table).unwrap();
        let tokens: BTreeSet<String> = table.tokens.into_inner().unwrap().into_iter().collect();
        assert_eq!(tokens.len(), 1);
    }

    #[test]
    fn minutes_are_marked_again_only_after_a_failure() {
        let marked = |table: Table| {
            let mut block = block(1..9);
            while insert(&mut block, &table).is_err() {}
            table.marked.into_inner().unwrap()
        };
        assert_eq!(marked(Table::default()), 0);
        let failing = Table {
            failures: Mutex::new(3),
            ..Table::default()
        };
        assert_eq!(marked(failing), 8);
        let known = Table {
            already_stored: (1..9).collect(),
            ..Table::default()
        };
        assert_eq!(marked(known), 8);
    }

    #[test]
    fn minutes_of_unmarked_rows_are_marked_once() {
        let table = Table::default();
        let stored = block(1..4).rows;
        let mut block = Block::of_versions("references", vec![], vec![]).with_unmarked(stored);
        insert(&mut block, &table).unwrap();
        insert(&mut block, &table).unwrap();
        assert_eq!(*table.marked.lock().unwrap(), 3);
        assert!(table.stored.into_inner().unwrap().is_empty());
    }

    #[test]
    fn a_token_identifies_the_results_and_the_stream() {
        let positions: Vec<StreamPosition> = [3, 5, 9].map(position).into();
        let whole = token("results", &positions);
        assert!(whole.starts_with("results-3-9-3-"), "{whole}");
        assert_eq!(whole, token("results", &positions));
        assert_ne!(whole, token("results", &[3, 4, 9].map(position)));
        let mut other_stream = positions;
        other_stream[1].published_at += SignedDuration::from_nanos(1);
        assert_ne!(whole, token("results", &other_stream));
    }

    #[test]
    fn stored_rows_are_left_out() {
        for already_stored in [vec![1, 2, 3], vec![8], vec![1, 4, 5, 8], (1..9).collect()] {
            let table = Table {
                already_stored: already_stored.iter().copied().collect(),
                ..Table::default()
            };
            insert(&mut block(1..9), &table).unwrap();
            let fresh: Vec<u64> = (1..9)
                .filter(|sequence| !already_stored.contains(sequence))
                .collect();
            assert_eq!(*table.stored.lock().unwrap(), fresh);
        }
    }

    proptest! {
        #[test]
        fn only_poisoned_rows_are_rejected_and_the_others_are_stored_once(
            count in 1_u64..40,
            poison in proptest::collection::btree_set(0_u64..40, 0..6),
            failures in 0_u32..4,
        ) {
            let table = Table { poison: poison.clone(), failures: Mutex::new(failures), ..Table::default() };
            let mut block = block(0..count);
            for _ in 0..failures {
                prop_assert!(insert(&mut block, &table).is_err());
            }
            insert(&mut block, &table).unwrap();
            let rejected: Vec<u64> = block.rejected().iter().map(|(index, _)| *index as u64).collect();
            let expected: Vec<u64> = poison.iter().copied().filter(|sequence| *sequence < count).collect();
            prop_assert_eq!(rejected, expected);
            let good: Vec<u64> = (0..count).filter(|sequence| !poison.contains(sequence)).collect();
            prop_assert_eq!(table.stored.into_inner().unwrap(), good);
        }
    }
}
