//! Items on their way to a receiver: requests of bounded size, a few at a time, and the items that it refuses.

use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

use futures::future::join_all;

use super::breaker::Breaker;
use super::http::SendError;
use super::item::Item;
use super::metrics;

/// Most bytes of one request, roughly, unless a single item is larger.
const MAX_REQUEST_BYTES: usize = 4 << 20;

/// A receiver of items.
pub(crate) trait Target: Send + Sync {
    /// Name in metrics, logs and dead letters.
    fn name(&self) -> &'static str;

    /// Most items that one request takes.
    fn most_in_request(&self) -> usize;

    /// Most requests that are under way at once.
    fn concurrency(&self) -> usize;

    /// Whether an item is anything to this receiver.
    fn wants(&self, _item: &Item) -> bool {
        true
    }

    /// Why the receiver is known to refuse an item, without asking it.
    fn refusal(&self, item: &Item) -> Option<String>;

    /// Sends items in one request. The same items again change nothing at the receiver, so that a request whose answer
    /// got lost can be repeated.
    fn send(&self, items: &[&Item]) -> impl Future<Output = Result<(), SendError>> + Send;
}

/// What became of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The receiver has it.
    Taken,
    /// The receiver will never take it.
    Refused(String),
    /// The receiver may take it later.
    NotYet(String),
}

/// Items and how far they have come. [`Parcel::round`] is repeated until [`Parcel::is_done`].
#[derive(Debug)]
pub(crate) struct Parcel<'a> {
    items: &'a [Item],
    /// Requests that are neither taken nor refused, as indices of their items.
    open: VecDeque<Vec<usize>>,
    /// Items that the receiver is known to refuse.
    known: Vec<(usize, Fate)>,
}

impl<'a> Parcel<'a> {
    /// Divides items into requests.
    pub(crate) fn new(items: &'a [Item], target: &impl Target) -> Self {
        let (mut open, mut known) = (VecDeque::new(), Vec::new());
        let (mut request, mut bytes) = (Vec::new(), 0);
        for (index, item) in items.iter().enumerate() {
            if let Some(reason) = target.refusal(item) {
                known.push((index, Fate::Refused(reason)));
                continue;
            }
            let full = request.len() >= target.most_in_request() || bytes + item.bytes > MAX_REQUEST_BYTES;
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
        Self { items, open, known }
    }

    /// Whether every item has its fate.
    pub(crate) fn is_done(&self) -> bool {
        self.open.is_empty() && self.known.is_empty()
    }

    /// Sends the next requests. The fates of items by their index, and how long to wait before the next round when the
    /// receiver is in trouble.
    ///
    /// A request that is refused is halved until single items are left, so that one which can't be taken hurts no other.
    pub(crate) async fn round(
        &mut self,
        target: &impl Target,
        breaker: &mut Breaker,
    ) -> (Vec<(usize, Fate)>, Option<Duration>) {
        let mut fates = std::mem::take(&mut self.known);
        let requests = self.next_requests(target, breaker.is_in_doubt());
        let sends = requests.iter().map(|request| self.send(target, request));
        let outcomes: Vec<Result<(), SendError>> = join_all(sends).await;
        let mut trouble: Option<(String, Option<Duration>)> = None;
        let mut heard = false;
        for (request, outcome) in requests.into_iter().zip(outcomes) {
            match outcome {
                Ok(()) => {
                    heard = true;
                    fates.extend(request.into_iter().map(|index| (index, Fate::Taken)));
                }
                Err(SendError::Refused(reason)) => {
                    heard = true;
                    self.single_out(request, Fate::Refused(reason), &mut fates);
                }
                Err(SendError::NotYet(reason)) => {
                    heard = true;
                    self.single_out(request, Fate::NotYet(reason), &mut fates);
                }
                Err(SendError::Unavailable {
                    reason, retry_after, ..
                }) => {
                    let longest = trouble.and_then(|(_, longest)| longest).max(retry_after);
                    trouble = Some((reason, longest));
                    self.open.push_front(request);
                }
            }
        }
        if heard {
            breaker.succeeded();
        }
        let pause = trouble.map(|(reason, retry_after)| {
            let pause = breaker.failed(retry_after);
            metrics::retry(target.name());
            let (sink, pause_ms) = (target.name(), pause.as_millis() as u64);
            let circuit_open = breaker.is_open();
            tracing::warn!(
                sink,
                error = reason,
                pause_ms,
                circuit_open,
                "not delivered; trying again"
            );
            pause
        });
        metrics::circuit(target.name(), breaker.is_open());
        (fates, pause)
    }

    /// As many requests as may be under way; a single item when the receiver is in doubt.
    fn next_requests(&mut self, target: &impl Target, in_doubt: bool) -> Vec<Vec<usize>> {
        if !in_doubt {
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
        let begun = Instant::now();
        let outcome = target.send(&items).await;
        metrics::request(target.name(), begun.elapsed(), &outcome);
        outcome
    }

    /// The fate of a single item; a request of several is halved to find out which of them it is.
    fn single_out(&mut self, mut request: Vec<usize>, fate: Fate, fates: &mut Vec<(usize, Fate)>) {
        if let [index] = request[..] {
            fates.push((index, fate));
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

    /// Refuses certain items, and fails a number of times first.
    struct Receiver {
        most: usize,
        poison: BTreeSet<String>,
        failures: Mutex<u32>,
        taken: Mutex<Vec<String>>,
        sizes: Mutex<Vec<usize>>,
    }

    fn receiver(most: usize, poison: &BTreeSet<usize>, failures: u32) -> Receiver {
        Receiver {
            most,
            poison: poison.iter().map(|index| format!("job-{index}")).collect(),
            failures: Mutex::new(failures),
            taken: Mutex::default(),
            sizes: Mutex::default(),
        }
    }

    impl Target for Receiver {
        fn name(&self) -> &'static str {
            "test"
        }

        fn most_in_request(&self) -> usize {
            self.most
        }

        fn concurrency(&self) -> usize {
            3
        }

        fn refusal(&self, item: &Item) -> Option<String> {
            (item.result.id.as_str() == "job-13").then(|| "unlucky".to_owned())
        }

        async fn send(&self, items: &[&Item]) -> Result<(), SendError> {
            self.sizes.lock().unwrap().push(items.len());
            let mut failures = self.failures.lock().unwrap();
            if *failures > 0 {
                *failures -= 1;
                return Err(SendError::Unavailable {
                    reason: "away".into(),
                    status: None,
                    retry_after: Some(Duration::from_secs(7)),
                });
            }
            let ids: Vec<String> = items.iter().map(|item| item.result.id.to_string()).collect();
            if ids.iter().any(|id| self.poison.contains(id)) {
                return Err(SendError::Refused("poison".into()));
            }
            self.taken.lock().unwrap().extend(ids);
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

    fn deliver(receiver: &Receiver, items: &[Item]) -> (Vec<(usize, Fate)>, Vec<Duration>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut breaker = Breaker::new(Duration::from_secs(1));
        let mut parcel = Parcel::new(items, receiver);
        let (mut fates, mut pauses) = (vec![], vec![]);
        while !parcel.is_done() {
            let (more, pause) = runtime.block_on(parcel.round(receiver, &mut breaker));
            fates.extend(more);
            pauses.extend(pause);
        }
        (fates, pauses)
    }

    #[test]
    fn requests_are_full_but_not_larger() {
        let receiver = receiver(4, &BTreeSet::new(), 0);
        deliver(&receiver, &items(10));
        assert_eq!(*receiver.sizes.lock().unwrap(), [4, 4, 2]);
        let mut large = items(4);
        large[1].bytes = MAX_REQUEST_BYTES + 1;
        receiver.sizes.lock().unwrap().clear();
        deliver(&receiver, &large);
        assert_eq!(*receiver.sizes.lock().unwrap(), [1, 1, 2]);
    }

    #[test]
    fn a_receiver_in_doubt_is_asked_with_one_item_and_as_late_as_it_wants() {
        let receiver = receiver(8, &BTreeSet::new(), 2);
        let (fates, pauses) = deliver(&receiver, &items(8));
        assert_eq!(fates.len(), 8);
        assert!(pauses.iter().all(|pause| *pause >= Duration::from_secs(7)));
        assert_eq!(*receiver.sizes.lock().unwrap(), [8, 1, 1, 7]);
    }

    proptest! {
        #[test]
        fn exactly_the_poisoned_items_are_refused_and_the_others_taken_once(
            count in 1_usize..40,
            most in 1_usize..12,
            poison in proptest::collection::btree_set(0_usize..40, 0..6),
            failures in 0_u32..9,
        ) {
            let receiver = receiver(most, &poison, failures);
            let (fates, _) = deliver(&receiver, &items(count));
            let mut refused: Vec<usize> = fates
                .iter()
                .filter(|(_, fate)| matches!(fate, Fate::Refused(_)))
                .map(|(index, _)| *index)
                .collect();
            refused.sort_unstable();
            let bad = |index: &usize| poison.contains(index) || *index == 13;
            prop_assert_eq!(refused, (0..count).filter(bad).collect::<Vec<_>>());
            prop_assert_eq!(fates.len(), count);
            let mut taken = receiver.taken.into_inner().unwrap();
            taken.sort_unstable();
            let mut good: Vec<String> =
                (0..count).filter(|index| !bad(index)).map(|index| format!("job-{index}")).collect();
            good.sort_unstable();
            prop_assert_eq!(taken, good);
        }
    }
}
