//! The order of requests.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::model::Cpu;

/// A subscriber that listens until `gone` is set.
fn waiting(gone: Arc<AtomicBool>) -> Subscriber {
    Subscriber::new(Box::new(|_| {}), gone)
}

fn ticket(rows: usize, bytes: usize) -> Ticket {
    Ticket {
        ids: [1].into(),
        params: GenerationParams::default(),
        seed: 0,
        stop: None,
        joinable: None,
        subscribers: Arc::new(Subscribers {
            all: Mutex::new(vec![waiting(Arc::default())]),
            ..Subscribers::default()
        }),
        cost: Cost { rows, bytes },
        submitted: crate::clock::now(),
        passed: 0,
    }
}

fn queue(threads: usize) -> RequestQueue<Cpu> {
    let cost = Cost {
        rows: 16,
        bytes: 1000,
    };
    RequestQueue::new(
        threads,
        Limits {
            cost,
            prefill_tokens: 1,
        },
    )
}

fn bytes(next: Next<Cpu>) -> Vec<usize> {
    match next {
        Next::Decode(tickets) => tickets.iter().map(|ticket| ticket.cost.bytes).collect(),
        Next::Task(_) | Next::Stop => panic!("nothing to decode"),
    }
}

#[test]
fn cheap_requests_overtake_a_bounded_number_of_times() {
    let queue = queue(1);
    queue.push(ticket(8, 900));
    (0..20).for_each(|index| queue.push(ticket(1, 10 + index)));
    let order: Vec<usize> = (0..12)
        .flat_map(|_| bytes(queue.next(0, Cost::default())))
        .collect();
    assert_eq!(order.iter().position(|bytes| *bytes == 900), Some(8), "{order:?}");
}

#[test]
fn a_request_that_does_not_fit_waits_for_room() {
    let queue = queue(1);
    queue.push(ticket(12, 100));
    let used = Cost { rows: 8, bytes: 800 };
    assert!(bytes(queue.next(0, used)).is_empty());
    queue.push(ticket(4, 300));
    assert!(bytes(queue.next(0, used)).is_empty());
    queue.push(ticket(4, 150));
    assert_eq!(bytes(queue.next(0, used)), [150]);
    assert_eq!(bytes(queue.next(0, Cost::default())), [100]);
    // Exceeds every limit: only an idle thread takes it.
    queue.push(ticket(64, 5000));
    assert_eq!(bytes(queue.next(0, Cost::default())), [300]);
    assert_eq!(bytes(queue.next(0, Cost::default())), [5000]);
}

#[test]
fn abandoned_requests_do_not_block_others() {
    let queue = queue(1);
    let gone = Arc::new(AtomicBool::new(false));
    // The oldest request does not fit now, but was overtaken so often that it is next.
    let mut dear = ticket(12, 100);
    dear.passed = MAX_OVERTAKES;
    *dear.subscribers.lock() = vec![waiting(gone.clone())];
    queue.push(dear);
    queue.push(ticket(4, 30));
    let used = Cost { rows: 8, bytes: 10 };
    assert!(bytes(queue.next(0, used)).is_empty());
    gone.store(true, Ordering::Relaxed);
    assert_eq!(bytes(queue.next(0, used)), [30]);
    assert_eq!(queue.load().waiting, 0);
}

#[test]
fn the_least_loaded_thread_takes_the_next_request() {
    let queue = queue(2);
    let (much, little) = (Cost { rows: 8, bytes: 10 }, Cost { rows: 2, bytes: 10 });
    queue.next(0, much);
    queue.next(1, little);
    queue.push(ticket(4, 1));
    assert!(bytes(queue.next(0, much)).is_empty());
    assert_eq!(bytes(queue.next(1, little)), [1]);
    queue.push(ticket(4, 1));
    assert_eq!(bytes(queue.next(0, much)), [1]);
}

#[test]
fn a_closed_queue_is_drained() {
    let queue = queue(1);
    queue.push(ticket(1, 7));
    queue.stop();
    assert_eq!(bytes(queue.next(0, Cost::default())), [7]);
    assert!(matches!(queue.next(0, Cost::default()), Next::Stop));
}
