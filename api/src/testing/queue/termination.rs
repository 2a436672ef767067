//! The termination of jobs.

use precis_schemas::error_code::Refusal;
use precis_schemas::termination::Termination;
use precis_schemas::{JobHandle, JobResult};

use super::FakeQueue;
use crate::queue::{QueueBackend, TerminationOutcome};
use crate::testing::result;

impl FakeQueue {
    /// See [`QueueBackend::terminate`].
    pub(super) async fn end(
        &self,
        handle: &JobHandle,
        termination: &Termination,
    ) -> Result<Option<TerminationOutcome>, Refusal> {
        let Some(sequence) = handle.sequence else {
            return Ok(None);
        };
        if self.queued_job(&handle.id, sequence).await?.is_none() {
            return Ok(None);
        }
        let earlier = self.results.lock().unwrap().get(&handle.id).cloned();
        if let Some(earlier) = earlier.filter(|earlier| !earlier.is_superseded_by(sequence)) {
            return Ok(Some(TerminationOutcome::AlreadyFinished(Box::new(earlier))));
        }
        let record = JobResult {
            outcome: termination.outcome,
            summary: None,
            error: Some(termination.reason.clone()),
            ..result(handle.id.as_str(), sequence)
        };
        self.results
            .lock()
            .unwrap()
            .insert(handle.id.clone(), record.clone());
        let delay = *self.removal_delay.lock().unwrap();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        self.done.lock().unwrap().push(sequence);
        if let Some(events) = self.events.get() {
            let body = serde_json::to_vec(&record).unwrap();
            events.finished(&handle.id, body.into());
        }
        Ok(Some(TerminationOutcome::Terminated(Box::new(record))))
    }
}
