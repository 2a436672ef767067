//! `precis status`: which parts are running, and how many messages wait.

use std::io::Write;
use std::time::Duration;

use futures::StreamExt;
use precis_runtime::boot::RoleContext;
use precis_runtime::{nats, topology};
use precis_schemas::event::{HEARTBEAT_SECONDS, Heartbeat};
use precis_schemas::subject;
use precis_schemas::topology::{ADVISORIES, DEAD, JOBS, RESULTS};

use crate::client;

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
        let up = client::is_up(&http, &format!("{}{path}", url.trim_end_matches('/'))).await;
        writeln!(out, "{name:<11} {:<6} {url}", if up { "ready" } else { "down" })?;
        if !up {
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

/// Prints the streams and the workers that send heartbeats.
async fn print_queue(context: &RoleContext, out: &mut impl Write) -> anyhow::Result<()> {
    let mut settings = context.config.nats.clone();
    settings.connect_timeout_seconds = 1;
    let client = nats::connect(&settings, "precis-status").await?;
    let mut heartbeats = client.subscribe(subject::ALL_WORKERS).await?;
    let jetstream = async_nats::jetstream::new(client);
    writeln!(out, "{:<11} {:<6} {}", "nats", "ready", settings.url)?;
    for name in [JOBS, RESULTS, DEAD, ADVISORIES] {
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
    let mut workers = std::collections::BTreeMap::new();
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
    for (worker, heartbeat) in workers {
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
    Ok(())
}
