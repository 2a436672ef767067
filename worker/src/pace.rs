//! Measures the worker's pace, from which waiting times are estimated.
//!
//! A job takes longer while others run. The meter fits a line through the durations of recent jobs, by the number of jobs
//! that ran at the same time. The line predicts how long a job takes alone, and how many jobs a second a full worker
//! finishes. Once the worker has been full, that pace is measured directly.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use precis_runtime::clock::Instant;
use precis_schemas::event::Pace;

/// Seconds of work after which a measurement counts half.
const HALF_LIFE_SECONDS: f64 = 60.0;
/// Share of a job's duration that grows with the number of running jobs, as long as nothing else is known.
const ASSUMED_SLOPE: f64 = 0.7;
/// Weight of the assumed slope: a number of jobs, times the variance of the number of running jobs.
const ASSUMED_WEIGHT: f64 = 4.0;
/// Seconds at capacity after which the measured pace counts as much as the line.
const TRUSTED_SECONDS: f64 = 2.0;

/// Sums that decay while the worker works. Idle time leaves them alone, so that the pace holds overnight.
#[derive(Debug)]
struct DecayingSums {
    /// The moment up to which the sums count.
    at: Instant,
    /// Maximum number of running jobs.
    capacity: usize,
    running: usize,
    /// Integral of the running jobs over time. Does not decay.
    job_seconds: f64,
    /// Seconds with at least one running job, and jobs that finished.
    busy: f64,
    jobs: f64,
    /// Input tokens of those jobs.
    tokens: f64,
    /// Seconds at or near capacity, and the jobs that finished then.
    full: f64,
    jobs_while_full: f64,
    /// Over the finished jobs, sums of the duration, of the average number of jobs that ran at the same time, and of
    /// their products.
    took: f64,
    took_squared: f64,
    concurrency: f64,
    concurrency_squared: f64,
    concurrency_took: f64,
}

/// The duration of a job as a line over the number of running jobs.
#[derive(Debug, Clone, Copy)]
struct Line {
    /// Seconds that do not depend on the number.
    base: f64,
    /// Seconds for each running job, the job itself included.
    slope: f64,
    /// Standard deviation from the line, relative to the mean duration.
    deviation: f64,
}

impl DecayingSums {
    fn new(at: Instant, capacity: usize) -> Self {
        Self {
            at,
            capacity: capacity.max(1),
            running: 0,
            job_seconds: 0.0,
            busy: 0.0,
            jobs: 0.0,
            tokens: 0.0,
            full: 0.0,
            jobs_while_full: 0.0,
            took: 0.0,
            took_squared: 0.0,
            concurrency: 0.0,
            concurrency_squared: 0.0,
            concurrency_took: 0.0,
        }
    }

    /// Whether this is about as many running jobs as the worker takes. A job that ends leaves a gap until the next one
    /// is fetched.
    fn is_full(&self, running: f64) -> bool {
        running >= 0.75 * self.capacity as f64
    }

    fn advance(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        if self.running == 0 {
            return;
        }
        self.job_seconds += seconds * self.running as f64;
        let kept = 0.5_f64.powf(seconds / HALF_LIFE_SECONDS);
        for sum in [
            &mut self.busy,
            &mut self.jobs,
            &mut self.tokens,
            &mut self.full,
            &mut self.jobs_while_full,
            &mut self.took,
            &mut self.took_squared,
            &mut self.concurrency,
            &mut self.concurrency_squared,
            &mut self.concurrency_took,
        ] {
            *sum *= kept;
        }
        self.busy += seconds;
        if self.is_full(self.running as f64) {
            self.full += seconds;
        }
    }

    /// Counts a job that took `seconds` while `concurrency` jobs ran on average, itself included.
    fn finished(&mut self, seconds: f64, concurrency: f64) {
        self.jobs += 1.0;
        if self.is_full(concurrency) {
            self.jobs_while_full += 1.0;
        }
        self.took += seconds;
        self.took_squared += seconds * seconds;
        self.concurrency += concurrency;
        self.concurrency_squared += concurrency * concurrency;
        self.concurrency_took += concurrency * seconds;
    }

    fn line(&self) -> Line {
        let mean = |sum: f64| sum / self.jobs;
        let (took, concurrency) = (mean(self.took), mean(self.concurrency).max(1.0));
        let variance = (mean(self.concurrency_squared) - concurrency * concurrency).max(0.0);
        let covariance = mean(self.concurrency_took) - concurrency * took;
        let weight = ASSUMED_WEIGHT / self.jobs;
        let assumed = ASSUMED_SLOPE * took / concurrency;
        let slope = ((covariance + assumed * weight) / (variance + weight)).clamp(0.0, took / concurrency);
        let spread = mean(self.took_squared) - took * took;
        let unexplained = spread - 2.0 * slope * covariance + slope * slope * variance;
        Line {
            base: took - slope * concurrency,
            slope,
            deviation: unexplained.max(0.0).sqrt() / took.max(f64::MIN_POSITIVE),
        }
    }

    fn pace(&self) -> Option<Pace> {
        if self.jobs <= 0.0 || self.busy <= 0.0 {
            return None;
        }
        let capacity = self.capacity as f64;
        let line = self.line();
        let extrapolated = capacity / (line.base + line.slope * capacity).max(f64::MIN_POSITIVE);
        // As if the extrapolated pace had been measured for a while.
        let at_capacity =
            (self.jobs_while_full + extrapolated * TRUSTED_SECONDS) / (self.full + TRUSTED_SECONDS);
        Some(Pace {
            jobs_per_second: self.jobs / self.busy,
            seconds_per_job: self.took / self.jobs,
            tokens_per_second: Some(self.tokens / self.busy),
            jobs_per_second_at_capacity: Some(at_capacity),
            seconds_alone: Some((line.base + line.slope).min(capacity / at_capacity)),
            deviation: Some(line.deviation),
        })
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
    /// The integral of running jobs when it started.
    job_seconds: f64,
}

impl PaceMeter {
    /// Creates a meter for a worker that runs at most `capacity` jobs at a time.
    pub fn new(capacity: usize) -> Self {
        Self(Arc::new(Mutex::new(DecayingSums::new(Instant::now(), capacity))))
    }

    /// Starts a job.
    pub fn start(&self) -> RunningJob {
        let started = Instant::now();
        let mut sums = self.0.lock();
        sums.advance(started);
        sums.running += 1;
        let job_seconds = sums.job_seconds;
        drop(sums);
        RunningJob {
            meter: self.clone(),
            started,
            job_seconds,
        }
    }

    /// Returns the pace; none before the first job has finished.
    pub fn pace(&self) -> Option<Pace> {
        let mut sums = self.0.lock();
        sums.advance(Instant::now());
        sums.pace()
    }
}

impl RunningJob {
    /// Returns the time since the engine got the job.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Counts the job as finished, with this number of input tokens.
    pub fn finish(self, tokens: usize) {
        let now = Instant::now();
        let seconds = now.saturating_duration_since(self.started).as_secs_f64();
        let mut sums = self.meter.0.lock();
        sums.advance(now);
        let concurrency = (sums.job_seconds - self.job_seconds) / seconds;
        let concurrency = if concurrency.is_finite() {
            concurrency
        } else {
            sums.running as f64
        };
        sums.tokens += tokens as f64;
        sums.finished(seconds, concurrency);
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
        let mut sums = DecayingSums::new(start, 4);
        sums.running = 2;
        sums.advance(at(2));
        sums.finished(2.0, 2.0);
        sums.finished(2.0, 2.0);
        sums.running = 0;
        sums.advance(at(10_000));
        assert!(
            (sums.pace().unwrap().jobs_per_second - 1.0).abs() < 1e-9,
            "{sums:?}"
        );
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
        let meter = PaceMeter::new(4);
        drop(meter.start());
        assert_eq!(meter.pace(), None);
        meter.start().finish(20);
        let pace = meter.pace().unwrap();
        assert!(pace.jobs_per_second > 0.0);
        let tokens_per_job = pace.tokens_per_second.unwrap() / pace.jobs_per_second;
        assert!((tokens_per_job - 20.0).abs() < 1e-6, "{pace:?}");
        assert_eq!(meter.0.lock().running, 0);
    }

    /// Runs `count` jobs, `concurrency` at a time, on a worker that takes one second and a half for each of them.
    async fn run(meter: &PaceMeter, count: usize, concurrency: usize) {
        for _ in 0..count {
            let jobs: Vec<RunningJob> = (0..concurrency).map(|_| meter.start()).collect();
            tokio::time::advance(Duration::from_secs_f64(1.0 + 0.5 * concurrency as f64)).await;
            jobs.into_iter().for_each(|job| job.finish(20));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_pace_at_capacity_is_extrapolated_and_then_measured() {
        let meter = PaceMeter::new(8);
        run(&meter, 40, 1).await;
        run(&meter, 40, 3).await;
        let pace = meter.pace().unwrap();
        let [alone, full] = [pace.seconds_alone, pace.jobs_per_second_at_capacity].map(Option::unwrap);
        assert!((alone - 1.5).abs() < 0.1, "{alone}");
        assert!((full - 8.0 / 5.0).abs() < 0.1, "{full}");
        assert!(pace.deviation.unwrap() < 0.05, "{pace:?}");
        run(&meter, 20, 8).await;
        // The average includes the time with fewer jobs, the pace at capacity does not.
        let pace = meter.pace().unwrap();
        let full = pace.jobs_per_second_at_capacity.unwrap();
        assert!((full - 8.0 / 5.0).abs() < 0.05, "{full}");
        assert!(pace.jobs_per_second < 1.55, "{pace:?}");
    }
}
