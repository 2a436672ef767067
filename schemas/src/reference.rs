//! A reference that comes after its job (version 1): a summary by a human for a job that was submitted without one.
//!
//! The API publishes it on `references.v1.<job_id>`; whoever keeps or forwards predictions reads the stream with a
//! consumer of its own and brings the prediction up to date. The last reference of a job counts.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::JobId;
use crate::subject::Token;

/// On `references.v1.<job_id>`, in the stream `REFERENCES`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LateReference {
    /// The job.
    pub id: JobId,
    /// On whose account it was submitted.
    pub tenant: Token,
    /// The summary by a human.
    pub reference: String,
    /// When it was taken.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub received_at: Timestamp,
}
