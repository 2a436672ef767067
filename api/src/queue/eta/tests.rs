use precis_runtime::clock;
use precis_schemas::Token;
use precis_schemas::event::{Heartbeat, Pace};

use super::*;

fn subject() -> JobSubject {
    "jobs.v1.default.normal.summarize.public".parse().unwrap()
}

/// A worker for four jobs at a time, each of which takes two seconds beside three others, and one second alone.
fn worker(name: &str, pace: Option<f64>, in_flight: u64) -> Heartbeat {
    let heartbeat = include_str!("../../../../schemas/wire/v1/heartbeat.json");
    Heartbeat {
        worker: Token::new("a worker", name).unwrap(),
        lanes: Lane::ALL.to_vec(),
        max_batch: 4,
        in_flight,
        pace: pace.map(|at_capacity| Pace {
            jobs_per_second: at_capacity / 2.0,
            seconds_per_job: 1.5,
            tokens_per_second: None,
            jobs_per_second_at_capacity: Some(at_capacity),
            seconds_alone: Some(1.0),
            deviation: Some(0.2),
        }),
        sent_at: clock::now(),
        ..serde_json::from_str(heartbeat).unwrap()
    }
}

fn lane(lane: Lane, jobs: u64, tenants: &[(&str, u64)]) -> LaneDepth {
    let tenants = tenants.iter();
    LaneDepth {
        model: subject().model,
        lane,
        jobs,
        tenants: tenants
            .map(|(name, jobs)| (Token::new("the tenant", name).unwrap(), *jobs))
            .collect(),
    }
}

/// Estimates a job with `position` jobs ahead, of which `pending` were there at the last snapshot.
fn seconds(lanes: Vec<LaneDepth>, live: &[Heartbeat], pending: u64, position: u64) -> Option<f64> {
    let depth = QueueDepth {
        last_sequence: 1_000,
        lanes,
    };
    let own = TenantDepth {
        last_sequence: 1_000,
        delivered: 1_000 - pending,
        pending,
    };
    let sequence = 1_001 + position - pending;
    assert_eq!(own.position(sequence), position);
    let workers = LiveWorkers::default();
    live.iter().for_each(|heartbeat| workers.note(heartbeat.clone()));
    let estimate = estimate(&depth, &own, &workers, &subject(), sequence)?;
    assert!(estimate.p90 > estimate.seconds, "{estimate:?}");
    Some(estimate.seconds)
}

#[test]
fn a_job_that_can_start_at_once_takes_as_long_as_beside_the_running_ones() {
    let live = [worker("a", Some(2.0), 1)];
    // Alone it would take one second, beside three others two.
    assert_eq!(seconds(vec![], &[worker("a", Some(2.0), 0)], 0, 0), Some(1.0));
    assert_eq!(seconds(vec![], &live, 0, 2), Some(2.0));
    // Three jobs can start. The fourth waits until one ends, and the three that start together end together.
    assert_eq!(seconds(vec![], &live, 0, 3), Some(3.3));
    // Waiting jobs show that there is no room, whatever an old heartbeat says.
    assert_eq!(
        seconds(vec![lane(Lane::Normal, 24, &[])], &live, 20, 20),
        Some(12.5)
    );
}

#[test]
fn a_worker_without_a_measured_pace_counts_as_an_average_one() {
    assert_eq!(seconds(vec![], &[], 0, 0), None);
    let new = worker("a", None, 4);
    assert_eq!(seconds(vec![], std::slice::from_ref(&new), 0, 0), None);
    let live = [new, worker("b", Some(2.0), 4)];
    assert_eq!(seconds(vec![], &live, 0, 7), Some(4.0));
}

#[test]
fn a_worker_of_an_earlier_release_is_estimated_by_its_average() {
    let mut old = worker("a", Some(4.0), 4);
    let average = old.pace.unwrap();
    old.pace = Some(Pace {
        jobs_per_second_at_capacity: None,
        seconds_alone: None,
        deviation: None,
        ..average
    });
    assert_eq!(seconds(vec![], &[old], 0, 7), Some(6.0));
}

#[test]
fn lanes_share_by_weight_until_one_is_empty() {
    let live = [worker("a", Some(12.0), 4)];
    let normal = || lane(Lane::Normal, 60, &[]);
    // The high lane gets 8 of 12 shares while it has waiting jobs: its 80 jobs take 10 seconds, in which 40 jobs of
    // this lane start. The other 20 then get the whole pace.
    let running = [4.0 * 8.0 / 12.0, 4.0 * 4.0 / 12.0].map(|share: f64| share.ceil() as u64);
    let shared = vec![
        lane(Lane::High, 80 + running[0], &[]),
        lane(Lane::Normal, 60 + running[1], &[]),
    ];
    let eta = seconds(shared, &live, 60, 59).unwrap();
    assert!((eta - (10.0 + 20.0 / 12.0 + 1.0)).abs() < 0.21, "{eta}");
    let alone = seconds(vec![normal()], &live, 60, 59).unwrap();
    assert!((alone - 6.0).abs() < 0.11, "{alone}");
}

#[test]
fn tenants_of_a_lane_take_turns() {
    let live = [worker("a", Some(4.0), 4)];
    let depth = lane(
        Lane::Normal,
        1_016,
        &[("public", 10), ("large", 1_004), ("small", 2)],
    );
    // Nine jobs of its own tenant, ten of the large tenant and two of the small one are ahead: 22 jobs, 4 a second.
    let eta = seconds(vec![depth], &live, 10, 9).unwrap();
    assert!((eta - (22.0 / 4.0 + 1.0)).abs() < 0.11, "{eta}");
}
