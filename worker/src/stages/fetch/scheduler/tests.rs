//! The scheduler over a queue in memory.

use std::collections::BTreeMap;

use super::*;

/// A queue that answers pulls at once, and counts jobs per lane and tenant.
struct Queue {
    waiting: BTreeMap<(Lane, Token), u64>,
    scheduler: Scheduler<(Lane, Token)>,
    served: Vec<(Lane, Token)>,
    now: Instant,
}

fn tenant(name: &str) -> Token {
    Token::new("the tenant", name).unwrap()
}

impl Queue {
    fn new(lanes: &[Lane]) -> Self {
        Self {
            waiting: BTreeMap::new(),
            scheduler: Scheduler::new(lanes),
            served: Vec::new(),
            now: Instant::now(),
        }
    }

    fn queue(&mut self, lane: Lane, name: &str, jobs: u64) {
        *self.waiting.entry((lane, tenant(name))).or_default() += jobs;
        self.scheduler.announce(lane, &tenant(name), jobs);
    }

    fn answer(&mut self, order: &PullOrder) {
        let key = (order.lane, order.tenant.clone());
        for _ in 0..order.count {
            match self.waiting.get_mut(&key) {
                Some(left) if *left > 0 => {
                    *left -= 1;
                    let left = *left;
                    self.scheduler
                        .arrived(order.lane, &order.tenant, key.clone(), left, self.now);
                }
                _ if order.waits => return,
                _ => return self.scheduler.ended(order.lane, &order.tenant, PullEnd::Empty),
            }
        }
    }

    /// Runs up to `room` jobs, as a worker does that has this many free permits.
    fn serve(&mut self, room: usize) {
        let mut left = room;
        while left > 0 {
            let Some(job) = self.scheduler.take() else {
                let orders = self.scheduler.plan(left);
                if orders.is_empty() {
                    return;
                }
                orders.iter().for_each(|order| self.answer(order));
                continue;
            };
            self.served.push(job);
            left -= 1;
        }
    }

    fn served_of(&self, lane: Lane) -> usize {
        self.served.iter().filter(|(one, _)| *one == lane).count()
    }

    fn served_for(&self, name: &str) -> usize {
        self.served.iter().filter(|(_, one)| one.as_str() == name).count()
    }
}

fn assert_about(found: usize, wanted: usize) {
    assert!(
        found.abs_diff(wanted) * 20 <= wanted,
        "{found} is not about {wanted}"
    );
}

#[test]
fn full_lanes_are_served_by_weight_one_permit_at_a_time() {
    let mut queue = Queue::new(Lane::ALL);
    for lane in Lane::ALL {
        queue.queue(*lane, "a", 1_300);
    }
    for _ in 0..130 {
        queue.serve(1);
    }
    for (lane, wanted) in [(Lane::High, 80), (Lane::Normal, 40), (Lane::Bulk, 10)] {
        assert_about(queue.served_of(lane), wanted);
    }
}

#[test]
fn full_lanes_are_served_by_weight_in_batches_of_any_size() {
    for room in [2, 3, 7, 16, 64] {
        let mut queue = Queue::new(Lane::ALL);
        for lane in Lane::ALL {
            for name in ["a", "b", "c"] {
                queue.queue(*lane, name, 5_000);
            }
        }
        while queue.served.len() < 1_300 {
            queue.serve(room);
        }
        queue.served.truncate(1_300);
        for (lane, wanted) in [(Lane::High, 800), (Lane::Normal, 400), (Lane::Bulk, 100)] {
            assert_about(queue.served_of(lane), wanted);
        }
    }
}

#[test]
fn every_job_is_served_once() {
    let mut queue = Queue::new(Lane::ALL);
    for (index, lane) in Lane::ALL.iter().enumerate() {
        for name in 0..100 {
            queue.queue(*lane, &format!("t{name}"), index as u64 + name % 3);
        }
    }
    let total: u64 = queue.waiting.values().sum();
    for round in 0..total as usize {
        queue.serve(1 + round % 5);
    }
    assert_eq!(queue.served.len() as u64, total);
    assert!(queue.waiting.values().all(|left| *left == 0));
}

#[test]
fn tenants_of_a_lane_take_turns() {
    let mut queue = Queue::new(Lane::ALL);
    queue.queue(Lane::Normal, "large", 20_000);
    for _ in 0..100 {
        queue.serve(4);
    }
    queue.served.clear();
    queue.queue(Lane::Normal, "small", 10);
    while queue.served_for("small") < 10 {
        queue.serve(4);
    }
    assert!(queue.served_for("large") <= 20, "{}", queue.served_for("large"));
}

#[test]
fn a_thousand_tenants_with_one_job_each_are_served_in_the_order_of_their_jobs() {
    let mut queue = Queue::new(Lane::ALL);
    for name in 0..1_000 {
        queue.queue(Lane::Bulk, &format!("t{name:03}"), 1);
    }
    queue.serve(1_000);
    let names: Vec<_> = queue.served.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names.len(), 1_000);
    assert!(names.is_sorted());
}

#[test]
fn a_lane_gains_no_credit_while_it_is_empty() {
    let mut queue = Queue::new(Lane::ALL);
    queue.queue(Lane::High, "a", 10_000);
    queue.serve(1_000);
    queue.served.clear();
    queue.queue(Lane::Bulk, "a", 1_000);
    for _ in 0..90 {
        queue.serve(1);
    }
    assert_eq!(queue.served_of(Lane::Bulk), 10);
}

#[test]
fn capacity_that_a_lane_leaves_free_goes_to_the_others() {
    let mut queue = Queue::new(Lane::ALL);
    queue.queue(Lane::Bulk, "a", 100);
    queue.serve(16);
    assert_eq!(queue.served_of(Lane::Bulk), 16);
}

#[test]
fn a_worker_that_does_not_serve_a_lane_ignores_its_jobs() {
    let mut queue = Queue::new(&[Lane::High]);
    queue.queue(Lane::Bulk, "a", 5);
    assert_eq!(queue.scheduler.plan(8), []);
}

#[test]
fn jobs_that_other_workers_took_are_not_asked_for_again() {
    let mut queue = Queue::new(Lane::ALL);
    queue.scheduler.announce(Lane::High, &tenant("a"), 5);
    let orders = queue.scheduler.plan(8);
    assert_eq!((orders.len(), orders[0].count, orders[0].waits), (1, 5, false));
    queue.answer(&orders[0]);
    assert_eq!(queue.scheduler.plan(8), []);
    // Jobs that were announced during the pull are worth another one.
    queue.scheduler.announce(Lane::High, &tenant("a"), 1);
    let orders = queue.scheduler.plan(8);
    queue.scheduler.announce(Lane::High, &tenant("a"), 1);
    queue.answer(&orders[0]);
    assert_eq!(queue.scheduler.plan(8)[0].count, 1);
}

#[test]
fn a_failed_pull_is_repeated() {
    let mut queue = Queue::new(Lane::ALL);
    queue.scheduler.announce(Lane::High, &tenant("a"), 3);
    assert_eq!(queue.scheduler.plan(1).len(), 1);
    queue.scheduler.ended(Lane::High, &tenant("a"), PullEnd::Failed);
    assert_eq!(queue.scheduler.plan(8)[0].count, 3);
}

#[test]
fn recent_tenants_keep_a_pull_open_and_the_latest_one_gets_the_room() {
    let mut queue = Queue::new(Lane::ALL);
    queue.queue(Lane::Normal, "old", 1);
    queue.queue(Lane::Normal, "new", 1);
    queue.serve(16);
    assert_eq!(queue.scheduler.plan(16), []);
    let order = |name, count| PullOrder {
        lane: Lane::Normal,
        tenant: tenant(name),
        count,
        waits: true,
    };
    assert_eq!(
        queue.scheduler.stand_by(16, queue.now),
        [order("new", 16), order("old", 1)]
    );
    assert_eq!(queue.scheduler.stand_by(16, queue.now), [], "they are open");
    for name in ["new", "old"] {
        queue.scheduler.ended(Lane::Normal, &tenant(name), PullEnd::Empty);
    }
    let later = queue.now + STANDING_AGE;
    assert_eq!(queue.scheduler.stand_by(16, later), [order("new", 16)]);
}

#[test]
fn a_waiting_pull_that_is_used_up_leaves_the_rest_to_the_next_plan() {
    let mut queue = Queue::new(Lane::ALL);
    queue.queue(Lane::High, "a", 1);
    queue.serve(4);
    let orders = queue.scheduler.stand_by(4, queue.now);
    queue.queue(Lane::High, "a", 9);
    orders.iter().for_each(|order| queue.answer(order));
    queue.serve(9);
    assert_eq!(queue.served.len(), 10);
}

#[test]
fn reconciling_asks_for_jobs_that_were_never_announced_and_forgets_the_rest() {
    let mut queue = Queue::new(Lane::ALL);
    let missed = (Lane::Bulk, tenant("missed"));
    queue.waiting.insert(missed.clone(), 3);
    queue.scheduler.reconcile(&HashMap::from([(missed, 3)]));
    queue.serve(8);
    assert_eq!(queue.served_for("missed"), 3);
    for name in 0..2 * MAX_STANDING {
        queue.queue(Lane::Bulk, &format!("t{name}"), 1);
    }
    queue.serve(100);
    queue.scheduler.reconcile(&HashMap::new());
    assert!(!queue.scheduler.knows(Lane::Bulk, &tenant("t0")));
    assert!(queue.scheduler.knows(Lane::Bulk, &tenant("t20")));
}
