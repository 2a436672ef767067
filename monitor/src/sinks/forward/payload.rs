//! A payload: items on their way to a target, in requests of bounded size.

use std::collections::VecDeque;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use super::breaker::Breaker;
use super::http::SendError;
use super::item::Item;
use super::metrics;
use super::target::Target;
use crate::status;

/// Approximate limit on the bytes of one request, unless a single item is larger.
const MAX_REQUEST_BYTES: usize = 4 << 20;

/// The outcome of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ItemOutcome {
    /// The target has it.
    Accepted,
    /// The target will never accept it.
    Rejected(String),
    /// The target may accept it later.
    NotYet(String),
}

/// Items and their progress. [`Payload::send_round`] is repeated until [`Payload::is_done`].
#[derive(Debug)]
pub(crate) struct Payload<'a> {
    sink: &'static str,
    items: &'a [Item],
    /// Requests that are neither accepted nor rejected, as indices of their items.
    open: VecDeque<Vec<usize>>,
    /// Items that the target is known to reject.
    known: Vec<(usize, ItemOutcome)>,
}

impl<'a> Payload<'a> {
    /// Divides items into requests. `sink` names the forwarder in metrics and logs.
    pub(crate) fn new(sink: &'static str, items: &'a [Item], target: &impl Target) -> Self {
        let (mut open, mut known) = (VecDeque::new(), Vec::new());
        let (mut request, mut bytes) = (Vec::new(), 0);
        for (index, item) in items.iter().enumerate() {
            if let Some(reason) = target.rejection(item) {
                known.push((index, ItemOutcome::Rejected(reason)));
                continue;
            }
            let full = request.len() >= target.max_request_items() || bytes + item.bytes > MAX_REQUEST_BYTES;
            if full && !request.is_empty() {
                open.push_back(std::mem::take(&mut request));
                bytes = 0;
            }
            request.push(index);
            bytes += item.bytes;
        }
        if !request.is_empty() {
            open.push_back(request);
        }
        Self {
            sink,
            items,
            open,
            known,
        }
    }

    /// Whether every item has an outcome.
    pub(crate) fn is_done(&self) -> bool {
        self.open.is_empty() && self.known.is_empty()
    }

    /// Sends the next requests. Returns the outcomes of items by index, and the delay before the next round if the
    /// target is unavailable.
    ///
    /// Halves a rejected request until single items are left, so that a bad item rejects no other.
    pub(crate) async fn send_round(
        &mut self,
        target: &impl Target,
        breaker: &mut Breaker,
    ) -> (Vec<(usize, ItemOutcome)>, Option<Duration>) {
        let mut outcomes = std::mem::take(&mut self.known);
        let requests = self.next_requests(target, breaker.last_failed());
        let sends = requests.iter().map(|request| self.send(target, request));
        let responses: Vec<Result<(), SendError>> = join_all(sends).await;
        let mut failure: Option<(String, Option<Duration>)> = None;
        let mut responded = false;
        for (request, response) in requests.into_iter().zip(responses) {
            match response {
                Ok(()) => {
                    responded = true;
                    outcomes.extend(request.into_iter().map(|index| (index, ItemOutcome::Accepted)));
                }
                Err(SendError::Rejected(reason)) => {
                    responded = true;
                    self.narrow_down(request, ItemOutcome::Rejected(reason), &mut outcomes);
                }
                Err(SendError::PartlyRejected(reason)) => {
                    responded = true;
                    let reason = match request.len() {
                        1 => reason,
                        items => format!("{reason} (which of its {items} predictions is not known)"),
                    };
                    let rejected = |index| (index, ItemOutcome::Rejected(reason.clone()));
                    outcomes.extend(request.into_iter().map(rejected));
                }
                Err(SendError::NotYet(reason)) => {
                    responded = true;
                    self.narrow_down(request, ItemOutcome::NotYet(reason), &mut outcomes);
                }
                Err(SendError::Unconfirmed(reason)) => {
                    // Each item is tried later, alone. What stands in the target's place may go away.
                    let longest = failure.and_then(|(_, longest)| longest);
                    failure = Some((reason.clone(), longest));
                    self.narrow_down(request, ItemOutcome::NotYet(reason), &mut outcomes);
                }
                Err(SendError::Unavailable {
                    reason, retry_after, ..
                }) => {
                    let longest = failure.and_then(|(_, longest)| longest).max(retry_after);
                    failure = Some((reason, longest));
                    self.open.push_front(request);
                }
            }
        }
        if responded {
            breaker.succeeded();
        }
        let sink = self.sink;
        if responded || failure.is_some() {
            status::attempted(sink, failure.as_ref().map(|(reason, _)| reason.as_str()));
        }
        let delay = failure.map(|(error, retry_after)| {
            let delay = breaker.failed(retry_after);
            metrics::retry(sink);
            let (delay_ms, circuit_open) = (delay.as_millis() as u64, breaker.is_open());
            tracing::warn!(
                sink,
                error,
                delay_ms,
                circuit_open,
                "target unavailable; retrying"
            );
            delay
        });
        metrics::circuit(sink, breaker.is_open());
        (outcomes, delay)
    }

    /// Takes as many requests as may run at once, or a single item if the last round failed.
    fn next_requests(&mut self, target: &impl Target, single_item: bool) -> Vec<Vec<usize>> {
        if !single_item {
            let count = target.concurrency().min(self.open.len());
            return self.open.drain(..count).collect();
        }
        let Some(mut first) = self.open.pop_front() else {
            return vec![];
        };
        let rest = first.split_off(1.min(first.len()));
        if !rest.is_empty() {
            self.open.push_front(rest);
        }
        vec![first]
    }

    async fn send(&self, target: &impl Target, request: &[usize]) -> Result<(), SendError> {
        let items: Vec<&Item> = request.iter().map(|index| &self.items[*index]).collect();
        let start = Instant::now();
        let outcome = target.send(&items).await;
        metrics::request(self.sink, start.elapsed(), &outcome);
        outcome
    }

    /// Records the outcome of a single item. Halves a request of several to find the item it belongs to.
    fn narrow_down(
        &mut self,
        mut request: Vec<usize>,
        outcome: ItemOutcome,
        outcomes: &mut Vec<(usize, ItemOutcome)>,
    ) {
        if let [index] = request[..] {
            outcomes.push((index, outcome));
            return;
        }
        let second = request.split_off(request.len() / 2);
        self.open.push_front(second);
        self.open.push_front(request);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    use proptest::prelude::*;

    use super::super::item::tests::item;
    use super::*;

    /// A target that rejects poisoned items, after a number of failures.
    struct FakeTarget {
        max_items: usize,
        poison: BTreeSet<String>,
        /// Whether the rest of a request with a poisoned item is accepted.
        accepts_parts: bool,
        failures: Mutex<u32>,
        /// Whether a failure is an unreadable confirmation.
        unconfirmed: bool,
        accepted: Mutex<Vec<String>>,
        sizes: Mutex<Vec<usize>>,
    }

    fn fake_target(max_items: usize, poison: &BTreeSet<usize>, failures: u32) -> FakeTarget {
        FakeTarget {
            max_items,
            poison: poison.iter().map(|index| format!("job-{index}")).collect(),
            accepts_parts: false,
            failures: Mutex::new(failures),
            unconfirmed: false,
            accepted: Mutex::default(),
            sizes: Mutex::default(),
        }
    }

    impl Target for FakeTarget {
        fn max_request_items(&self) -> usize {
            self.max_items
        }

        fn concurrency(&self) -> usize {
            3
        }

        fn rejection(&self, item: &Item) -> Option<String> {
            (item.result.id.as_str() == "job-13").then(|| "unlucky".to_owned())
        }

        async fn send(&self, items: &[&Item]) -> Result<(), SendError> {
            self.sizes.lock().unwrap().push(items.len());
            let mut failures = self.failures.lock().unwrap();
            if *failures > 0 {
                *failures -= 1;
                if self.unconfirmed {
                    return Err(SendError::Unconfirmed("a sign-in page".into()));
                }
                return Err(SendError::Unavailable {
                    reason: "away".into(),
                    status: None,
                    retry_after: Some(Duration::from_secs(7)),
                });
            }
            let ids: Vec<String> = items.iter().map(|item| item.result.id.to_string()).collect();
            if ids.iter().any(|id| self.poison.contains(id)) {
                if self.accepts_parts {
                    return Err(SendError::PartlyRejected("1 span".into()));
                }
                return Err(SendError::Rejected("poison".into()));
            }
            self.accepted.lock().unwrap().extend(ids);
            Ok(())
        }
    }

    fn items(count: usize) -> Vec<Item> {
        let one = |index: usize| {
            let mut item = item();
            item.result.id = format!("job-{index}").parse().unwrap();
            item
        };
        (0..count).map(one).collect()
    }

    fn send_all(target: &FakeTarget, items: &[Item]) -> (Vec<(usize, ItemOutcome)>, Vec<Duration>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut breaker = Breaker::new(Duration::from_secs(1));
        let mut payload = Payload::new("test", items, target);
        let (mut outcomes, mut delays) = (vec![], vec![]);
        while !payload.is_done() {
            let (more, delay) = runtime.block_on(payload.send_round(target, &mut breaker));
            outcomes.extend(more);
            delays.extend(delay);
        }
        (outcomes, delays)
    }

    #[test]
    fn requests_are_filled_up_to_their_limits() {
        let target = fake_target(4, &BTreeSet::new(), 0);
        send_all(&target, &items(10));
        assert_eq!(*target.sizes.lock().unwrap(), [4, 4, 2]);
        let mut large = items(4);
        large[1].bytes = MAX_REQUEST_BYTES + 1;
        target.sizes.lock().unwrap().clear();
        send_all(&target, &large);
        assert_eq!(*target.sizes.lock().unwrap(), [1, 1, 2]);
    }

    #[test]
    fn a_failing_target_is_probed_with_one_item_after_its_retry_after() {
        let target = fake_target(8, &BTreeSet::new(), 2);
        let (outcomes, delays) = send_all(&target, &items(8));
        assert_eq!(outcomes.len(), 8);
        assert!(delays.iter().all(|delay| *delay >= Duration::from_secs(7)));
        assert_eq!(*target.sizes.lock().unwrap(), [8, 1, 1, 7]);
    }

    #[test]
    fn an_unconfirmed_item_is_tried_later_and_the_target_is_left_alone() {
        let mut target = fake_target(8, &BTreeSet::new(), 3);
        target.unconfirmed = true;
        let (outcomes, delays) = send_all(&target, &items(8));
        let later: Vec<usize> = outcomes
            .iter()
            .filter(|(_, outcome)| *outcome == ItemOutcome::NotYet("a sign-in page".into()))
            .map(|(index, _)| *index)
            .collect();
        assert_eq!((later, delays.len()), (vec![0, 1], 3));
        assert_eq!(target.accepted.lock().unwrap().len(), 6);
        assert_eq!(target.sizes.lock().unwrap()[..3], [8, 1, 1]);
    }

    #[test]
    fn a_partly_rejected_request_is_not_sent_again() {
        let mut target = fake_target(4, &BTreeSet::from([1]), 0);
        target.accepts_parts = true;
        let (outcomes, delays) = send_all(&target, &items(8));
        let reason = "1 span (which of its 4 predictions is not known)";
        let rejected: Vec<usize> = outcomes
            .iter()
            .filter(|(_, outcome)| *outcome == ItemOutcome::Rejected(reason.into()))
            .map(|(index, _)| *index)
            .collect();
        assert_eq!((rejected, delays), (vec![0, 1, 2, 3], vec![]));
        assert_eq!(*target.sizes.lock().unwrap(), [4, 4]);
    }

    proptest! {
        #[test]
        fn only_poisoned_items_are_rejected_and_the_others_accepted_once(
            count in 1_usize..40,
            max_items in 1_usize..12,
            poison in proptest::collection::btree_set(0_usize..40, 0..6),
            failures in 0_u32..9,
        ) {
            let target = fake_target(max_items, &poison, failures);
            let (outcomes, _) = send_all(&target, &items(count));
            let mut rejected: Vec<usize> = outcomes
                .iter()
                .filter(|(_, outcome)| matches!(outcome, ItemOutcome::Rejected(_)))
                .map(|(index, _)| *index)
                .collect();
            rejected.sort_unstable();
            let bad = |index: &usize| poison.contains(index) || *index == 13;
            prop_assert_eq!(rejected, (0..count).filter(bad).collect::<Vec<_>>());
            prop_assert_eq!(outcomes.len(), count);
            let mut accepted = target.accepted.into_inner().unwrap();
            accepted.sort_unstable();
            let mut good: Vec<String> =
                (0..count).filter(|index| !bad(index)).map(|index| format!("job-{index}")).collect();
            good.sort_unstable();
            prop_assert_eq!(accepted, good);
        }
    }
}
