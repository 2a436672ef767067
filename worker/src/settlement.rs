//! The settlement of a job: its result, and what the worker does with the delivery.

use precis_schemas::JobResult;
use precis_schemas::dead::DeadLetter;
use precis_schemas::error_code::Refusal;

/// How a worker ends its work on a delivery.
#[derive(Debug)]
pub enum Settlement {
    /// Store the result and the dead letter, then take the job off the queue.
    Finish {
        /// The result; none for a message without a job id.
        result: Option<Box<JobResult>>,
        /// A copy of the message for `DEAD`, if no retry can help.
        dead_letter: Option<Box<DeadLetter>>,
    },
    /// Deliver the job again after a delay: the model failed on it for this reason.
    Retry(Refusal),
    /// Deliver the job again at once: this worker is stopping.
    HandBack,
}

impl Settlement {
    /// Finishes a job with its result and no dead letter.
    pub fn answer(result: JobResult) -> Self {
        Self::Finish {
            result: Some(Box::new(result)),
            dead_letter: None,
        }
    }
}
