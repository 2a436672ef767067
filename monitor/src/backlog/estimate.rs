//! Estimates the work of queued jobs from their sizes and the workers' pace.
//!
//! The queue can be counted by lane but not weighed. So the sizes of the jobs that arrived last stand for those in the
//! queue: a lane's jobs leave in about the order in which they arrived.

use std::collections::{HashMap, VecDeque};

use precis_schemas::event::{Heartbeat, Pace};
use precis_schemas::{Lane, Token};

/// Sizes that are remembered per lane.
const MAX_SIZES: usize = 10_000;
/// Bytes of a message per token: English text has between four and five characters per token.
const BYTES_PER_TOKEN: f64 = 4.5;

type LaneKey = (Token, Lane);

/// What workers of a model have reported.
#[derive(Debug, Clone, Copy)]
struct ModelPace {
    /// Mean input tokens per second of one full worker, once one has measured its pace.
    tokens_per_second: Option<f64>,
    /// The most tokens of a text that they read.
    max_input_tokens: u64,
}

/// What is known about jobs and workers.
#[derive(Debug)]
pub(super) struct Estimator {
    assumed_tokens_per_second: f64,
    /// The sizes of the latest jobs in bytes, oldest first.
    sizes: HashMap<LaneKey, VecDeque<u32>>,
    models: HashMap<Token, ModelPace>,
}

impl Estimator {
    /// Creates an estimator that assumes this pace until a worker has measured one.
    pub(super) fn new(assumed_tokens_per_second: f64) -> Self {
        Self {
            assumed_tokens_per_second,
            sizes: HashMap::new(),
            models: HashMap::new(),
        }
    }

    /// Records the size of a new job.
    pub(super) fn learn_size(&mut self, model: Token, lane: Lane, bytes: u32) {
        let sizes = self.sizes.entry((model, lane)).or_default();
        if sizes.len() == MAX_SIZES {
            sizes.pop_front();
        }
        sizes.push_back(bytes);
    }

    /// Records what live workers report. A model without live workers keeps its last pace.
    pub(super) fn learn_pace(&mut self, live: &mut dyn Iterator<Item = &Heartbeat>) {
        let mut sums: HashMap<&Token, (f64, u32, u64)> = HashMap::new();
        for worker in live {
            let (tokens, measured, max_input) = sums.entry(&worker.model.served_as).or_default();
            *max_input = worker.max_input_tokens.max(*max_input);
            if let Some(pace) = worker.pace.as_ref().and_then(tokens_per_second_at_capacity) {
                *tokens += pace;
                *measured += 1;
            }
        }
        for (model, (tokens, measured, max_input_tokens)) in sums {
            let mean = (measured > 0 && tokens > 0.0).then(|| tokens / f64::from(measured));
            let last = self.models.get(model).and_then(|pace| pace.tokens_per_second);
            let pace = ModelPace {
                tokens_per_second: mean.or(last),
                max_input_tokens,
            };
            self.models.insert(model.clone(), pace);
        }
    }

    /// Forgets the sizes of other lanes than those for which `keep` holds.
    pub(super) fn retain(&mut self, keep: impl Fn(&LaneKey) -> bool) {
        self.sizes.retain(|lane, _| keep(lane));
    }

    /// Returns the seconds in which one worker finishes `jobs` of a lane. `mean_bytes` is the mean size of all jobs, for
    /// a lane none of whose jobs arrived since this process started.
    pub(super) fn seconds(&self, lane: &LaneKey, jobs: u64, mean_bytes: f64) -> f64 {
        let model = self.models.get(&lane.0);
        let max_tokens = model.map_or(f64::INFINITY, |model| model.max_input_tokens as f64);
        let tokens = |bytes: f64| (bytes / BYTES_PER_TOKEN).min(max_tokens);
        let latest = usize::try_from(jobs).unwrap_or(usize::MAX);
        let sizes: Vec<f64> = self
            .sizes
            .get(lane)
            .into_iter()
            .flat_map(|sizes| sizes.iter().rev().take(latest))
            .map(|bytes| tokens(f64::from(*bytes)))
            .collect();
        let mean = match sizes.len() {
            0 => tokens(mean_bytes),
            known => sizes.iter().sum::<f64>() / known as f64,
        };
        let pace = model.and_then(|model| model.tokens_per_second);
        jobs as f64 * mean / pace.unwrap_or(self.assumed_tokens_per_second)
    }
}

/// Returns the input tokens per second of a full worker. A worker with few jobs is slower than it could be.
fn tokens_per_second_at_capacity(pace: &Pace) -> Option<f64> {
    let tokens_per_job = pace.tokens_per_second? / pace.jobs_per_second;
    let jobs_per_second = pace.jobs_per_second_at_capacity.unwrap_or(pace.jobs_per_second);
    Some(tokens_per_job * jobs_per_second).filter(|tokens| tokens.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane() -> LaneKey {
        (Token::new("the model", "default").unwrap(), Lane::Bulk)
    }

    fn heartbeat(tokens_per_second: Option<f64>) -> Heartbeat {
        let heartbeat = include_str!("../../../schemas/wire/v1/heartbeat.json");
        Heartbeat {
            pace: tokens_per_second.map(|tokens| Pace {
                jobs_per_second: 1.0,
                seconds_per_job: 1.0,
                tokens_per_second: Some(tokens),
                jobs_per_second_at_capacity: None,
                seconds_alone: None,
                deviation: None,
            }),
            ..serde_json::from_str(heartbeat).unwrap()
        }
    }

    fn assert_near(seconds: f64, expected: f64) {
        assert!((seconds - expected).abs() < 1e-6, "{seconds}, not {expected}");
    }

    #[test]
    fn the_pace_is_the_assumed_one_then_the_measured_one_and_stays_when_the_workers_leave() {
        let mut estimator = Estimator::new(10.0);
        // 100 tokens each.
        let seconds = |estimator: &Estimator| estimator.seconds(&lane(), 2, 450.0);
        assert_near(seconds(&estimator), 20.0);
        estimator.learn_pace(&mut [heartbeat(None)].iter());
        assert_near(seconds(&estimator), 20.0);
        estimator.learn_pace(&mut [heartbeat(Some(40.0)), heartbeat(Some(60.0)), heartbeat(None)].iter());
        assert_near(seconds(&estimator), 4.0);
        estimator.learn_pace(&mut [].iter());
        assert_near(seconds(&estimator), 4.0);
        // A new worker has measured nothing yet.
        estimator.learn_pace(&mut [heartbeat(None)].iter());
        assert_near(seconds(&estimator), 4.0);
    }

    #[test]
    fn the_pace_is_that_of_a_full_worker() {
        let mut estimator = Estimator::new(10.0);
        // It reads 40 tokens a second while it does one job a second, and could do five.
        let mut worker = heartbeat(Some(40.0));
        let pace = worker.pace.as_mut().unwrap();
        pace.jobs_per_second_at_capacity = Some(5.0);
        estimator.learn_pace(&mut [worker].iter());
        assert_near(estimator.seconds(&lane(), 2, 450.0), 1.0);
    }

    #[test]
    fn jobs_count_with_the_sizes_of_those_that_arrived_last() {
        let mut estimator = Estimator::new(10.0);
        let (model, bulk) = lane();
        for bytes in [450, 450, 900, 1_800] {
            estimator.learn_size(model.clone(), bulk, bytes);
        }
        assert_near(estimator.seconds(&lane(), 0, 1e9), 0.0);
        assert_near(estimator.seconds(&lane(), 2, 1e9), 60.0);
        assert_near(estimator.seconds(&lane(), 4, 1e9), 80.0);
        // The sizes of the others are unknown.
        assert_near(estimator.seconds(&lane(), 8, 1e9), 160.0);
        assert_near(estimator.seconds(&(model, Lane::High), 1, 450.0), 10.0);
    }

    #[test]
    fn a_text_counts_as_far_as_the_model_reads_it() {
        let mut estimator = Estimator::new(512.0);
        estimator.learn_pace(&mut [heartbeat(None)].iter());
        assert_near(estimator.seconds(&lane(), 1, 1e6), 1.0);
    }

    #[test]
    fn a_lane_remembers_a_bounded_number_of_sizes() {
        let mut estimator = Estimator::new(1.0);
        let (model, bulk) = lane();
        for _ in 0..=MAX_SIZES {
            estimator.learn_size(model.clone(), bulk, 1);
        }
        assert_eq!(estimator.sizes[&lane()].len(), MAX_SIZES);
        estimator.retain(|_| false);
        assert!(estimator.sizes.is_empty());
    }
}
