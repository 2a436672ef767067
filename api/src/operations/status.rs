//! `GET /v1/status`: which parts of the deployment work.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use precis_schemas::monitor_request::{MonitorRequest, MonitorStatus, SinkStatus};
use precis_schemas::rest_operations::{PartState, PartView, StatusView};

use super::monitor;
use crate::access::Caller;
use crate::gateway::state::AppState;
use crate::http::caching::no_cache;
use crate::http::problem::ApiError;

/// Targets of the monitor, by the beginning of the names of their sinks.
const TARGETS: [&str; 2] = ["arize", "phoenix"];

fn part(name: &str, state: PartState, detail: Option<String>) -> PartView {
    PartView {
        name: name.to_owned(),
        state,
        detail,
        waiting: None,
    }
}

/// A part that works if it answered.
fn answering<T>(name: &str, answer: &Result<T, precis_schemas::error_code::Refusal>) -> PartView {
    match answer {
        Ok(_) => part(name, PartState::Up, None),
        Err(refusal) => part(name, PartState::Down, Some(refusal.message.clone())),
    }
}

/// Adds up the sinks of a target.
fn target(name: &str, sinks: &[&SinkStatus]) -> PartView {
    if sinks.is_empty() {
        return part(name, PartState::Off, None);
    }
    let error = sinks.iter().find_map(|sink| sink.error.clone());
    let state = if error.is_some() {
        PartState::Down
    } else {
        PartState::Up
    };
    PartView {
        waiting: Some(sinks.iter().map(|sink| sink.waiting).sum()),
        ..part(name, state, error)
    }
}

fn of_target<'a>(status: &'a MonitorStatus, name: &str) -> Vec<&'a SinkStatus> {
    let sinks = status.sinks.iter();
    sinks
        .filter(|sink| sink.sink.split('-').next() == Some(name))
        .collect()
}

/// Returns the state of every part.
pub(super) async fn show(State(state): State<AppState>, caller: Caller) -> Response {
    let (depth, database, monitor, webhooks) = tokio::join!(
        state.depth(),
        state.analytics().ping(),
        monitor::ask::<MonitorStatus>(&state, MonitorRequest::Status),
        state.queue().webhook_backlog(),
    );
    let mut parts = vec![answering("nats", &depth), answering("clickhouse", &database)];
    let known = monitor.as_ref().ok();
    if let (Some(status), PartState::Up) = (known, parts[1].state) {
        // The gateway reads from ClickHouse, and the monitor writes to it.
        parts[1] = target("clickhouse", &of_target(status, "clickhouse"));
        if parts[1].state == PartState::Off {
            parts[1] = part("clickhouse", PartState::Up, None);
        }
    }
    parts.push(answering("monitor", &monitor));
    for name in TARGETS {
        parts.push(match known {
            Some(status) => target(name, &of_target(status, name)),
            None => part(name, PartState::Unknown, None),
        });
    }
    let mut view = StatusView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        parts,
        webhooks: webhooks.ok(),
        sinks: monitor.map(|status| status.sinks).unwrap_or_default(),
    };
    if !caller.sees_all() {
        view.webhooks = None;
        view.sinks.clear();
        for part in &mut view.parts {
            (part.detail, part.waiting) = (None, None);
        }
    }
    ([no_cache()], Json(view)).into_response()
}

/// Returns the configuration of this gateway as TOML, with secrets redacted.
pub(super) async fn configuration(
    State(state): State<AppState>,
    caller: Caller,
) -> Result<Response, ApiError> {
    caller.require_all_tenants()?;
    let text = state
        .config()
        .to_toml()
        .map_err(|error| ApiError::internal(&error.to_string()))?;
    let media_type = [(http::header::CONTENT_TYPE, "application/toml")];
    Ok(([no_cache()], media_type, text).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_down_if_one_of_its_sinks_fails() {
        let sink = |name: &str, waiting, error: Option<&str>| SinkStatus {
            sink: name.to_owned(),
            waiting,
            error: error.map(str::to_owned),
            ..SinkStatus::default()
        };
        let status = MonitorStatus {
            version: String::new(),
            sinks: vec![
                sink("clickhouse", 0, None),
                sink("arize-records", 4, Some("401 Unauthorized")),
                sink("arize-traces", 3, None),
            ],
        };
        let arize = target("arize", &of_target(&status, "arize"));
        assert_eq!((arize.state, arize.waiting), (PartState::Down, Some(7)));
        assert_eq!(arize.detail.as_deref(), Some("401 Unauthorized"));
        let phoenix = target("phoenix", &of_target(&status, "phoenix"));
        assert_eq!((phoenix.state, phoenix.waiting), (PartState::Off, None));
        assert_eq!(
            target("clickhouse", &of_target(&status, "clickhouse")).state,
            PartState::Up
        );
    }
}
