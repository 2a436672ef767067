//! Estimates when a queued job ends.
//!
//! Each heartbeat reports the worker's pace (`precis_schemas::event::Pace`): jobs per second while it was busy, and
//! seconds per job. The estimate is the time until the jobs ahead have left room, plus the duration of one job:
//!
//! * The pace of a model is the sum over its live workers. A worker that has not measured a pace counts as an average
//!   one.
//! * The first jobs fill the workers' free capacity at once. Each further job waits until another one ends.
//! * Lanes share the pace by their weights. The share of an empty lane goes to the others.
//! * Tenants of a lane take turns: for each job ahead of this one, every other tenant gets a turn while it has jobs.
//!
//! A pace that was measured with single jobs is lower than that of full batches. The first estimates for a long queue
//! are then too high, and improve as it drains.

use precis_runtime::liveness::LiveWorkers;
use precis_schemas::{JobSubject, Lane};

use crate::queue::QueueDepth;

/// The combined capacity of the workers that serve a lane.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Workforce {
    /// Jobs per second.
    pace: f64,
    /// Duration of one job, in seconds.
    seconds_per_job: f64,
    /// Jobs that could start at once.
    free: u64,
}

fn workforce(workers: &LiveWorkers, subject: &JobSubject) -> Option<Workforce> {
    let (mut count, mut free) = (0_u32, 0);
    let (mut measured, mut pace, mut seconds_per_job) = (0_u32, 0.0, 0.0);
    // Every accepted job calls this, so no heartbeat is copied.
    workers.scan(|heartbeats| {
        for worker in heartbeats {
            if worker.model.served_as != subject.model || !worker.lanes.contains(&subject.lane) {
                continue;
            }
            count += 1;
            free += worker.max_batch.saturating_sub(worker.in_flight);
            if let Some(known) = worker.pace {
                measured += 1;
                pace += known.jobs_per_second;
                seconds_per_job += known.seconds_per_job;
            }
        }
    });
    if measured == 0 || pace <= 0.0 {
        return None;
    }
    Some(Workforce {
        pace: pace / f64::from(measured) * f64::from(count),
        seconds_per_job: seconds_per_job / f64::from(measured),
        free,
    })
}

/// Returns the seconds until `jobs` of one lane have started. `others` lists the queued jobs of the other lanes.
fn drain_seconds(mut jobs: f64, lane: Lane, mut others: Vec<(Lane, f64)>, pace: f64) -> f64 {
    let mut seconds = 0.0;
    loop {
        others.retain(|(_, left)| *left > 1e-9);
        let weights = lane.weight() + others.iter().map(|(lane, _)| lane.weight()).sum::<u32>();
        let share = pace / f64::from(weights);
        let own_pace = share * f64::from(lane.weight());
        let first_empty = others
            .iter()
            .map(|(lane, left)| left / (share * f64::from(lane.weight())))
            .fold(f64::INFINITY, f64::min);
        if jobs / own_pace <= first_empty {
            return seconds + jobs / own_pace;
        }
        seconds += first_empty;
        jobs -= own_pace * first_empty;
        for (lane, left) in &mut others {
            *left -= share * f64::from(lane.weight()) * first_empty;
        }
    }
}

/// Returns the number of jobs of other tenants in the subject's lane that are served before a job with `position` jobs
/// of its own tenant ahead of it.
fn turns_of_others(depth: &QueueDepth, subject: &JobSubject, position: u64) -> u64 {
    let lane = depth
        .lanes
        .iter()
        .find(|lane| lane.model == subject.model && lane.lane == subject.lane);
    let tenants = lane.into_iter().flat_map(|lane| &lane.tenants);
    tenants
        .filter(|(tenant, _)| **tenant != subject.tenant)
        .map(|(_, jobs)| (*jobs).min(position + 1))
        .sum()
}

/// Returns the seconds until a job with `position` jobs of its tenant ahead of it ends, or `None` if no live worker has
/// measured a pace.
pub(crate) fn seconds(
    depth: &QueueDepth,
    workers: &LiveWorkers,
    subject: &JobSubject,
    position: u64,
) -> Option<f64> {
    let Workforce {
        pace,
        seconds_per_job,
        free,
    } = workforce(workers, subject)?;
    let ahead = position + turns_of_others(depth, subject, position);
    let wait = if ahead < free {
        0.0
    } else {
        let others = depth
            .lanes
            .iter()
            .filter(|other| other.model == subject.model && other.lane != subject.lane)
            .map(|other| (other.lane, other.jobs as f64))
            .collect();
        drain_seconds((ahead - free + 1) as f64, subject.lane, others, pace)
    };
    // The estimate is not more precise than a tenth of a second.
    Some(((wait + seconds_per_job) * 10.0).ceil() / 10.0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use precis_runtime::clock;
    use precis_schemas::Token;
    use precis_schemas::event::{Heartbeat, Pace};

    use super::*;
    use crate::queue::LaneDepth;

    fn subject() -> JobSubject {
        "jobs.v1.default.normal.summarize.public".parse().unwrap()
    }

    fn worker(name: &str, pace: Option<f64>, in_flight: u64) -> Heartbeat {
        let heartbeat = include_str!("../../../schemas/wire/v1/heartbeat.json");
        Heartbeat {
            worker: Token::new("a worker", name).unwrap(),
            lanes: Lane::ALL.to_vec(),
            max_batch: 4,
            in_flight,
            pace: pace.map(|jobs_per_second| Pace {
                jobs_per_second,
                seconds_per_job: 2.0,
                tokens_per_second: None,
            }),
            sent_at: clock::now(),
            ..serde_json::from_str(heartbeat).unwrap()
        }
    }

    fn live<const N: usize>(heartbeats: [Heartbeat; N]) -> LiveWorkers {
        let workers = LiveWorkers::default();
        heartbeats
            .into_iter()
            .for_each(|heartbeat| workers.note(heartbeat));
        workers
    }

    fn waiting(lane: Lane, pending: u64) -> QueueDepth {
        QueueDepth {
            last_sequence: pending,
            lanes: vec![LaneDepth {
                model: subject().model,
                lane,
                jobs: pending,
                tenants: HashMap::new(),
            }],
        }
    }

    #[test]
    fn a_job_that_can_start_at_once_takes_the_duration_of_one_job() {
        let live = live([worker("a", Some(2.0), 1)]);
        let eta = |position| seconds(&QueueDepth::default(), &live, &subject(), position);
        assert_eq!(eta(2), Some(2.0));
        // Three jobs can start. The fourth waits for one to end, at two per second.
        assert_eq!(eta(3), Some(2.5));
        assert_eq!(eta(22), Some(12.0));
    }

    #[test]
    fn a_worker_without_a_measured_pace_counts_as_an_average_one() {
        assert_eq!(seconds(&QueueDepth::default(), &live([]), &subject(), 0), None);
        let new = worker("a", None, 4);
        assert_eq!(
            seconds(&QueueDepth::default(), &live([new.clone()]), &subject(), 0),
            None
        );
        let live = live([new, worker("b", Some(2.0), 4)]);
        assert_eq!(seconds(&QueueDepth::default(), &live, &subject(), 7), Some(4.0));
    }

    #[test]
    fn lanes_share_by_weight_until_one_is_empty() {
        let live = live([worker("a", Some(12.0), 4)]);
        // The high lane gets 8 of 12 shares while it has jobs: its 80 jobs take 10 seconds, in which 40 jobs of this
        // lane start. The other 20 then get the whole pace.
        let eta = seconds(&waiting(Lane::High, 80), &live, &subject(), 59).unwrap();
        assert!((eta - (10.0 + 20.0 / 12.0 + 2.0)).abs() < 0.11, "{eta}");
        let alone = seconds(&waiting(Lane::Normal, 80), &live, &subject(), 59).unwrap();
        assert!((alone - 7.0).abs() < 0.11, "{alone}");
    }

    #[test]
    fn tenants_of_a_lane_take_turns() {
        let live = live([worker("a", Some(4.0), 4)]);
        let mut depth = waiting(Lane::Normal, 1_010);
        let tenants = [("public", 10), ("large", 1_000), ("small", 2)];
        depth.lanes[0].tenants = tenants
            .map(|(name, jobs)| (Token::new("the tenant", name).unwrap(), jobs))
            .into();
        // Nine jobs of its own tenant, ten of the large tenant and two of the small one are ahead: 22 jobs, 4 a second.
        assert_eq!(seconds(&depth, &live, &subject(), 9), Some(7.5));
    }
}
