//! Waits for the results of jobs by asking for many at once. It needs no subscription, which on a busy system would
//! bring the results of everybody else, too.

use std::time::Duration;

use precis_runtime::backoff::Backoff;
use precis_runtime::results::ResultError;
use precis_schemas::{JobId, JobResult, Outcome};

use crate::Results;

/// Pauses between two questions while no job ends.
const MIN_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// The answer to a question for results.
pub(crate) type Answer = Result<Vec<(JobId, Result<JobResult, String>)>, ResultError>;

/// Paces questions for results.
#[derive(Debug)]
pub(crate) struct Collector {
    results: Results,
    pauses: Backoff,
}

impl Collector {
    /// Creates a collector.
    pub(crate) fn new(results: Results) -> Self {
        Self {
            results,
            pauses: Backoff::new(MIN_PAUSE, MAX_PAUSE),
        }
    }

    /// Asks for results after a pause.
    pub(crate) fn ask(&mut self, ids: Vec<JobId>) -> impl Future<Output = Answer> + Send + use<> {
        let (results, pause) = (self.results.clone(), self.pauses.next_delay());
        async move {
            tokio::time::sleep(pause).await;
            results.get_many(&ids).await
        }
    }

    /// Takes note of an answer: after results, the next question comes soon.
    pub(crate) fn answered(&mut self, answer: &Answer) {
        if answer.as_ref().is_ok_and(|found| !found.is_empty()) {
            self.pauses.reset();
        }
    }
}

/// How a job ended, its summary, and why it has none.
pub(crate) fn ended(result: Result<JobResult, String>) -> (Outcome, Option<String>, Option<String>) {
    match result {
        Ok(result) => {
            let error = result
                .error
                .map(|refusal| format!("{}: {}", refusal.code, refusal.message));
            let error = match (&result.summary, error) {
                (None, None) => Some(format!("the job ended {} without a summary", result.outcome)),
                (_, error) => error,
            };
            (result.outcome, result.summary, error)
        }
        Err(error) => (
            Outcome::Failed,
            None,
            Some(format!("the result can't be decoded: {error}")),
        ),
    }
}
