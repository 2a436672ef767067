//! `precis status`: what is running, and how much is waiting.

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
/// When a part is not ready, after everything has been printed.
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
        let up = client::answers(&http, &format!("{}{path}", url.trim_end_matches('/'))).await;
        writeln!(out, "{name:<11} {:<6} {url}", if up { "ready" } else { "down" })?;
        if !up {
            down.push(name);
        }
    }
    if let Err(error) = queue(&context, &mut out).await {
        writeln!(out, "{:<11} {:<6} {} ({error})", "nats", "down", config.nats.url)?;
        down.push("nats");
    }
    anyhow::ensure!(down.is_empty(), "not ready: {}", down.join(", "));
    Ok(())
}

async fn queue(context: &RoleContext, out: &mut impl Write) -> anyhow::Result<()> {
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
    // Every worker speaks once in this time.
    let listen = tokio::time::sleep(Duration::from_secs(HEARTBEAT_SECONDS) + Duration::from_millis(300));
    tokio::pin!(listen);
    let mut seen = std::collections::BTreeMap::new();
    loop {
        tokio::select! {
            () = &mut listen => break,
            message = heartbeats.next() => {
                let Some(message) = message else { break };
                if let Ok(heartbeat) = serde_json::from_slice::<Heartbeat>(&message.payload) {
                    seen.insert(heartbeat.worker.clone(), heartbeat);
                }
            }
        }
    }
    writeln!(out, "{:<11} {}", "workers", seen.len())?;
    for (worker, beat) in seen {
        let model = &beat.model;
        writeln!(
            out,
            "  {worker}: {} ({}) as {}, {}, {} of {} jobs in hand",
            model.name, model.revision, model.served_as, beat.device, beat.in_flight, beat.max_batch
        )?;
    }
    Ok(())
}
