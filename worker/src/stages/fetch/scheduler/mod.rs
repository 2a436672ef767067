//! Decides which lane and tenant a worker serves next. No I/O.
//!
//! Lanes share the worker by stride scheduling: each job moves its lane's pass forward by the inverse of the lane's
//! weight, and the lane with the lowest pass is served next. Tenants of a lane take turns, one job each. A lane or
//! tenant that had no jobs for a while gains no credit by it.
//!
//! The scheduler works on estimates of what waits in the queue. Each delivered message says how many more there are,
//! and the server announces new jobs. A pull that ends without a message corrects an estimate that was too high.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use precis_runtime::clock::Instant;
use precis_schemas::{Lane, Token};

/// The pass that a lane of weight 1 gains with each job; a multiple of every weight.
const STRIDE: u64 = 8;
/// Tenants of a lane that keep a pull open while the worker has room: those with the latest jobs.
const MAX_STANDING: usize = 16;
/// How long after its latest job a tenant keeps a pull open. The latest tenant of a lane keeps it for ever.
const STANDING_AGE: Duration = Duration::from_secs(60);

/// A pull to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PullOrder {
    pub(super) lane: Lane,
    pub(super) tenant: Token,
    /// Maximum number of messages.
    pub(super) count: usize,
    /// Whether the pull waits for messages. Otherwise it ends at once when the queue has no more.
    pub(super) waits: bool,
}

/// How a pull ended before it delivered its maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PullEnd {
    /// The queue has no more messages.
    Empty,
    /// The server could not be asked.
    Failed,
}

struct OpenPull {
    /// Messages still to come.
    left: usize,
    waits: bool,
}

#[derive(Default)]
struct Tenant {
    /// Estimated number of jobs that wait in the queue.
    backlog: u64,
    /// Jobs that were announced while a pull was open.
    announced: u64,
    pull: Option<OpenPull>,
    /// Whether the tenant is in its lane's turns.
    has_turn: bool,
}

struct LaneState<M> {
    lane: Lane,
    pass: u64,
    tenants: HashMap<Token, Tenant>,
    /// Tenants with a backlog and no open pull, next one first.
    turns: VecDeque<Token>,
    /// Messages that have arrived.
    ready: VecDeque<M>,
    /// Messages that open pulls without a wait may still deliver.
    expected: usize,
    /// Tenants with recent jobs, latest first.
    recent: VecDeque<(Token, Instant)>,
}

impl<M> LaneState<M> {
    fn stride(&self) -> u64 {
        STRIDE / u64::from(self.lane.weight())
    }

    fn is_idle(&self) -> bool {
        self.ready.is_empty() && self.expected == 0 && self.turns.is_empty()
    }

    /// Gives the tenant a turn if it has a backlog that no open pull fetches.
    fn enqueue(&mut self, name: &Token) {
        let Some(tenant) = self.tenants.get_mut(name) else {
            return;
        };
        if tenant.backlog > 0 && tenant.pull.is_none() && !tenant.has_turn {
            tenant.has_turn = true;
            self.turns.push_back(name.clone());
        }
    }

    fn touch(&mut self, name: &Token, now: Instant) {
        if let Some(first) = self.recent.front_mut().filter(|(first, _)| first == name) {
            first.1 = now;
            return;
        }
        self.recent.retain(|(known, _)| known != name);
        self.recent.push_front((name.clone(), now));
        self.recent.truncate(MAX_STANDING);
    }
}

/// The state of all lanes of a worker. `M` is a message.
pub(super) struct Scheduler<M> {
    lanes: Vec<LaneState<M>>,
    /// The pass of the lane that was served last.
    virtual_time: u64,
}

impl<M> Scheduler<M> {
    pub(super) fn new(lanes: &[Lane]) -> Self {
        let state = |lane: &Lane| LaneState {
            lane: *lane,
            pass: 0,
            tenants: HashMap::new(),
            turns: VecDeque::new(),
            ready: VecDeque::new(),
            expected: 0,
            recent: VecDeque::new(),
        };
        Self {
            lanes: lanes.iter().map(state).collect(),
            virtual_time: 0,
        }
    }

    /// Returns the state of a lane, or `None` if the worker does not serve it.
    fn lane(&mut self, lane: Lane) -> Option<&mut LaneState<M>> {
        let now = self.virtual_time;
        let state = self.lanes.iter_mut().find(|state| state.lane == lane)?;
        if state.is_idle() {
            state.pass = state.pass.max(now);
        }
        Some(state)
    }

    /// Notes that jobs of a tenant were queued.
    pub(super) fn announce(&mut self, lane: Lane, name: &Token, jobs: u64) {
        let Some(state) = self.lane(lane) else { return };
        let tenant = state.tenants.entry(name.clone()).or_default();
        match tenant.pull {
            Some(_) => tenant.announced += jobs,
            None => tenant.backlog += jobs,
        }
        state.enqueue(name);
    }

    /// Corrects the estimates by the number of jobs of each tenant that wait or run anywhere. Tenants that may have
    /// waiting jobs are asked for them; tenants without jobs are forgotten.
    pub(super) fn reconcile(&mut self, jobs: &HashMap<(Lane, Token), u64>) {
        for (lane, name) in jobs.iter().filter(|(_, jobs)| **jobs > 0).map(|(key, _)| key) {
            let known = self
                .lane(*lane)
                .and_then(|state| state.tenants.get(name))
                .is_some_and(|tenant| tenant.backlog > 0 || tenant.pull.is_some());
            if !known {
                self.announce(*lane, name, 1);
            }
        }
        for state in &mut self.lanes {
            let (lane, recent) = (state.lane, &state.recent);
            state.tenants.retain(|name, tenant| {
                tenant.backlog > 0
                    || tenant.pull.is_some()
                    || tenant.has_turn
                    || recent.iter().any(|(known, _)| known == name)
                    || jobs.contains_key(&(lane, name.clone()))
            });
        }
    }

    /// Returns whether the tenant is known.
    pub(super) fn knows(&self, lane: Lane, name: &Token) -> bool {
        let state = self.lanes.iter().find(|state| state.lane == lane);
        state.is_some_and(|state| state.tenants.contains_key(name))
    }

    /// Notes that a message has arrived, and that `pending` more wait in the queue.
    pub(super) fn arrived(&mut self, lane: Lane, name: &Token, message: M, pending: u64, now: Instant) {
        let Some(state) = self.lane(lane) else { return };
        let tenant = state.tenants.entry(name.clone()).or_default();
        tenant.backlog = pending;
        tenant.announced = 0;
        if let Some(pull) = &mut tenant.pull {
            if !pull.waits {
                state.expected -= 1;
            }
            pull.left -= 1;
            if pull.left == 0 {
                tenant.pull = None;
            }
        }
        state.ready.push_back(message);
        state.touch(name, now);
        state.enqueue(name);
    }

    /// Notes that a pull ended before it delivered its maximum.
    pub(super) fn ended(&mut self, lane: Lane, name: &Token, end: PullEnd) {
        let Some(state) = self.lane(lane) else { return };
        let Some(tenant) = state.tenants.get_mut(name) else {
            return;
        };
        let Some(pull) = tenant.pull.take() else { return };
        if !pull.waits {
            state.expected -= pull.left;
        }
        let announced = std::mem::take(&mut tenant.announced);
        tenant.backlog = match end {
            // A pull that waited would have got the announced jobs. They went to another worker.
            PullEnd::Empty if pull.waits => 0,
            PullEnd::Empty => announced,
            // The next pull shows how many wait.
            PullEnd::Failed => tenant.backlog.max(1),
        };
        state.enqueue(name);
    }

    /// Returns the next message, of the lane whose turn it is among those with messages.
    pub(super) fn take(&mut self) -> Option<M> {
        let ready = self.lanes.iter_mut().filter(|state| !state.ready.is_empty());
        let state = ready.min_by_key(|state| state.pass)?;
        let message = state.ready.pop_front();
        self.virtual_time = state.pass;
        state.pass += state.stride();
        message
    }

    /// Returns all messages that have arrived.
    pub(super) fn take_all(&mut self) -> Vec<M> {
        let ready = self.lanes.iter_mut().flat_map(|state| state.ready.drain(..));
        ready.collect()
    }

    /// Returns whether a pull is open.
    pub(super) fn has_open_pulls(&self) -> bool {
        let mut tenants = self.lanes.iter().flat_map(|state| state.tenants.values());
        tenants.any(|tenant| tenant.pull.is_some())
    }

    /// Opens pulls of queued jobs for a worker with `room` for more. They end at once if the estimates are too high.
    pub(super) fn plan(&mut self, room: usize) -> Vec<PullOrder> {
        let coming: usize = self
            .lanes
            .iter()
            .map(|state| state.ready.len() + state.expected)
            .sum();
        let mut passes: Vec<u64> = self
            .lanes
            .iter()
            .map(|state| state.pass + state.stride() * (state.ready.len() + state.expected) as u64)
            .collect();
        let mut orders: Vec<PullOrder> = Vec::new();
        // Tenants with an order that could take further turns, by lane.
        let mut again: Vec<VecDeque<Token>> = vec![VecDeque::new(); self.lanes.len()];
        let mut left = room.saturating_sub(coming);
        while left > 0 {
            let next = (0..self.lanes.len())
                .filter(|index| !self.lanes[*index].turns.is_empty() || !again[*index].is_empty())
                .min_by_key(|index| passes[*index]);
            let Some(index) = next else { break };
            let state = &mut self.lanes[index];
            let Some(name) = state.turns.pop_front().or_else(|| again[index].pop_front()) else {
                break;
            };
            let stride = state.stride();
            let Some(tenant) = state.tenants.get_mut(&name) else {
                continue;
            };
            tenant.has_turn = false;
            let planned = orders
                .iter_mut()
                .find(|order| order.lane == state.lane && order.tenant == name);
            let count = match planned {
                Some(order) => {
                    order.count += 1;
                    order.count
                }
                None => {
                    orders.push(PullOrder {
                        lane: state.lane,
                        tenant: name.clone(),
                        count: 1,
                        waits: false,
                    });
                    1
                }
            };
            passes[index] += stride;
            left -= 1;
            if tenant.backlog > count as u64 {
                again[index].push_back(name);
            }
        }
        orders.iter().for_each(|order| self.open(order));
        orders
    }

    /// Opens pulls that wait for new jobs, for a worker with `room` for more: one for each tenant with recent jobs. The
    /// latest tenant of a lane gets the lane's share of the room, so that a burst arrives at once.
    pub(super) fn stand_by(&mut self, room: usize, now: Instant) -> Vec<PullOrder> {
        let used = self.lanes.iter().filter(|state| !state.recent.is_empty());
        let weights: u64 = used.map(|state| u64::from(state.lane.weight())).sum();
        let mut orders = Vec::new();
        for state in &self.lanes {
            let share = room as u64 * u64::from(state.lane.weight()) / weights.max(1);
            for (index, (name, at)) in state.recent.iter().enumerate() {
                let is_idle = state
                    .tenants
                    .get(name)
                    .is_some_and(|tenant| tenant.pull.is_none() && tenant.backlog == 0);
                if is_idle && (index == 0 || now.duration_since(*at) < STANDING_AGE) {
                    orders.push(PullOrder {
                        lane: state.lane,
                        tenant: name.clone(),
                        count: if index == 0 { share.max(1) as usize } else { 1 },
                        waits: true,
                    });
                }
            }
        }
        orders.iter().for_each(|order| self.open(order));
        orders
    }

    fn open(&mut self, order: &PullOrder) {
        let Some(state) = self.lanes.iter_mut().find(|state| state.lane == order.lane) else {
            return;
        };
        if !order.waits {
            state.expected += order.count;
        }
        if let Some(tenant) = state.tenants.get_mut(&order.tenant) {
            tenant.pull = Some(OpenPull {
                left: order.count,
                waits: order.waits,
            });
        }
    }
}

#[cfg(test)]
mod tests;
