//! Late references (version 1): human summaries for jobs that were submitted without one.
//!
//! The gateway publishes them on `references.v1.<job_id>`. Each sink of the monitor reads the stream with its own
//! consumer and updates the prediction. The last reference of a job counts.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::JobId;
use crate::subject::Token;

/// A message on `references.v1.<job_id>` in the stream `REFERENCES`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LateReference {
    /// The job.
    pub id: JobId,
    /// The job's tenant.
    pub tenant: Token,
    /// The human summary.
    pub reference: String,
    /// Time at which the gateway accepted it.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub received_at: Timestamp,
}
