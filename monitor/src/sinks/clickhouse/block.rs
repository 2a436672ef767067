//! A block of rows on its way into the table, and the rows of it that the table refuses.

use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::row::PredictionRow;

/// Why rows were not inserted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InsertError {
    /// For what is in them: trying again changes nothing.
    #[error("{0}")]
    Refused(String),
    /// For a reason that passes.
    #[error("{0}")]
    Unavailable(String),
}

/// What takes rows.
pub(crate) trait Insert {
    /// For each of `rows`, whether it is there already.
    fn stored(&self, rows: &[PredictionRow]) -> impl Future<Output = Result<Vec<bool>, InsertError>> + Send;
    /// Inserts `rows` as one block. A second insert with the same `token` changes nothing.
    fn insert(
        &self,
        rows: &[PredictionRow],
        token: &str,
    ) -> impl Future<Output = Result<(), InsertError>> + Send;
    /// Has the figures of the minutes of `rows` computed anew.
    fn mark(&self, rows: &[PredictionRow]) -> impl Future<Output = Result<(), InsertError>> + Send;
}

/// Where a row's result stands in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Sequence in the stream.
    pub(crate) sequence: u64,
    /// When it was published, in nanoseconds: tells apart two streams of the same name.
    pub(crate) published_ns: i128,
}

/// A block and how far it has come. [`Block::settle`] can be repeated until it succeeds.
#[derive(Debug)]
pub(crate) struct Block {
    /// Name of what the rows are made of, at the beginning of tokens.
    kind: &'static str,
    /// Whether it is known which rows were stored before, and those are taken out.
    looked_up: bool,
    /// Whether rows may be stored whose insert broke off before their minutes were marked.
    in_doubt: bool,
    rows: Vec<PredictionRow>,
    places: Vec<Place>,
    /// Parts that are neither stored nor refused; the last is next.
    open: Vec<Range<usize>>,
    refused: Vec<(usize, String)>,
    /// Rows that somebody stored before who may not have come to mark their minutes.
    unmarked: Vec<PredictionRow>,
}

impl Block {
    /// A block of rows with their places, of equal number. Rows that are stored already are left out.
    pub(crate) fn new(kind: &'static str, rows: Vec<PredictionRow>, places: Vec<Place>) -> Self {
        debug_assert_eq!(rows.len(), places.len());
        let whole = 0..rows.len();
        Self {
            kind,
            looked_up: false,
            in_doubt: false,
            rows,
            places,
            open: if whole.is_empty() { vec![] } else { vec![whole] },
            refused: vec![],
            unmarked: vec![],
        }
    }

    /// A block of rows that are all to be stored, whether or not there are others of the same predictions.
    pub(crate) fn of_new(kind: &'static str, rows: Vec<PredictionRow>, places: Vec<Place>) -> Self {
        Self {
            looked_up: true,
            ..Self::new(kind, rows, places)
        }
    }

    /// The block, with which the minutes of `rows` are marked: they are stored, and it is not known whether that was done.
    pub(crate) fn with_unmarked(self, rows: Vec<PredictionRow>) -> Self {
        Self {
            unmarked: rows,
            ..self
        }
    }

    /// Which kind of a block it is.
    pub(crate) fn kind(&self) -> &'static str {
        self.kind
    }

    /// Takes out what was stored before this process had it.
    async fn look_up(&mut self, table: &impl Insert) -> Result<(), InsertError> {
        if self.looked_up || self.rows.is_empty() {
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
        self.looked_up = true;
        Ok(())
    }

    /// Inserts what is open. A part that is refused is halved until single rows are left, so that a row
    /// which can't be stored hurts no other.
    ///
    /// A server that dies in the middle of an insert may keep the rows and not the marks of their minutes; the same
    /// insert again then changes nothing. So minutes are marked once more after any failure.
    ///
    /// # Errors
    /// When the table can't be reached; what is stored by then is not tried again.
    pub(crate) async fn settle(&mut self, table: &impl Insert) -> Result<(), InsertError> {
        self.look_up(table).await?;
        while let Some(part) = self.open.last().cloned() {
            let token = token(self.kind, &self.places[part.clone()]);
            match table.insert(&self.rows[part.clone()], &token).await {
                Ok(()) => {
                    self.open.pop();
                }
                Err(InsertError::Refused(reason)) => {
                    self.open.pop();
                    if part.len() == 1 {
                        self.refused.push((part.start, reason));
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

    /// Rows that the table refuses by themselves: their index and the reason, in order.
    pub(crate) fn refused(&self) -> &[(usize, String)] {
        &self.refused
    }
}

/// Names a part of the stream: the same results in the same order always get the same token.
fn token(kind: &str, places: &[Place]) -> String {
    let mut hash = Sha256::new();
    for place in places {
        hash.update(place.sequence.to_le_bytes());
        hash.update(place.published_ns.to_le_bytes());
    }
    let digest: String = hash
        .finalize()
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let first = places.first().map_or(0, |place| place.sequence);
    let last = places.last().map_or(0, |place| place.sequence);
    format!("{kind}-{first}-{last}-{}-{digest}", places.len())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    use proptest::prelude::*;

    use super::*;
    use crate::row::Scorer;
    use crate::row::Stored;
    use crate::row::Texts;

    /// Refuses rows with certain sequences, and fails a number of times first.
    #[derive(Default)]
    struct Table {
        poison: BTreeSet<u64>,
        before: BTreeSet<u64>,
        failures: Mutex<u32>,
        stored: Mutex<Vec<u64>>,
        tokens: Mutex<Vec<String>>,
        marked: Mutex<usize>,
    }

    impl Insert for Table {
        async fn stored(&self, rows: &[PredictionRow]) -> Result<Vec<bool>, InsertError> {
            let stored = |row: &PredictionRow| self.before.contains(&row.result_sequence);
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
                return Err(InsertError::Refused("poison".into()));
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
        let now = precis_runtime::clock::now();
        let scorer = Scorer::default();
        let texts = Texts::of(&precis_runtime::config::MonitorConfig::default());
        let rows = sequences
            .clone()
            .map(|sequence| crate::row::build(&result, Stored { sequence, at: now }, &scorer, texts));
        Block::new("results", rows.collect(), sequences.map(place).collect())
    }

    fn place(sequence: u64) -> Place {
        Place {
            sequence,
            published_ns: 1_000 + i128::from(sequence),
        }
    }

    fn settle(block: &mut Block, table: &Table) -> Result<(), InsertError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(block.settle(table))
    }

    #[test]
    fn a_block_is_one_insert_and_an_empty_one_is_none() {
        let table = Table::default();
        settle(&mut block(1..9), &table).unwrap();
        settle(&mut block(1..1), &table).unwrap();
        assert_eq!(table.tokens.lock().unwrap().len(), 1);
        assert_eq!(*table.stored.lock().unwrap(), (1..9).collect::<Vec<_>>());
    }

    #[test]
    fn a_block_that_is_tried_again_keeps_its_token() {
        let table = Table {
            failures: Mutex::new(2),
            ..Table::default()
        };
        let mut block = block(1..9);
        assert!(settle(&mut block, &table).is_err());
        assert!(settle(&mut block, &table).is_err());
        settle(&mut block, &table).unwrap();
        let tokens: BTreeSet<String> = table.tokens.into_inner().unwrap().into_iter().collect();
        assert_eq!(tokens.len(), 1);
    }

    #[test]
    fn minutes_are_marked_once_more_only_after_a_failure() {
        let marked = |table: Table| {
            let mut block = block(1..9);
            while settle(&mut block, &table).is_err() {}
            table.marked.into_inner().unwrap()
        };
        assert_eq!(marked(Table::default()), 0);
        let failing = Table {
            failures: Mutex::new(3),
            ..Table::default()
        };
        assert_eq!(marked(failing), 8);
        let known = Table {
            before: (1..9).collect(),
            ..Table::default()
        };
        assert_eq!(marked(known), 8);
    }

    #[test]
    fn minutes_of_rows_that_are_stored_already_are_marked_with_a_block() {
        let table = Table::default();
        let stored = block(1..4).rows;
        let mut of_new = Block::of_new("references", vec![], vec![]).with_unmarked(stored);
        settle(&mut of_new, &table).unwrap();
        settle(&mut of_new, &table).unwrap();
        assert_eq!(*table.marked.lock().unwrap(), 3);
        assert!(table.stored.into_inner().unwrap().is_empty());
    }

    #[test]
    fn a_token_names_the_results_and_the_stream() {
        let places: Vec<Place> = [3, 5, 9].map(place).into();
        let whole = token("results", &places);
        assert!(whole.starts_with("results-3-9-3-"), "{whole}");
        assert_eq!(whole, token("results", &places));
        assert_ne!(whole, token("results", &[3, 4, 9].map(place)));
        let mut other_stream = places;
        other_stream[1].published_ns += 1;
        assert_ne!(whole, token("results", &other_stream));
    }

    #[test]
    fn what_was_stored_before_is_left_out() {
        for before in [vec![1, 2, 3], vec![8], vec![1, 4, 5, 8], (1..9).collect()] {
            let table = Table {
                before: before.iter().copied().collect(),
                ..Table::default()
            };
            settle(&mut block(1..9), &table).unwrap();
            let fresh: Vec<u64> = (1..9).filter(|sequence| !before.contains(sequence)).collect();
            assert_eq!(*table.stored.lock().unwrap(), fresh);
        }
    }

    proptest! {
        #[test]
        fn exactly_the_poisoned_rows_are_refused_and_the_others_stored_once(
            count in 1_u64..40,
            poison in proptest::collection::btree_set(0_u64..40, 0..6),
            failures in 0_u32..4,
        ) {
            let table = Table { poison: poison.clone(), failures: Mutex::new(failures), ..Table::default() };
            let mut block = block(0..count);
            for _ in 0..failures {
                prop_assert!(settle(&mut block, &table).is_err());
            }
            settle(&mut block, &table).unwrap();
            let refused: Vec<u64> = block.refused().iter().map(|(index, _)| *index as u64).collect();
            let expected: Vec<u64> = poison.iter().copied().filter(|sequence| *sequence < count).collect();
            prop_assert_eq!(refused, expected);
            let good: Vec<u64> = (0..count).filter(|sequence| !poison.contains(sequence)).collect();
            prop_assert_eq!(table.stored.into_inner().unwrap(), good);
        }
    }
}
