//! Models: lists those that live workers serve, and resolves the model of a request.

use std::collections::BTreeMap;
use std::time::Duration;

use precis_runtime::config::LimitsConfig;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::event::{HEARTBEAT_SECONDS, Heartbeat};
use precis_schemas::params::{MAX_BEAMS, MAX_NEW_TOKENS};
use precis_schemas::rest::{ModelLimits, ModelList, ModelView};
use precis_schemas::{GenerationParams, Token};

use crate::gateway::state::AppState;

/// Every live worker sends a heartbeat within this time.
const HEARTBEAT_WAIT: Duration = Duration::from_millis(HEARTBEAT_SECONDS * 1_000 + 250);

/// Lists the models that the workers in `live` serve. Two models or revisions under one name have an entry each, marked
/// as `mixed`.
pub(crate) fn list(live: &[Heartbeat], default: &str, limits: &LimitsConfig) -> ModelList {
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
                mixed: false,
                workers: 0,
                devices: Vec::new(),
                lanes: Vec::new(),
                in_flight: 0,
                jobs_per_second: None,
                limits: ModelLimits {
                    max_input_tokens: heartbeat.max_input_tokens,
                    max_text_chars: limits.max_text_chars as u64,
                    max_reference_chars: limits.max_reference_chars as u64,
                    max_num_beams: MAX_BEAMS,
                    max_new_tokens: MAX_NEW_TOKENS,
                    max_batch: heartbeat.max_batch,
                },
            });
        view.workers += 1;
        view.in_flight += heartbeat.in_flight;
        view.limits.max_input_tokens = view.limits.max_input_tokens.min(heartbeat.max_input_tokens);
        view.limits.max_batch = view.limits.max_batch.max(heartbeat.max_batch);
        if let Some(pace) = heartbeat.pace {
            *view.jobs_per_second.get_or_insert(0.0) += pace.jobs_per_second;
        }
        view.lanes.extend(&heartbeat.lanes);
        view.lanes.sort();
        view.lanes.dedup();
        if !view.devices.contains(&heartbeat.device) {
            view.devices.push(heartbeat.device.clone());
        }
    }
    let mut models: Vec<ModelView> = models.into_values().collect();
    // Entries of one name are neighbours.
    for entries in models.chunk_by_mut(|a, b| a.served_as == b.served_as) {
        let mixed = entries.len() > 1;
        entries.iter_mut().for_each(|entry| entry.mixed = mixed);
    }
    ModelList { models }
}

/// Returns the name that workers serve the model `requested` under. `None` stands for the default model.
///
/// A model is known if a live worker serves it, or if workers have created its consumers: they may be restarting.
///
/// # Errors
/// [`ErrorCode::UnknownModel`] with the models that are served.
pub(crate) async fn resolve(state: &AppState, requested: Option<&str>) -> Result<Token, Refusal> {
    let name = requested.unwrap_or(&state.api().default_model);
    if let Some(served_as) = state.workers().resolve(name) {
        return Ok(served_as);
    }
    if let Ok(token) = Token::new("the model", name)
        && state.depth().await?.has_consumers_of(&token)
    {
        return Ok(token);
    }
    // Heartbeats may still be missing shortly after the gateway's start.
    let deadline = state.started() + HEARTBEAT_WAIT;
    while tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if let Some(served_as) = state.workers().resolve(name) {
            return Ok(served_as);
        }
    }
    Err(unknown(
        name,
        requested.is_none(),
        &state.workers().live(),
        state.limits(),
    ))
}

/// Whether a live worker serves the model `name`. Shortly after the gateway's start, before it can have heard of every
/// worker, a consumer of the model is enough.
pub(crate) async fn is_served(state: &AppState, name: &str) -> bool {
    if state.workers().resolve(name).is_some() {
        return true;
    }
    if tokio::time::Instant::now() >= state.started() + HEARTBEAT_WAIT {
        return false;
    }
    match (Token::new("the model", name), state.depth().await) {
        (Ok(token), Ok(depth)) => depth.has_consumers_of(&token),
        _ => false,
    }
}

/// Checks a minimum length that comes without a maximum against the default maximum of the workers that serve the model.
///
/// # Errors
/// [`ErrorCode::InvalidParameter`]: at least one of the workers would fail the job.
pub(crate) fn check_length(
    state: &AppState,
    served_as: &Token,
    params: &GenerationParams,
) -> Result<(), Refusal> {
    let (Some(least), None) = (params.min_new_tokens, params.max_new_tokens) else {
        return Ok(());
    };
    let most = state.workers().scan(|heartbeats| {
        heartbeats
            .filter(|heartbeat| heartbeat.model.served_as == *served_as)
            .filter_map(|heartbeat| heartbeat.default_max_new_tokens)
            .min()
    });
    match most {
        Some(most) if u64::from(least) > most => Err(Refusal::new(
            ErrorCode::InvalidParameter,
            format!(
                "params.min_new_tokens ({least}) must not exceed the default of params.max_new_tokens ({most}) of the \
                 model `{served_as}`; set params.max_new_tokens too"
            ),
        )),
        _ => Ok(()),
    }
}

fn unknown(name: &str, is_default: bool, live: &[Heartbeat], limits: &LimitsConfig) -> Refusal {
    let served: Vec<String> = list(live, "", limits)
        .models
        .iter()
        .map(|model| format!("`{}` ({})", model.served_as, model.name))
        .collect();
    let served = if served.is_empty() {
        "no worker is running".to_owned()
    } else {
        format!("served models: {}", served.join(", "))
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
    use precis_schemas::Lane;
    use precis_schemas::event::Pace;
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
            lanes: vec![Lane::High],
            device: device.into(),
            max_batch: 8,
            max_input_tokens: 512,
            default_max_new_tokens: None,
            in_flight: 1,
            precision: None,
            load_ms: None,
            first_token_ms: None,
            resident_bytes: None,
            pace: Some(Pace {
                jobs_per_second: 2.0,
                seconds_per_job: 0.5,
                tokens_per_second: None,
                jobs_per_second_at_capacity: None,
                seconds_alone: None,
                deviation: None,
            }),
            leaving: false,
            sent_at: precis_runtime::clock::now(),
        }
    }

    #[test]
    fn workers_with_the_same_model_share_an_entry() {
        let live = [
            heartbeat("w1", "default", "cpu"),
            heartbeat("w2", "default", "cuda"),
            heartbeat("w3", "other", "cpu"),
        ];
        let models = list(&live, "default", &LimitsConfig::default()).models;
        assert_eq!(models.len(), 2);
        assert_eq!(
            (models[0].workers, models[0].in_flight, models[0].default),
            (2, 2, true)
        );
        assert_eq!(models[0].devices, ["cpu", "cuda"]);
        assert_eq!(models[0].lanes, [Lane::High]);
        assert_eq!(models[0].jobs_per_second, Some(4.0));
        assert_eq!(models[0].limits.max_input_tokens, 512);
        assert!(!models[1].default);
    }

    #[test]
    fn two_models_under_one_name_are_marked() {
        let mut other = heartbeat("w2", "default", "cpu");
        other.model.name = "flan-t5-small".into();
        let mut revision = heartbeat("w4", "lead", "cpu");
        revision.model.revision = "2".into();
        let live = [
            heartbeat("w1", "default", "cpu"),
            other,
            heartbeat("w3", "lead", "cpu"),
            revision,
            heartbeat("w5", "alone", "cpu"),
        ];
        let models = list(&live, "default", &LimitsConfig::default()).models;
        let mixed: Vec<(&str, bool)> = models
            .iter()
            .map(|view| (view.served_as.as_str(), view.mixed))
            .collect();
        assert_eq!(
            mixed,
            [
                ("alone", false),
                ("default", true),
                ("default", true),
                ("lead", true),
                ("lead", true)
            ]
        );
    }

    #[test]
    fn a_refusal_lists_the_served_models() {
        let message = unknown(
            "bart",
            false,
            &[heartbeat("w1", "default", "cpu")],
            &LimitsConfig::default(),
        )
        .message;
        assert_eq!(
            message,
            "no worker serves the model `bart`; served models: `default` (precis-mini)"
        );
        assert!(
            unknown("default", true, &[], &LimitsConfig::default())
                .message
                .ends_with("no worker is running")
        );
    }
}
