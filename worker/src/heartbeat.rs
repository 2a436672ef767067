//! Sends heartbeats: every two seconds a worker publishes its model, its load and its pace.

use std::time::Duration;

use async_nats::Client;
use precis_schemas::event::{HEARTBEAT_SECONDS, Heartbeat};
use precis_schemas::subject;
use tokio_util::sync::CancellationToken;

use crate::identity::WorkerIdentity;
use crate::lease::Leases;
use crate::pace::PaceMeter;

async fn send(client: &Client, heartbeat: &Heartbeat) {
    let subject = subject::worker_of(&heartbeat.worker);
    let sent = match serde_json::to_vec(heartbeat) {
        Ok(body) => client
            .publish(subject, body.into())
            .await
            .map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = sent {
        tracing::debug!(%error, "heartbeat not sent");
    }
}

/// Sends heartbeats until `stop`, and then a last one that says that the worker is leaving.
pub async fn run(
    client: Client,
    identity: WorkerIdentity,
    leases: Leases,
    meter: PaceMeter,
    stop: CancellationToken,
) {
    let mut tick = tokio::time::interval(Duration::from_secs(HEARTBEAT_SECONDS));
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = tick.tick() => send(&client, &identity.heartbeat(leases.len(), meter.pace(), false)).await,
        }
    }
    // If this one is lost, receivers drop the worker when its heartbeats time out.
    send(&client, &identity.heartbeat(leases.len(), meter.pace(), true)).await;
}
