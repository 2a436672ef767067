//! The rows between the first that is not done and the last that was read.

use std::collections::VecDeque;

use jiff::Timestamp;

use super::journal::RowOutcome;

/// Rows that the window holds for each one that may be in flight. A row that takes long holds up this many others.
const ROWS_PER_FLIGHT: usize = 4;

/// A row in the window.
#[derive(Debug)]
enum Slot {
    /// Its job is on the way to the queue.
    Publishing,
    /// Its job is in the queue and has ended by this time.
    Waiting(Timestamp),
    Done(RowOutcome),
}

/// The rows in work, in their order.
#[derive(Debug)]
pub(super) struct Window {
    /// The first row.
    first: u64,
    slots: VecDeque<Slot>,
    /// The lines on which the rows start.
    lines: VecDeque<u64>,
    /// Rows that are not done.
    in_flight: usize,
    /// Most of them.
    max_in_flight: usize,
    /// The row after which to look for results next.
    cursor: u64,
}

impl Window {
    /// Creates an empty window before row `first`.
    pub(super) fn new(first: u64, max_in_flight: usize) -> Self {
        Self {
            first,
            slots: VecDeque::new(),
            lines: VecDeque::new(),
            in_flight: 0,
            max_in_flight,
            cursor: first,
        }
    }

    /// Returns whether another row may be read.
    pub(super) fn has_room(&self) -> bool {
        self.in_flight < self.max_in_flight && self.slots.len() < self.max_in_flight * ROWS_PER_FLIGHT
    }

    /// Returns whether every row that was read is done and taken.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Adds the next row, which starts on `line` and whose job is being published. Returns its number.
    pub(super) fn add(&mut self, line: u64) -> u64 {
        self.slots.push_back(Slot::Publishing);
        self.lines.push_back(line);
        self.in_flight += 1;
        self.first + self.slots.len() as u64 - 1
    }

    fn slot(&mut self, row: u64) -> Option<&mut Slot> {
        let index = usize::try_from(row.checked_sub(self.first)?).ok()?;
        self.slots.get_mut(index)
    }

    /// Returns the line on which a row starts.
    pub(super) fn line(&self, row: u64) -> u64 {
        let index = row
            .checked_sub(self.first)
            .and_then(|index| usize::try_from(index).ok());
        index
            .and_then(|index| self.lines.get(index).copied())
            .unwrap_or_default()
    }

    /// Notes that a row's job is in the queue.
    pub(super) fn wait(&mut self, row: u64, until: Timestamp) {
        if let Some(slot) = self.slot(row) {
            *slot = Slot::Waiting(until);
        }
    }

    /// Notes how a row ended, unless that is known.
    pub(super) fn end(&mut self, outcome: RowOutcome) {
        if let Some(slot) = self.slot(outcome.row)
            && !matches!(slot, Slot::Done(_))
        {
            *slot = Slot::Done(outcome);
            self.in_flight -= 1;
        }
    }

    /// Takes the first row if it is done.
    pub(super) fn take(&mut self) -> Option<RowOutcome> {
        match self.slots.pop_front()? {
            Slot::Done(outcome) => {
                self.lines.pop_front();
                self.first += 1;
                Some(outcome)
            }
            slot => {
                self.slots.push_front(slot);
                None
            }
        }
    }

    /// Returns up to `count` rows whose jobs are in the queue. Repeated calls go through all of them in turn.
    pub(super) fn next_waiting(&mut self, count: usize) -> Vec<u64> {
        let start = usize::try_from(self.cursor.saturating_sub(self.first)).unwrap_or(0);
        let mut rows = self.waiting_from(start, count);
        if rows.is_empty() {
            rows = self.waiting_from(0, count);
        }
        self.cursor = match rows.last() {
            Some(last) if rows.len() == count => last + 1,
            // At the end. Begin again.
            _ => self.first,
        };
        rows
    }

    fn waiting_from(&self, start: usize, count: usize) -> Vec<u64> {
        let all = self.slots.iter().enumerate().skip(start);
        let waiting = all.filter(|(_, slot)| matches!(slot, Slot::Waiting(_)));
        waiting
            .map(|(index, _)| self.first + index as u64)
            .take(count)
            .collect()
    }

    /// Returns the rows that should have ended before `now`.
    pub(super) fn overdue(&self, now: Timestamp) -> Vec<u64> {
        let all = self.slots.iter().enumerate();
        let overdue = all.filter(|(_, slot)| matches!(slot, Slot::Waiting(until) if *until < now));
        overdue.map(|(index, _)| self.first + index as u64).collect()
    }
}

#[cfg(test)]
mod tests {
    use precis_schemas::Outcome;

    use super::*;

    fn done(row: u64) -> RowOutcome {
        RowOutcome {
            row,
            line: row,
            status: Outcome::Succeeded,
            summary: None,
            error: None,
            scores: None,
        }
    }

    #[test]
    fn rows_leave_in_their_order_and_make_room() {
        let mut window = Window::new(5, 2);
        assert_eq!((window.add(1), window.add(1), window.has_room()), (5, 6, false));
        window.end(done(6));
        // The later row waits for the earlier one, which may be overtaken only so often.
        assert!(window.take().is_none() && window.has_room());
        for row in 7..12 {
            assert_eq!(window.add(1), row);
            window.end(done(row));
        }
        assert!(window.has_room());
        let row = window.add(1);
        window.end(done(row));
        assert!(!window.has_room());
        window.end(done(5));
        window.end(done(5));
        let rows: Vec<u64> = std::iter::from_fn(|| window.take())
            .map(|outcome| outcome.row)
            .collect();
        assert_eq!(rows, [5, 6, 7, 8, 9, 10, 11, 12]);
        assert!(window.is_empty() && window.has_room());
    }

    #[test]
    fn all_waiting_rows_are_looked_for_in_turn() {
        let mut window = Window::new(0, 9);
        let until = Timestamp::UNIX_EPOCH;
        for _ in 0..5 {
            let row = window.add(1);
            window.wait(row, until);
        }
        window.end(done(3));
        assert_eq!(window.next_waiting(2), [0, 1]);
        window.end(done(0));
        assert_eq!(window.take().map(|outcome| outcome.row), Some(0));
        assert_eq!(window.next_waiting(2), [2, 4]);
        assert_eq!(window.next_waiting(2), [1, 2]);
        assert_eq!(window.next_waiting(9), [4]);
        assert_eq!(window.next_waiting(9), [1, 2, 4]);
        assert_eq!(window.overdue(until), Vec::<u64>::new());
        assert_eq!(window.overdue(Timestamp::MAX), [1, 2, 4]);
    }
}
