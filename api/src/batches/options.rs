//! The options of an upload, from its query.

use jiff::Timestamp;
use precis_runtime::clock;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::{GenerationParams, Lane};
use serde::Serialize;

use crate::gateway::state::AppState;

/// The options of all rows of a batch.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct BatchOptions {
    /// Name of a served model. If `None`, the default model.
    pub(super) model: Option<String>,
    /// The lane. If `None`, `bulk`.
    pub(super) priority: Option<Lane>,
    /// The deadline, in seconds from now.
    pub(super) ttl_seconds: Option<u64>,
    /// Generation parameters.
    pub(super) params: GenerationParams,
    /// The URL that receives a webhook when the batch ends.
    pub(super) callback_url: Option<String>,
    /// Name of the column that identifies a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id_column: Option<String>,
    /// Names of the columns of a CSV file that the results repeat. If `None`, all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) columns: Option<Vec<String>>,
}

/// Returns the deadline of a batch that begins now.
///
/// # Errors
/// [`ErrorCode::InvalidParameter`] if it is later than results are kept.
pub(super) fn deadline(state: &AppState, ttl_seconds: Option<u64>) -> Result<Timestamp, Refusal> {
    let ttl = ttl_seconds.unwrap_or(state.batches().default_ttl_seconds);
    let max = state.result_retention().as_secs();
    if ttl == 0 || ttl > max {
        return Err(Refusal::new(
            ErrorCode::InvalidParameter,
            format!("ttl_seconds of a batch must be 1 to {max}, not {ttl}"),
        ));
    }
    let seconds = i64::try_from(ttl).unwrap_or(i64::MAX);
    clock::now()
        .checked_add(jiff::SignedDuration::from_secs(seconds))
        .map_err(|error| Refusal::new(ErrorCode::InvalidParameter, error.to_string()))
}
