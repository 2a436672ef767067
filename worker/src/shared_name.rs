//! Warns while other workers serve another model, or another revision, under this worker's name.
//!
//! Jobs name a model, and any worker of that name takes them. Two models under one name therefore answer in turns. While a
//! model is replaced that is intended; otherwise one of them needs a name of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use precis_runtime::liveness::LiveWorkers;
use precis_schemas::Token;
use precis_schemas::event::{HEARTBEAT_SECONDS, Heartbeat};
use precis_schemas::result::ModelRef;
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::model::CurrentModel;

/// Checks after which a warning is repeated: 10 minutes, longer than most rollouts.
const CHECKS_PER_WARNING: u64 = 600 / HEARTBEAT_SECONDS;

/// Compares this worker's model with those of the other live workers at every heartbeat, until `stop`.
pub async fn warn(workers: LiveWorkers, id: Token, model: CurrentModel, stop: CancellationToken) {
    let mut warned = String::new();
    let mut checks = 0_u64;
    let mut tick = tokio::time::interval(Duration::from_secs(HEARTBEAT_SECONDS));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let own = model.borrow().signature.model.clone();
        let live = workers.live();
        let others = others(&live, &id, &own);
        metrics::models_under_name(others.len() + 1);
        let text = describe(&others);
        checks += 1;
        if !text.is_empty() && (text != warned || checks >= CHECKS_PER_WARNING) {
            tracing::warn!(
                served_as = %own.served_as,
                model = %own.name,
                revision = %own.revision,
                others = %text,
                "other workers serve another model under this name, so requests get either one; unless a model is being \
                 replaced, give one of them its own name with --serve-as"
            );
            checks = 0;
        }
        warned = text;
    }
}

/// Returns the other models under the name of `own`, each with one of its workers.
fn others<'a>(live: &'a [Heartbeat], id: &Token, own: &ModelRef) -> BTreeMap<(&'a str, &'a str), &'a Token> {
    live.iter()
        .filter(|other| other.worker != *id && other.model.served_as == own.served_as && other.model != *own)
        .map(|other| {
            let model = (other.model.name.as_str(), other.model.revision.as_str());
            (model, &other.worker)
        })
        .collect()
}

fn describe(others: &BTreeMap<(&str, &str), &Token>) -> String {
    let others: Vec<String> = others
        .iter()
        .map(|((name, revision), worker)| format!("{name} ({revision}) on {worker}"))
        .collect();
    others.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heartbeat(worker: &str, served_as: &str, name: &str, revision: &str) -> Heartbeat {
        serde_json::from_value(serde_json::json!({
            "worker": worker,
            "model": {"served_as": served_as, "name": name, "revision": revision},
            "lanes": ["normal"], "device": "cpu", "max_batch": 8, "max_input_tokens": 512, "in_flight": 0,
            "sent_at": "2026-01-01T00:00:00Z"
        }))
        .unwrap()
    }

    #[test]
    fn only_other_models_under_the_same_name_are_reported() {
        let own = heartbeat("w1", "default", "mini", "1");
        let live = [
            own.clone(),
            heartbeat("w2", "default", "mini", "1"),
            heartbeat("w3", "flan", "flan-t5-small", "7"),
            heartbeat("w4", "default", "mini", "2"),
            heartbeat("w5", "default", "flan-t5-small", "7"),
        ];
        let found = others(&live, &own.worker, &own.model);
        assert_eq!(describe(&found), "flan-t5-small (7) on w5, mini (2) on w4");
        assert!(others(&live[..3], &own.worker, &own.model).is_empty());
        // The last heartbeat of this worker may still name the model that it has just replaced.
        assert!(others(&live[3..4], &live[3].worker, &own.model).is_empty());
    }
}
