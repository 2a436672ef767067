//! Polls the results of many jobs at once. A subscription would bring the results of all other jobs, too.

use std::time::Duration;

use precis_runtime::backoff::Backoff;
use precis_runtime::results::ResultError;
use precis_schemas::{JobId, JobResult, Outcome};

use crate::Results;

/// Pauses between two requests while no job ends.
const MIN_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// The results that exist.
pub(crate) type PolledResults = Result<Vec<(JobId, Result<JobResult, String>)>, ResultError>;

/// Polls results, less often while no job ends.
#[derive(Debug)]
pub(crate) struct ResultPoller {
    results: Results,
    pauses: Backoff,
}

impl ResultPoller {
    /// Creates a poller.
    pub(crate) fn new(results: Results) -> Self {
        Self {
            results,
            pauses: Backoff::new(MIN_PAUSE, MAX_PAUSE),
        }
    }

    /// Requests results after a pause.
    pub(crate) fn poll(&mut self, ids: Vec<JobId>) -> impl Future<Output = PolledResults> + Send + use<> {
        let (results, pause) = (self.results.clone(), self.pauses.next_delay());
        async move {
            tokio::time::sleep(pause).await;
            results.get_many(&ids).await
        }
    }

    /// Shortens the next pause if there were results.
    pub(crate) fn polled(&mut self, answer: &PolledResults) {
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
