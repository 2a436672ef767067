//! Estimates when a queued job ends.
//!
//! Each heartbeat reports the worker's pace (`precis_schemas::event::Pace`). The estimate is the time until the jobs
//! ahead have left room, plus the duration of one job:
//!
//! * The pace of a model is the sum over its live workers, each with as many jobs as it takes. A worker that has not
//!   measured a pace counts as an average one.
//! * The first jobs fill the workers' free capacity at once. Each further job waits until another one ends.
//! * Lanes share the pace by their weights. The share of an empty lane goes to the others.
//! * Tenants of a lane take turns: for each job ahead of this one, every other tenant gets a turn while it has jobs.
//!
//! Jobs of other lanes and tenants that are submitted later are not foreseen.

use precis_runtime::liveness::LiveWorkers;
use precis_schemas::{JobSubject, Lane, Token};

use crate::queue::{LaneDepth, QueueDepth, TenantDepth};

/// The 0.9 quantile of the standard normal distribution.
const P90: f64 = 1.2816;
/// Relative deviation of a job's duration, for workers that do not report it.
const ASSUMED_DEVIATION: f64 = 0.5;
/// Relative standard error of a pace that serves one lane: machines get busy and idle.
const PACE_ERROR: f64 = 0.15;
/// The same while other lanes have jobs: more of theirs may come.
const SHARED_PACE_ERROR: f64 = 0.4;

/// Seconds until a job ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Estimate {
    /// As likely too high as too low.
    pub(crate) seconds: f64,
    /// Nine of ten jobs end within this time.
    pub(crate) p90: f64,
}

/// The combined capacity of the workers that serve a lane.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Workforce {
    /// Jobs per second at capacity.
    pace: f64,
    /// Jobs at capacity.
    capacity: f64,
    /// Jobs that run.
    running: f64,
    /// Duration of a job that runs alone, in seconds.
    alone: f64,
    /// Relative standard deviation of a job's duration.
    deviation: f64,
}

impl Workforce {
    fn of(workers: &LiveWorkers, model: &Token, lane: Lane) -> Option<Self> {
        let (mut count, mut measured) = (0_u32, 0_u32);
        let mut sums = Self::default();
        // Every accepted job calls this, so no heartbeat is copied.
        workers.scan(|heartbeats| {
            for worker in heartbeats {
                if worker.model.served_as != *model || !worker.lanes.contains(&lane) {
                    continue;
                }
                count += 1;
                sums.capacity += worker.max_batch as f64;
                sums.running += worker.in_flight.min(worker.max_batch) as f64;
                if let Some(pace) = worker.pace {
                    measured += 1;
                    sums.pace += pace.jobs_per_second_at_capacity.unwrap_or(pace.jobs_per_second);
                    sums.alone += pace.seconds_alone.unwrap_or(pace.seconds_per_job);
                    sums.deviation += pace.deviation.unwrap_or(ASSUMED_DEVIATION);
                }
            }
        });
        let measured = f64::from(measured);
        (sums.pace > 0.0).then(|| Self {
            pace: sums.pace / measured * f64::from(count),
            alone: sums.alone / measured,
            deviation: sums.deviation / measured,
            ..sums
        })
    }

    /// Returns how long a job takes while `running` jobs run, itself included.
    fn duration(&self, running: f64) -> f64 {
        let full = (self.capacity / self.pace).max(self.alone);
        let load = (running - 1.0) / (self.capacity - 1.0).max(1.0);
        self.alone + (full - self.alone) * load.clamp(0.0, 1.0)
    }
}

/// Returns the seconds until `jobs` of one lane have started. `others` lists the waiting jobs of the other lanes.
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

/// Returns the waiting jobs of each lane of the subject's model. The depth counts running jobs too: lanes have them by
/// weight, as they were started.
fn waiting_by_lane<'a>(
    depth: &'a QueueDepth,
    subject: &JobSubject,
    running: f64,
) -> Vec<(&'a LaneDepth, f64)> {
    let lanes = depth
        .lanes
        .iter()
        .filter(|lane| lane.model == subject.model && lane.jobs > 0);
    let lanes: Vec<&LaneDepth> = lanes.collect();
    let weights: f64 = lanes.iter().map(|lane| f64::from(lane.lane.weight())).sum();
    let waiting = |lane: &LaneDepth| lane.jobs as f64 - running * f64::from(lane.lane.weight()) / weights;
    lanes
        .into_iter()
        .map(|lane| (lane, waiting(lane).max(0.0)))
        .collect()
}

/// Returns the number of waiting jobs of other tenants in the subject's lane that are served before a job with
/// `position` jobs of its own tenant ahead of it.
fn turns_of_others(lane: &LaneDepth, waiting: f64, subject: &JobSubject, position: u64) -> f64 {
    let waiting_share = waiting / lane.jobs as f64;
    let others = lane
        .tenants
        .iter()
        .filter(|(tenant, _)| **tenant != subject.tenant);
    others
        .map(|(_, jobs)| (*jobs as f64 * waiting_share).min(position as f64 + 1.0))
        .sum()
}

/// Returns the jobs per second of a lane's live workers at capacity, or `None` if no live worker has measured a pace.
pub(crate) fn pace(workers: &LiveWorkers, model: &Token, lane: Lane) -> Option<f64> {
    Workforce::of(workers, model, lane).map(|workers| workers.pace)
}

/// Estimates when the job at `sequence` ends, or returns `None` if no live worker has measured a pace. `own` is the
/// depth of its tenant in its lane.
pub(crate) fn estimate(
    depth: &QueueDepth,
    own: &TenantDepth,
    workers: &LiveWorkers,
    subject: &JobSubject,
    sequence: u64,
) -> Option<Estimate> {
    let workers = Workforce::of(workers, &subject.model, subject.lane)?;
    let position = own.position(sequence);
    let total: u64 = depth
        .lanes
        .iter()
        .filter(|lane| lane.model == subject.model)
        .map(|lane| lane.jobs)
        .sum();
    // Heartbeats are up to two seconds old. A worker with room leaves no job waiting for long.
    let running = if own.pending > 0 && position > 0 {
        workers.capacity
    } else {
        workers.running.max(total as f64).min(workers.capacity)
    };
    let lanes = waiting_by_lane(depth, subject, running);
    let own_lane = lanes.iter().find(|(lane, _)| lane.lane == subject.lane);
    let turns = own_lane.map_or(0.0, |(lane, waiting)| {
        turns_of_others(lane, *waiting, subject, position)
    });
    let ahead = position as f64 + turns;
    let free = workers.capacity - running;
    let others: Vec<(Lane, f64)> = lanes
        .iter()
        .filter(|(lane, waiting)| lane.lane != subject.lane && *waiting > 0.0)
        .map(|(lane, waiting)| (lane.lane, *waiting))
        .collect();
    let pace_error = if others.is_empty() {
        PACE_ERROR
    } else {
        SHARED_PACE_ERROR
    };
    let (mut wait, mut duration, mut left) = (0.0, workers.duration(running + ahead + 1.0), 0.0);
    if ahead >= free {
        left = ahead - free + 1.0;
        duration = workers.duration(workers.capacity);
        // Jobs that start together end together: the first room comes later than at a steady pace.
        let together = free / workers.capacity * duration / 2.0;
        wait = drain_seconds(left, subject.lane, others, workers.pace) + together;
    }
    let own_error = workers.deviation * duration;
    let queue_error = own_error * left.sqrt() / workers.capacity;
    let variance = own_error.powi(2) + queue_error.powi(2) + (pace_error * (wait + duration)).powi(2);
    let seconds = wait + duration;
    // The estimate is not more precise than a tenth of a second.
    let rounded = |seconds: f64| (seconds * 10.0).ceil() / 10.0;
    Some(Estimate {
        seconds: rounded(seconds),
        p90: rounded(seconds + P90 * variance.sqrt()),
    })
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
