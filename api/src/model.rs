//! Which model a request means, and whether anybody serves it.

use std::collections::BTreeMap;
use std::time::Duration;

use precis_schemas::Token;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::event::{HEARTBEAT_SECONDS, Heartbeat};
use serde::Serialize;

use crate::state::AppState;

/// After this time every live worker has been heard of.
const FIRST_HEARTBEATS: Duration = Duration::from_millis(HEARTBEAT_SECONDS * 1_000 + 250);

/// Body of `GET /v1/models`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ModelList {
    /// Models that live workers serve, by name.
    pub(crate) models: Vec<ModelView>,
}

/// A model that live workers serve.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ModelView {
    /// What to write into `model` of a request.
    pub(crate) served_as: Token,
    /// The model's own name; works in `model` of a request too.
    pub(crate) name: String,
    /// Which weights.
    pub(crate) revision: String,
    /// Whether requests without `model` go there.
    pub(crate) default: bool,
    /// Longest input that it reads, in tokens.
    pub(crate) max_input_tokens: u64,
    /// Live workers that serve it.
    pub(crate) workers: u64,
    /// What they run on, without repetition.
    pub(crate) devices: Vec<String>,
    /// Jobs that they hold at the moment.
    pub(crate) in_flight: u64,
}

/// The models that these workers serve. Two weights under one name, as during a roll-out, are two entries.
pub(crate) fn list(live: &[Heartbeat], default: &str) -> ModelList {
    let mut models: BTreeMap<(&Token, &str, &str), ModelView> = BTreeMap::new();
    for heartbeat in live {
        let model = &heartbeat.model;
        let view = models
            .entry((&model.served_as, &model.name, &model.revision))
            .or_insert_with(|| ModelView {
                served_as: model.served_as.clone(),
                name: model.name.clone(),
                revision: model.revision.clone(),
                default: model.served_as.as_str() == default,
                max_input_tokens: heartbeat.max_input_tokens,
                workers: 0,
                devices: Vec::new(),
                in_flight: 0,
            });
        view.workers += 1;
        view.in_flight += heartbeat.in_flight;
        if !view.devices.contains(&heartbeat.device) {
            view.devices.push(heartbeat.device.clone());
        }
    }
    ModelList {
        models: models.into_values().collect(),
    }
}

/// The name under which the model that a request asks for is served; without one, the deployment's default.
///
/// Known is what a live worker serves, and what workers have set up consumers for: they may be restarting.
pub(crate) async fn resolve(state: &AppState, asked: Option<&str>) -> Result<Token, Refusal> {
    let name = asked.unwrap_or(&state.api().default_model);
    if let Some(served_as) = state.workers().resolve(name) {
        return Ok(served_as);
    }
    if let Ok(token) = Token::new("the model", name)
        && state.depth().await?.has_consumers_of(&token)
    {
        return Ok(token);
    }
    // A gateway that has just started has not heard of all workers yet.
    let heard_all = state.started() + FIRST_HEARTBEATS;
    while tokio::time::Instant::now() < heard_all {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if let Some(served_as) = state.workers().resolve(name) {
            return Ok(served_as);
        }
    }
    Err(unknown(name, asked.is_none(), &state.workers().live()))
}

fn unknown(name: &str, is_default: bool, live: &[Heartbeat]) -> Refusal {
    let served: Vec<String> = list(live, "")
        .models
        .iter()
        .map(|model| format!("`{}` ({})", model.served_as, model.name))
        .collect();
    let served = if served.is_empty() {
        "no worker is running".to_owned()
    } else {
        format!("served are: {}", served.join(", "))
    };
    let shown: String = name.chars().take(80).collect();
    let which = if is_default {
        "the default model"
    } else {
        "the model"
    };
    Refusal::new(
        ErrorCode::UnknownModel,
        format!("no worker serves {which} `{shown}`; {served}"),
    )
}

#[cfg(test)]
mod tests {
    use precis_schemas::result::ModelRef;

    use super::*;

    fn heartbeat(worker: &str, served_as: &str, device: &str) -> Heartbeat {
        Heartbeat {
            worker: Token::new("a worker", worker).unwrap(),
            model: ModelRef {
                served_as: Token::new("a model", served_as).unwrap(),
                name: "precis-mini".into(),
                revision: "1".into(),
            },
            lanes: vec![],
            device: device.into(),
            max_batch: 8,
            max_input_tokens: 512,
            in_flight: 1,
            precision: None,
            load_ms: None,
            first_token_ms: None,
            resident_bytes: None,
            leaving: false,
            sent_at: precis_schemas::time::now(),
        }
    }

    #[test]
    fn workers_of_one_model_are_one_entry() {
        let live = [
            heartbeat("w1", "default", "cpu"),
            heartbeat("w2", "default", "cuda"),
            heartbeat("w3", "other", "cpu"),
        ];
        let models = list(&live, "default").models;
        assert_eq!(models.len(), 2);
        assert_eq!(
            (models[0].workers, models[0].in_flight, models[0].default),
            (2, 2, true)
        );
        assert_eq!(models[0].devices, ["cpu", "cuda"]);
        assert!(!models[1].default);
    }

    #[test]
    fn a_refusal_names_what_is_served() {
        let message = unknown("bart", false, &[heartbeat("w1", "default", "cpu")]).message;
        assert_eq!(
            message,
            "no worker serves the model `bart`; served are: `default` (precis-mini)"
        );
        assert!(
            unknown("default", true, &[])
                .message
                .ends_with("no worker is running")
        );
    }
}
