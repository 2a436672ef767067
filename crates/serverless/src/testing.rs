//! Test data.

use precis_runtime::clock;
use precis_schemas::result::ReportedDelivery;
use precis_schemas::{JobResult, Outcome};

/// Returns the result of a job that succeeded.
pub(crate) fn result(id: &str, sequence: u64) -> JobResult {
    let now = clock::now();
    let delivery = ReportedDelivery {
        sequence,
        attempt: 1,
        submitted_at: now,
        started_at: None,
    };
    JobResult {
        outcome: Outcome::Succeeded,
        summary: Some("Rain fell.".into()),
        text: "It rained.".into(),
        ..JobResult::new(id.parse().unwrap(), delivery, now)
    }
}
