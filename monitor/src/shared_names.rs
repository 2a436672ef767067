//! Warns while workers serve several models, or several revisions, under one name.
//!
//! Jobs name a model, and any worker of that name takes them. Two models under one name therefore answer in turns. While a
//! model is replaced that is intended; otherwise one of them needs a name of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use precis_runtime::liveness::LiveWorkers;
use precis_schemas::Token;
use precis_schemas::event::{HEARTBEAT_SECONDS, Heartbeat};
use tokio_util::sync::CancellationToken;

use crate::metrics;

/// Checks after which a warning is repeated: 10 minutes, longer than most rollouts.
const CHECKS_PER_WARNING: u64 = 600 / HEARTBEAT_SECONDS;

/// A model and its revision, each with one of its workers.
type Models<'a> = BTreeMap<(&'a str, &'a str), &'a Token>;

/// Compares the models of all live workers at every heartbeat, until `stop`.
pub(crate) async fn run(workers: LiveWorkers, stop: CancellationToken) {
    let mut warned: BTreeMap<Token, String> = BTreeMap::new();
    let mut seen: BTreeSet<Token> = BTreeSet::new();
    let mut checks = 0_u64;
    let mut tick = tokio::time::interval(Duration::from_secs(HEARTBEAT_SECONDS));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let live = workers.live();
        let names = models_by_name(&live);
        for name in &seen {
            metrics::models_under_name(name, names.get(name).map_or(0, BTreeMap::len));
        }
        seen = names.keys().map(|name| (*name).clone()).collect();
        checks += 1;
        let repeats = checks.is_multiple_of(CHECKS_PER_WARNING);
        let mut shared = BTreeMap::new();
        for (name, models) in names {
            metrics::models_under_name(name, models.len());
            if models.len() < 2 {
                continue;
            }
            let text = describe(&models);
            if repeats || warned.get(name) != Some(&text) {
                tracing::warn!(
                    served_as = %name,
                    models = %text,
                    "workers serve several models under one name, so requests get any of them; unless a model is being \
                     replaced, give each its own name with --serve-as"
                );
            }
            shared.insert(name.clone(), text);
        }
        warned = shared;
    }
}

fn models_by_name(live: &[Heartbeat]) -> BTreeMap<&Token, Models<'_>> {
    let mut names: BTreeMap<&Token, Models<'_>> = BTreeMap::new();
    for Heartbeat { worker, model, .. } in live {
        let models = names.entry(&model.served_as).or_default();
        models.insert((model.name.as_str(), model.revision.as_str()), worker);
    }
    names
}

fn describe(models: &Models<'_>) -> String {
    let models: Vec<String> = models
        .iter()
        .map(|((name, revision), worker)| format!("{name} ({revision}) on {worker}"))
        .collect();
    models.join(", ")
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
    fn models_and_revisions_under_one_name_are_told_apart() {
        let live = [
            heartbeat("w1", "default", "mini", "1"),
            heartbeat("w2", "flan", "flan-t5-small", "7"),
            heartbeat("w3", "default", "mini", "2"),
            heartbeat("w4", "default", "flan-t5-small", "7"),
        ];
        let names = models_by_name(&live);
        let described: Vec<_> = names
            .iter()
            .map(|(name, models)| (name.as_str(), describe(models)))
            .collect();
        let default = "flan-t5-small (7) on w4, mini (1) on w1, mini (2) on w3".to_owned();
        let flan = "flan-t5-small (7) on w2".to_owned();
        assert_eq!(described, [("default", default), ("flan", flan)]);
    }
}
