//! Requests that wait for a compute thread, and which of them goes next.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::{Event, Subscriber};
use crate::error::RowError;
use crate::generate::{Generated, GenerationParams, StopRule};
use crate::model::{Backend, T5Model, Workspace};

/// A cheaper request may go before others this often until the one that waits longest has its turn.
const MOST_PASSES: u32 = 8;
/// Waiting requests that are compared.
const WINDOW: usize = 16;

/// What a request takes while it is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Cost {
    /// Decoder rows: its beams.
    pub(super) rows: usize,
    /// Bytes of its caches when it is longest.
    pub(super) bytes: usize,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.rows += other.rows;
        self.bytes += other.bytes;
    }
}

/// Whoever waits for one request, or for several equal ones that are decoded once.
#[derive(Default)]
pub(super) struct Subscribers(pub(super) Mutex<Vec<Subscriber>>);

impl Subscribers {
    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<Subscriber>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody waits any more.
    pub(super) fn all_gone(&self) -> bool {
        self.lock().iter().all(Subscriber::is_gone)
    }
}

/// What makes requests equal: the ids and everything that has a say in the result.
pub(super) type Key = (Arc<[u32]>, String);

/// Requests that an equal one may join.
#[derive(Default)]
pub(super) struct InFlight(Mutex<HashMap<Key, Arc<Subscribers>>>);

impl InFlight {
    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Subscribers>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a request among those in flight.
pub(super) struct Joinable {
    pub(super) key: Key,
    pub(super) among: Arc<InFlight>,
}

/// A request that waits, or is decoded. However it goes, those who wait for it are told: one that is dropped without a
/// result has failed.
pub(super) struct Ticket {
    pub(super) ids: Arc<[u32]>,
    pub(super) params: GenerationParams,
    /// Seed of sampling.
    pub(super) seed: u64,
    pub(super) stop: Option<StopRule>,
    /// Where equal ones find it, if they may.
    pub(super) joinable: Option<Joinable>,
    pub(super) subscribers: Arc<Subscribers>,
    pub(super) cost: Cost,
    pub(super) submitted: Instant,
    /// How often another went before it.
    pub(super) passed: u32,
}

impl Ticket {
    /// Tells everybody who waits how it ended.
    pub(super) fn finish(&self, result: &Result<Generated, RowError>) {
        // From now on nobody can join.
        if let Some(Joinable { key, among }) = &self.joinable {
            let mut among = among.lock();
            // An equal one may have taken the place of one that was abandoned.
            if among
                .get(key)
                .is_some_and(|own| Arc::ptr_eq(own, &self.subscribers))
            {
                among.remove(key);
            }
        }
        for subscriber in self.subscribers.lock().drain(..) {
            subscriber.send(match result {
                Ok(generated) => Event::Finished(Box::new(generated.clone())),
                Err(error) => Event::Failed(error.clone()),
            });
        }
    }

    /// Whether nobody waits for it; if so, nobody can join it any more.
    pub(super) fn is_abandoned(&self) -> bool {
        let Some(Joinable { key, among }) = &self.joinable else {
            return self.subscribers.all_gone();
        };
        let mut among = among.lock();
        let gone = self.subscribers.all_gone();
        if gone
            && among
                .get(key)
                .is_some_and(|own| Arc::ptr_eq(own, &self.subscribers))
        {
            among.remove(key);
        }
        gone
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // Nobody is left of one that has ended as it should.
        self.finish(&Err(RowError::Panicked("the request was lost".to_owned())));
    }
}

/// Something to compute besides: a look into the model.
pub(super) type Task<B> = Box<dyn FnOnce(&T5Model<B>, &mut Workspace<B>) + Send>;

/// Bounds of what a compute thread has in hand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) cost: Cost,
    /// Input tokens that are read at once.
    pub(super) prefill_tokens: usize,
}

/// What a thread is to do next.
pub(super) enum Next<B: Backend> {
    /// Go on with what it has, and with these.
    Decode(Vec<Ticket>),
    /// This first.
    Task(Task<B>),
    /// Nothing is left, and nothing will come.
    Stop,
}

/// How busy an engine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Requests that no compute thread has taken up yet.
    pub waiting: usize,
    /// Decoder rows (beams) of all requests that are being decoded.
    pub rows: usize,
    /// Bytes that those may come to take for their caches.
    pub bytes: usize,
}

struct State<B: Backend> {
    waiting: VecDeque<Ticket>,
    tasks: VecDeque<Task<B>>,
    /// What each thread has in hand; nothing if it waits for work.
    threads: Vec<Option<Cost>>,
    stopped: bool,
}

/// The queue of an engine.
pub(super) struct Queue<B: Backend> {
    state: Mutex<State<B>>,
    changed: Condvar,
    limits: Limits,
}

impl<B: Backend> Queue<B> {
    /// For so many threads with these limits each.
    pub(super) fn new(threads: usize, limits: Limits) -> Self {
        Self {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                tasks: VecDeque::new(),
                threads: vec![Some(Cost::default()); threads],
                stopped: false,
            }),
            changed: Condvar::new(),
            limits,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<B>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a request.
    pub(super) fn push(&self, ticket: Ticket) {
        self.lock().waiting.push_back(ticket);
        self.changed.notify_all();
    }

    /// Adds a task; the next thread that looks does it.
    pub(super) fn push_task(&self, task: Task<B>) {
        self.lock().tasks.push_back(task);
        self.changed.notify_all();
    }

    /// No more will come: threads end when everything is done.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    /// How busy the threads are.
    pub(super) fn load(&self) -> Load {
        let state = self.lock();
        let mut load = Load {
            waiting: state.waiting.len(),
            ..Load::default()
        };
        for cost in state.threads.iter().flatten() {
            load.rows += cost.rows;
            load.bytes += cost.bytes;
        }
        load
    }

    /// What `thread`, which has `used` in hand, is to do next. Waits only if it has nothing.
    pub(super) fn next(&self, thread: usize, used: Cost) -> Next<B> {
        let mut state = self.lock();
        state.threads[thread] = Some(used);
        loop {
            if let Some(task) = state.tasks.pop_front() {
                return Next::Task(task);
            }
            let tickets = self.take(&mut state, thread);
            if used.rows > 0 || !tickets.is_empty() {
                return Next::Decode(tickets);
            }
            if state.stopped && state.waiting.is_empty() {
                return Next::Stop;
            }
            state.threads[thread] = None;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.threads[thread] = Some(used);
        }
    }

    /// Takes what fits, up to the input tokens that are read at once.
    fn take(&self, state: &mut State<B>, thread: usize) -> Vec<Ticket> {
        let mut taken = Vec::new();
        let mut tokens = 0;
        drop_abandoned(&mut state.waiting);
        while tokens < self.limits.prefill_tokens {
            let used = state.threads[thread].unwrap_or_default();
            let Some(place) = self.choose(&state.waiting, used) else {
                break;
            };
            let ticket = &state.waiting[place];
            let others = || {
                let others = state.threads.iter().enumerate();
                others.filter(|(other, _)| *other != thread).map(|(_, used)| used)
            };
            // Another thread that would still have less than this one takes it as soon as it looks.
            let rather = |other: &Option<Cost>| match other {
                None => used.rows > 0,
                Some(other) => other.rows + ticket.cost.rows <= used.rows && self.fits(*other, ticket.cost),
            };
            if others().any(rather) {
                break;
            }
            state
                .waiting
                .iter_mut()
                .take(place)
                .for_each(|ticket| ticket.passed += 1);
            let Some(ticket) = state.waiting.remove(place) else {
                break;
            };
            tokens += ticket.ids.len();
            if let Some(used) = &mut state.threads[thread] {
                *used += ticket.cost;
            }
            taken.push(ticket);
        }
        taken
    }

    /// The cheapest of the requests that wait longest, unless the first of them was passed too often already.
    fn choose(&self, waiting: &VecDeque<Ticket>, used: Cost) -> Option<usize> {
        let first = waiting.front()?;
        if first.passed >= MOST_PASSES {
            return self.fits(used, first.cost).then_some(0);
        }
        let window = waiting.iter().take(WINDOW).enumerate();
        let fitting = window.filter(|(_, ticket)| self.fits(used, ticket.cost));
        fitting
            .min_by_key(|(place, ticket)| (ticket.cost.bytes, *place))
            .map(|(place, _)| place)
    }

    /// A thread that has nothing takes anything: a request that is too large for the limits must be done too.
    fn fits(&self, mut used: Cost, cost: Cost) -> bool {
        if used.rows == 0 {
            return true;
        }
        used += cost;
        used.rows <= self.limits.cost.rows && used.bytes <= self.limits.cost.bytes
    }
}

/// Takes out those that nobody waits for, as far as choosing looks: they are in nobody's way, and pass for nothing.
fn drop_abandoned(waiting: &mut VecDeque<Ticket>) {
    let mut place = 0;
    while place < waiting.len().min(WINDOW) {
        match waiting[place].is_abandoned() {
            true => drop(waiting.remove(place)),
            false => place += 1,
        }
    }
}

#[cfg(test)]
mod tests;
