//! When a job that waits will have ended.
//!
//! Workers measure their own pace (`precis_schemas::event::Pace`) and say it with every heartbeat: jobs a second over
//! the time in which they had any, and seconds that one job takes. A job waits until the jobs before it have made
//! room, and then takes as long as jobs do:
//!
//! * the pace of a model is the sum over its live workers; one that has done nothing yet is taken for an average one;
//! * as many jobs as the workers have free places begin at once; each further one waits for one to be done;
//! * where several lanes have jobs, they get the pace by the workers' weights, and a lane that is empty leaves its part
//!   to the others.
//!
//! After a time with single jobs the measured pace is below what full batches reach: the first estimates of a long
//! queue are then too long, and get shorter as it is worked off.

use precis_schemas::event::Heartbeat;
use precis_schemas::{JobSubject, Lane};

use crate::queue::QueueDepth;

/// What workers do together.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Workforce {
    /// Jobs a second.
    pace: f64,
    /// Seconds that one job takes.
    takes: f64,
    /// Jobs that could begin at once.
    free: u64,
}

fn workforce(live: &[Heartbeat], subject: &JobSubject) -> Option<Workforce> {
    let serves =
        |worker: &&Heartbeat| worker.model.served_as == subject.model && worker.lanes.contains(&subject.lane);
    let workers: Vec<&Heartbeat> = live.iter().filter(serves).collect();
    let known: Vec<_> = workers.iter().filter_map(|worker| worker.pace).collect();
    let jobs = known.iter().map(|pace| pace.jobs_per_second).sum::<f64>();
    let count = known.len() as f64;
    if known.is_empty() || jobs <= 0.0 {
        return None;
    }
    Some(Workforce {
        pace: jobs / count * workers.len() as f64,
        takes: known.iter().map(|pace| pace.seconds_per_job).sum::<f64>() / count,
        free: workers
            .iter()
            .map(|worker| worker.max_batch.saturating_sub(worker.in_flight))
            .sum(),
    })
}

/// Seconds until `jobs` of one lane are worked off, when `others` have so many of theirs.
fn drained(mut jobs: f64, lane: Lane, mut others: Vec<(Lane, f64)>, pace: f64) -> f64 {
    let mut seconds = 0.0;
    loop {
        others.retain(|(_, left)| *left > 1e-9);
        let weights = lane.weight() + others.iter().map(|(lane, _)| lane.weight()).sum::<u32>();
        let part = pace / f64::from(weights);
        let ours = part * f64::from(lane.weight());
        let first_empty = others
            .iter()
            .map(|(lane, left)| left / (part * f64::from(lane.weight())))
            .fold(f64::INFINITY, f64::min);
        if jobs / ours <= first_empty {
            return seconds + jobs / ours;
        }
        seconds += first_empty;
        jobs -= ours * first_empty;
        for (lane, left) in &mut others {
            *left -= part * f64::from(lane.weight()) * first_empty;
        }
    }
}

/// Seconds until a job with so many before it has ended; none when no live worker has measured its pace.
pub(crate) fn seconds(
    depth: &QueueDepth,
    live: &[Heartbeat],
    subject: &JobSubject,
    position: u64,
) -> Option<f64> {
    let Workforce { pace, takes, free } = workforce(live, subject)?;
    let wait = if position < free {
        0.0
    } else {
        let others = depth
            .lanes
            .iter()
            .filter(|other| other.model == subject.model && other.lane != subject.lane)
            .map(|other| (other.lane, other.pending as f64))
            .collect();
        drained((position - free + 1) as f64, subject.lane, others, pace)
    };
    // Tenths are more than is known.
    Some(((wait + takes) * 10.0).ceil() / 10.0)
}

#[cfg(test)]
mod tests {
    use precis_runtime::clock;
    use precis_schemas::Token;
    use precis_schemas::event::Pace;

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
            }),
            sent_at: clock::now(),
            ..serde_json::from_str(heartbeat).unwrap()
        }
    }

    fn waiting(lane: Lane, pending: u64) -> QueueDepth {
        QueueDepth {
            last_sequence: pending,
            lanes: vec![LaneDepth {
                model: subject().model,
                lane,
                delivered: 0,
                pending,
            }],
        }
    }

    #[test]
    fn what_finds_a_free_place_takes_as_long_as_a_job() {
        let live = [worker("a", Some(2.0), 1)];
        let eta = |position| seconds(&QueueDepth::default(), &live, &subject(), position);
        assert_eq!(eta(2), Some(2.0));
        // Three places are free: the fourth waits until one job is done, at two a second.
        assert_eq!(eta(3), Some(2.5));
        assert_eq!(eta(22), Some(12.0));
    }

    #[test]
    fn without_a_measure_there_is_no_estimate_and_a_new_worker_counts_as_an_average_one() {
        assert_eq!(seconds(&QueueDepth::default(), &[], &subject(), 0), None);
        let new = worker("a", None, 4);
        assert_eq!(
            seconds(&QueueDepth::default(), std::slice::from_ref(&new), &subject(), 0),
            None
        );
        let live = [new, worker("b", Some(2.0), 4)];
        assert_eq!(seconds(&QueueDepth::default(), &live, &subject(), 7), Some(4.0));
    }

    #[test]
    fn lanes_share_by_weight_until_one_is_empty() {
        let live = [worker("a", Some(12.0), 4)];
        // Eight of twelve parts go to the other lane as long as it has jobs: 80 jobs for 10 seconds, meanwhile 40 of
        // these, and then all of the pace for the other 20.
        let eta = seconds(&waiting(Lane::High, 80), &live, &subject(), 59).unwrap();
        assert!((eta - (10.0 + 20.0 / 12.0 + 2.0)).abs() < 0.11, "{eta}");
        let alone = seconds(&waiting(Lane::Normal, 80), &live, &subject(), 59).unwrap();
        assert!((alone - 7.0).abs() < 0.11, "{alone}");
    }
}
