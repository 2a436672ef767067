//! Requests to the monitor.

use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::monitor_request::{MonitorReply, MonitorRequest};
use serde::de::DeserializeOwned;

use crate::gateway::state::AppState;

/// Sends a request to the monitor and returns its reply.
///
/// # Errors
/// If no monitor answers, or it refuses the request.
pub(super) async fn ask<T: DeserializeOwned>(
    state: &AppState,
    request: MonitorRequest,
) -> Result<T, Refusal> {
    let reply = state.queue().ask_monitor(request).await?;
    match serde_json::from_slice::<MonitorReply<T>>(&reply) {
        Ok(reply) => reply.into(),
        Err(error) => {
            tracing::error!(%error, %request, "the monitor's reply is unreadable");
            Err(Refusal::new(
                ErrorCode::Internal,
                "the monitor has another version than the gateway; upgrade both",
            ))
        }
    }
}
