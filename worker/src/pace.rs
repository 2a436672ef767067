//! Measures the worker's pace, from which waiting times are estimated.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use precis_runtime::clock::Instant;
use precis_schemas::event::Pace;

/// Seconds of work after which a measurement counts half.
const HALF_LIFE_SECONDS: f64 = 60.0;

/// Sums that decay while the worker works. Idle time leaves them alone, so that the pace holds overnight.
#[derive(Debug)]
struct DecayingSums {
    /// The moment up to which the sums count.
    at: Instant,
    running: usize,
    /// Finished jobs.
    jobs: f64,
    /// Their input tokens.
    tokens: f64,
    /// Seconds with at least one running job.
    busy: f64,
    /// Seconds that the finished jobs took.
    took: f64,
}

impl DecayingSums {
    fn new(at: Instant) -> Self {
        Self {
            at,
            running: 0,
            jobs: 0.0,
            tokens: 0.0,
            busy: 0.0,
            took: 0.0,
        }
    }

    fn advance(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        if self.running > 0 {
            let kept = 0.5_f64.powf(seconds / HALF_LIFE_SECONDS);
            self.jobs *= kept;
            self.tokens *= kept;
            self.took *= kept;
            self.busy = self.busy * kept + seconds;
        }
    }
}

/// Measures the pace of one worker. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PaceMeter(Arc<Mutex<DecayingSums>>);

/// A job that the engine runs. Dropping it without [`finish`](Self::finish) leaves the job out of the pace.
#[derive(Debug)]
pub struct RunningJob {
    meter: PaceMeter,
    started: Instant,
}

impl Default for PaceMeter {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(DecayingSums::new(Instant::now()))))
    }
}

impl PaceMeter {
    /// Starts a job.
    pub fn start(&self) -> RunningJob {
        let started = Instant::now();
        let mut sums = self.0.lock();
        sums.advance(started);
        sums.running += 1;
        drop(sums);
        RunningJob {
            meter: self.clone(),
            started,
        }
    }

    /// Returns the pace; none before the first job has finished.
    pub fn pace(&self) -> Option<Pace> {
        let mut sums = self.0.lock();
        sums.advance(Instant::now());
        (sums.jobs > 0.0 && sums.busy > 0.0).then(|| Pace {
            jobs_per_second: sums.jobs / sums.busy,
            seconds_per_job: sums.took / sums.jobs,
            tokens_per_second: Some(sums.tokens / sums.busy),
        })
    }
}

impl RunningJob {
    /// Returns the time since the engine got the job.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Counts the job as finished, with this number of input tokens.
    pub fn finish(self, tokens: usize) {
        let mut sums = self.meter.0.lock();
        sums.advance(Instant::now());
        sums.jobs += 1.0;
        sums.tokens += tokens as f64;
        sums.took += self.started.elapsed().as_secs_f64();
    }
}

impl Drop for RunningJob {
    fn drop(&mut self) {
        let mut sums = self.meter.0.lock();
        sums.advance(Instant::now());
        sums.running = sums.running.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_does_not_change_the_pace_and_recent_work_counts_more() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut sums = DecayingSums::new(start);
        sums.running = 2;
        sums.advance(at(2));
        sums.jobs += 2.0;
        sums.running = 0;
        sums.advance(at(10_000));
        assert!((sums.jobs / sums.busy - 1.0).abs() < 1e-9, "{sums:?}");
        // A minute of work at a tenth of the pace weighs as much as everything earlier.
        sums.running = 1;
        for second in 1..=60 {
            sums.advance(at(10_000 + second));
            sums.jobs += 0.1;
        }
        let pace = sums.jobs / sums.busy;
        assert!(pace > 0.1 && pace < 0.2, "{pace}");
    }

    #[test]
    fn a_job_that_is_handed_back_does_not_count() {
        let meter = PaceMeter::default();
        drop(meter.start());
        assert_eq!(meter.pace(), None);
        meter.start().finish(20);
        let pace = meter.pace().unwrap();
        assert!(pace.jobs_per_second > 0.0);
        let tokens_per_job = pace.tokens_per_second.unwrap() / pace.jobs_per_second;
        assert!((tokens_per_job - 20.0).abs() < 1e-6, "{pace:?}");
        assert_eq!(meter.0.lock().running, 0);
    }
}
