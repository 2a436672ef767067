//! Jobs as REST shows them.

use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::event::Progress;
use precis_schemas::rest::{JobError, JobView, Links, Status};
use precis_schemas::{JobHandle, JobResult, Outcome};

use crate::queue::eta::Estimate;

/// A job of which only the handle and the status are known.
fn bare(handle: &JobHandle, status: Status) -> JobView {
    let id = handle.to_string();
    JobView {
        links: Links::of(&id),
        id,
        status,
        summary: None,
        scores: None,
        error: None,
        batch: None,
        position: None,
        eta_seconds: None,
        eta_seconds_p90: None,
        attempt: None,
        model: None,
        worker: None,
        params: None,
        sizes: None,
        timings: None,
        submitted_at: None,
        started_at: None,
        finished_at: None,
        metadata: Default::default(),
    }
}

/// A queued job. About `position` jobs of its tenant are ahead of it.
pub(crate) fn queued(handle: &JobHandle, position: Option<u64>, estimate: Option<Estimate>) -> JobView {
    JobView {
        position,
        eta_seconds: estimate.map(|estimate| estimate.seconds),
        eta_seconds_p90: estimate.map(|estimate| estimate.p90),
        ..bare(handle, Status::Queued)
    }
}

/// A job that a worker has started.
pub(crate) fn running(handle: &JobHandle, progress: &Progress) -> JobView {
    JobView {
        attempt: Some(progress.attempt),
        started_at: Some(progress.started_at),
        ..bare(handle, Status::Running)
    }
}

/// A job that has ended.
pub(crate) fn ended(result: JobResult) -> JobView {
    let handle = handle_of(&result);
    let error = refusal_of(&result).as_ref().map(JobError::from);
    JobView {
        summary: result.summary,
        scores: result.scores,
        error,
        batch: result.batch,
        attempt: Some(result.attempt),
        model: result.model,
        worker: result.worker,
        params: Some(result.params),
        sizes: Some(result.sizes),
        timings: Some(result.timings),
        submitted_at: Some(result.submitted_at),
        started_at: result.started_at,
        finished_at: Some(result.finished_at),
        metadata: result.metadata,
        ..bare(&handle, result.outcome.into())
    }
}

/// The handle of a job that has ended.
pub(crate) fn handle_of(result: &JobResult) -> JobHandle {
    JobHandle {
        id: result.id.clone(),
        // Zero marks a job that was never queued.
        sequence: Some(result.job_sequence).filter(|sequence| *sequence > 0),
    }
}

/// Why a job ended without a summary. `None` if it succeeded.
pub(crate) fn refusal_of(result: &JobResult) -> Option<Refusal> {
    let (code, message) = match result.outcome {
        Outcome::Succeeded => return None,
        Outcome::Failed => (ErrorCode::Internal, "the job failed"),
        Outcome::Cancelled => (ErrorCode::Cancelled, "the job was cancelled"),
        Outcome::Expired => (
            ErrorCode::DeadlineExceeded,
            "the deadline passed before the job was done",
        ),
    };
    let error = result.error.clone();
    Some(error.unwrap_or_else(|| Refusal::new(code, message)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::result;

    #[test]
    fn a_job_without_a_summary_has_an_error_with_a_remedy() {
        for (outcome, code) in [
            (Outcome::Failed, ErrorCode::Internal),
            (Outcome::Cancelled, ErrorCode::Cancelled),
            (Outcome::Expired, ErrorCode::DeadlineExceeded),
        ] {
            let view = ended(JobResult {
                outcome,
                summary: None,
                ..result("a", 7)
            });
            let error = view.error.unwrap();
            assert_eq!((error.code, error.remedy), (code, code.doc_path()));
            assert_eq!(view.status, Status::from(outcome));
        }
        let view = ended(result("a", 7));
        assert_eq!((view.id.as_str(), view.error), ("a.7", None));
        assert_eq!(view.links.this, "/v1/jobs/a.7");
    }
}
