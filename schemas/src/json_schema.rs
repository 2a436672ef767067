//! The contract as JSON Schema (draft 2020-12), for other languages.
//!
//! A test compares `schemas/json/` with the types. `PRECIS_UPDATE=1 cargo test -p precis-schemas` regenerates the
//! files.

use schemars::{Schema, schema_for};

use crate::{batch_view, dead, event, job, reference, rest, result};

/// Returns every document: its file name without extension, and its schema.
pub fn documents() -> Vec<(&'static str, Schema)> {
    vec![
        ("job.v1", schema_for!(job::Job)),
        ("result.v1", schema_for!(result::JobResult)),
        ("progress.v1", schema_for!(event::Progress)),
        ("heartbeat.v1", schema_for!(event::Heartbeat)),
        ("reference.v1", schema_for!(reference::LateReference)),
        ("dead-letter.v1", schema_for!(dead::DeadLetter)),
        ("rest.submit-summary.v1", schema_for!(rest::SubmitSummary)),
        ("rest.submit-reference.v1", schema_for!(rest::SubmitReference)),
        ("rest.reference-accepted.v1", schema_for!(rest::ReferenceAccepted)),
        ("rest.submit-scores.v1", schema_for!(rest::SubmitScores)),
        ("rest.job.v1", schema_for!(rest::JobView)),
        ("rest.submitted-batch.v1", schema_for!(rest::SubmittedBatch)),
        ("rest.score-report.v1", schema_for!(rest::ScoreReport)),
        ("rest.text-so-far.v1", schema_for!(rest::TextSoFar)),
        ("rest.models.v1", schema_for!(rest::ModelList)),
        ("rest.batch.v1", schema_for!(batch_view::BatchView)),
        ("rest.batch-line.v1", schema_for!(batch_view::BatchLine)),
        ("rest.problem.v1", schema_for!(rest::Problem)),
    ]
}
