//! The queue before the compute threads: which request is decoded next.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::{Event, Subscriber};
use crate::error::RowError;
use crate::generate::{Generated, GenerationParams, StopRule};
use crate::model::{Backend, Model, Workspace};

/// How often cheaper requests may overtake the oldest one.
const MAX_OVERTAKES: u32 = 8;
/// Number of waiting requests that are compared.
const WINDOW: usize = 16;

/// Resources that a request needs while it is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Cost {
    /// Decoder rows: its beams.
    pub(super) rows: usize,
    /// Bytes of its KV cache at full length.
    pub(super) bytes: usize,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.rows += other.rows;
        self.bytes += other.bytes;
    }
}

/// The subscribers of one decoding, which may serve several equal requests.
#[derive(Default)]
pub(super) struct Subscribers {
    pub(super) all: Mutex<Vec<Subscriber>>,
    /// Whether a compute thread has taken the request. Written while `all` is locked.
    started: AtomicBool,
}

impl Subscribers {
    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<Subscriber>> {
        self.all.lock()
    }

    /// Notes that a compute thread has taken the request.
    pub(super) fn start(&self) {
        let all = self.lock();
        self.started.store(true, Ordering::Relaxed);
        all.iter().for_each(|subscriber| subscriber.send(Event::Started));
    }

    /// Adds the subscribers of an equal request.
    pub(super) fn join(&self, others: &Self) {
        let mut all = self.lock();
        for subscriber in others.lock().drain(..) {
            if self.started.load(Ordering::Relaxed) {
                subscriber.send(Event::Started);
            }
            all.push(subscriber);
        }
    }

    /// Returns whether every subscriber is gone.
    pub(super) fn all_gone(&self) -> bool {
        self.lock().iter().all(Subscriber::is_gone)
    }
}

/// Identifies equal requests: the ids and all parameters that affect the result.
pub(super) type Key = (Arc<[u32]>, String);

/// Requests in flight that an equal request may join.
#[derive(Default)]
pub(super) struct InFlight(Mutex<HashMap<Key, Arc<Subscribers>>>);

impl InFlight {
    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Subscribers>>> {
        self.0.lock()
    }
}

/// A request's entry in [`InFlight`].
pub(super) struct Joinable {
    pub(super) key: Key,
    pub(super) among: Arc<InFlight>,
}

/// A request that waits or is decoded. Dropping it without a result fails it, so its subscribers always get an answer.
pub(super) struct Ticket {
    pub(super) ids: Arc<[u32]>,
    pub(super) params: GenerationParams,
    /// Seed of the sampling.
    pub(super) seed: u64,
    pub(super) stop: Option<StopRule>,
    /// Entry that equal requests find, if sharing is allowed.
    pub(super) joinable: Option<Joinable>,
    pub(super) subscribers: Arc<Subscribers>,
    pub(super) cost: Cost,
    pub(super) submitted: Instant,
    /// How often other requests overtook it.
    pub(super) passed: u32,
}

impl Ticket {
    /// Sends the result to all subscribers.
    pub(super) fn finish(&self, result: &Result<Generated, RowError>) {
        // Remove the entry first, so that no request joins a finished one.
        if let Some(Joinable { key, among }) = &self.joinable {
            let mut among = among.lock();
            // An equal request may have replaced an abandoned one's entry.
            if among
                .get(key)
                .is_some_and(|own| Arc::ptr_eq(own, &self.subscribers))
            {
                among.remove(key);
            }
        }
        for subscriber in self.subscribers.lock().drain(..) {
            subscriber.send(match result {
                Ok(generated) => {
                    let late = subscriber.submitted.saturating_duration_since(self.submitted);
                    let mut generated = Box::new(generated.clone());
                    generated.timings = generated.timings.since(late);
                    Event::Finished(generated)
                }
                Err(error) => Event::Failed(error.clone()),
            });
        }
    }

    /// Returns whether every subscriber is gone. If so, no request can join it any more.
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
        // A request that finished normally has no subscribers left.
        self.finish(&Err(RowError::Panicked("the request was lost".to_owned())));
    }
}

/// A computation other than decoding, such as encoder states.
pub(super) type Task<B> = Box<dyn FnOnce(&Model<B>, &mut Workspace<B>) + Send>;

/// Limits of one compute thread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) cost: Cost,
    /// Input tokens per prefill.
    pub(super) prefill_tokens: usize,
}

/// A thread's next work.
pub(super) enum Next<B: Backend> {
    /// Continue decoding, with these new requests.
    Decode(Vec<Ticket>),
    /// Run this task first.
    Task(Task<B>),
    /// Exit: all work is done and no more will come.
    Stop,
}

/// The load of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Requests that no compute thread has taken yet.
    pub waiting: usize,
    /// Decoder rows (beams) of all requests that are being decoded.
    pub rows: usize,
    /// Bytes that their KV caches may need.
    pub bytes: usize,
}

struct State<B: Backend> {
    waiting: VecDeque<Ticket>,
    tasks: VecDeque<Task<B>>,
    /// Each thread's use; `None` while it is idle.
    threads: Vec<Option<Cost>>,
    stopped: bool,
}

/// The queue of an engine.
pub(super) struct RequestQueue<B: Backend> {
    state: Mutex<State<B>>,
    changed: Condvar,
    limits: Limits,
}

impl<B: Backend> RequestQueue<B> {
    /// Creates a queue for `threads` threads with these limits each.
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
        self.state.lock()
    }

    /// Adds a request.
    pub(super) fn push(&self, ticket: Ticket) {
        self.lock().waiting.push_back(ticket);
        self.changed.notify_all();
    }

    /// Adds a task for the next thread that asks for work.
    pub(super) fn push_task(&self, task: Task<B>) {
        self.lock().tasks.push_back(task);
        self.changed.notify_all();
    }

    /// Closes the queue: threads exit when all work is done.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    /// Returns the current load.
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

    /// Returns the next work of `thread`, which currently uses `used`. Blocks only if it is idle.
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
            self.changed.wait(&mut state);
            state.threads[thread] = Some(used);
        }
    }

    /// Takes requests that fit, up to one prefill's input tokens.
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
            // Leave it to a less loaded thread, which takes it at its next turn.
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

    /// Chooses the cheapest of the oldest requests, unless the oldest one was overtaken too often.
    fn choose(&self, waiting: &VecDeque<Ticket>, used: Cost) -> Option<usize> {
        let first = waiting.front()?;
        if first.passed >= MAX_OVERTAKES {
            return self.fits(used, first.cost).then_some(0);
        }
        let window = waiting.iter().take(WINDOW).enumerate();
        let fitting = window.filter(|(_, ticket)| self.fits(used, ticket.cost));
        fitting
            .min_by_key(|(place, ticket)| (ticket.cost.bytes, *place))
            .map(|(place, _)| place)
    }

    /// An idle thread takes any request, even one that exceeds the limits.
    fn fits(&self, mut used: Cost, cost: Cost) -> bool {
        if used.rows == 0 {
            return true;
        }
        used += cost;
        used.rows <= self.limits.cost.rows && used.bytes <= self.limits.cost.bytes
    }
}

/// Removes abandoned requests within the window, so that they neither block nor count as overtaken.
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
