//! `precis status`: which parts are running, and how many messages wait.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::Duration;

use futures::StreamExt;
use precis_runtime::boot::RoleContext;
use precis_runtime::{nats, topology};
use precis_schemas::event::{HEARTBEAT_SECONDS, Heartbeat};
use precis_schemas::topology::{ADVISORIES, DEAD, JOBS, RESULTS, TEXTS};
use precis_schemas::{Token, subject};
use reqwest::StatusCode;

use crate::client::{self, ProbeOutcome};

/// Prints the state of every part.
///
/// # Errors
/// If a part is not ready. All parts are printed first.
pub(crate) async fn run(context: RoleContext) -> anyhow::Result<()> {
    let config = &context.config;
    let http = client::http()?;
    let mut out = std::io::stdout();
    let mut down = Vec::new();
    let parts = [
        (
            "api",
            format!("http://{}", client::reachable(config.api.listen)),
            "/readyz",
        ),
        (
            "monitor",
            format!("http://{}", client::reachable(config.monitor.listen)),
            "/readyz",
        ),
        ("clickhouse", config.clickhouse.url.shown(), "/ping"),
    ];
    for (name, url, path) in parts {
        let outcome = client::probe(&http, &format!("{}{path}", url.trim_end_matches('/'))).await;
        writeln!(out, "{name:<11} {:<6} {url}", describe(outcome))?;
        if !outcome.is_ready() {
            down.push(name);
        }
    }
    if let Err(error) = print_queue(&context, &mut out).await {
        writeln!(out, "{:<11} {:<6} {} ({error})", "nats", "down", config.nats.url)?;
        down.push("nats");
    }
    anyhow::ensure!(down.is_empty(), "not ready: {}", down.join(", "));
    Ok(())
}

fn describe(outcome: ProbeOutcome) -> String {
    match outcome {
        ProbeOutcome::Answers(status) if status.is_success() => "ready".into(),
        ProbeOutcome::Answers(StatusCode::SERVICE_UNAVAILABLE) => "not ready".into(),
        ProbeOutcome::Answers(StatusCode::TOO_MANY_REQUESTS) => {
            "up; this key's rate limit is exceeded".into()
        }
        ProbeOutcome::Answers(status) => format!("answers {status}"),
        ProbeOutcome::Silent => "silent".into(),
        ProbeOutcome::Absent => "down".into(),
    }
}

/// Returns a line for each name under which the workers serve several models or revisions.
fn shared_names(workers: &BTreeMap<Token, Heartbeat>) -> Vec<String> {
    let mut names: BTreeMap<&Token, BTreeSet<String>> = BTreeMap::new();
    for Heartbeat { model, .. } in workers.values() {
        let models = names.entry(&model.served_as).or_default();
        models.insert(format!("{} ({})", model.name, model.revision));
    }
    names.retain(|_, models| models.len() > 1);
    let line = |(name, models): (&Token, BTreeSet<String>)| {
        let models: Vec<String> = models.into_iter().collect();
        format!(
            "warning: requests for `{name}` get either of {} models: {}. Unless one is being replaced, give one its own name \
             with --serve-as.",
            models.len(),
            models.join(", ")
        )
    };
    names.into_iter().map(line).collect()
}

/// Prints the streams and the workers that send heartbeats.
async fn print_queue(context: &RoleContext, out: &mut impl Write) -> anyhow::Result<()> {
    let mut settings = context.config.nats.clone();
    settings.connect_timeout_seconds = 1;
    let client = nats::connect(&settings, "precis-status").await?;
    let mut heartbeats = client.subscribe(subject::ALL_WORKERS).await?;
    let jetstream = async_nats::jetstream::new(client);
    writeln!(out, "{:<11} {:<6} {}", "nats", "ready", settings.url)?;
    for name in [JOBS, RESULTS, TEXTS, DEAD, ADVISORIES] {
        match topology::stream(&jetstream, name).await {
            Ok(stream) => {
                let state = &stream.cached_info().state;
                writeln!(
                    out,
                    "  {name:<10} {:>8} messages {:>12} bytes",
                    state.messages, state.bytes
                )?;
            }
            Err(_) => writeln!(out, "  {name:<10} missing")?,
        }
    }
    // Every live worker sends a heartbeat in this time.
    let deadline = tokio::time::sleep(Duration::from_secs(HEARTBEAT_SECONDS) + Duration::from_millis(300));
    tokio::pin!(deadline);
    let mut workers = BTreeMap::new();
    loop {
        tokio::select! {
            () = &mut deadline => break,
            message = heartbeats.next() => {
                let Some(message) = message else { break };
                if let Ok(heartbeat) = serde_json::from_slice::<Heartbeat>(&message.payload) {
                    workers.insert(heartbeat.worker.clone(), heartbeat);
                }
            }
        }
    }
    writeln!(out, "{:<11} {}", "workers", workers.len())?;
    for (worker, heartbeat) in &workers {
        let model = &heartbeat.model;
        writeln!(
            out,
            "  {worker}: {} ({}) served as {} on {}, {} of {} jobs in flight",
            model.name,
            model.revision,
            model.served_as,
            heartbeat.device,
            heartbeat.in_flight,
            heartbeat.max_batch
        )?;
    }
    for line in shared_names(&workers) {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_models_under_one_name_are_warned_of() {
        let heartbeat = |worker: &str, served_as: &str, name: &str| {
            let heartbeat: Heartbeat = serde_json::from_value(serde_json::json!({
                "worker": worker,
                "model": {"served_as": served_as, "name": name, "revision": "1"},
                "lanes": ["normal"], "device": "cpu", "max_batch": 8, "max_input_tokens": 512, "in_flight": 0,
                "sent_at": "2026-01-01T00:00:00Z"
            }))
            .unwrap();
            (heartbeat.worker.clone(), heartbeat)
        };
        let mut workers = BTreeMap::from([
            heartbeat("w1", "default", "mini"),
            heartbeat("w2", "flan", "flan"),
        ]);
        assert!(shared_names(&workers).is_empty());
        workers.extend([heartbeat("w3", "default", "flan")]);
        let lines = shared_names(&workers);
        assert_eq!(lines.len(), 1);
        assert!(
            lines[0].contains("`default`") && lines[0].contains("flan (1), mini (1)"),
            "{lines:?}"
        );
    }
}
