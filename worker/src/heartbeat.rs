//! Heartbeats: every two seconds a worker says what it serves and how busy it is.

use std::time::Duration;

use async_nats::Client;
use precis_runtime::clock;
use precis_schemas::event::{HEARTBEAT_SECONDS, Heartbeat, Pace};
use precis_schemas::{Lane, Token, subject};
use tokio_util::sync::CancellationToken;

use crate::lease::Leases;
use crate::pace::Meter;
use crate::serving::Current;

/// What a worker says of itself.
#[derive(Clone)]
pub struct Identity {
    /// The worker.
    pub worker: Token,
    /// What it serves: another one when the model is replaced.
    pub serving: Current,
    /// Lanes that it pulls.
    pub lanes: Vec<Lane>,
    /// Most jobs in a batch.
    pub max_batch: usize,
}

impl Identity {
    /// A heartbeat of this moment.
    pub(crate) fn beat(&self, in_flight: usize, pace: Option<Pace>, leaving: bool) -> Heartbeat {
        let serving = self.serving.borrow().clone();
        let info = serving.engine.info();
        Heartbeat {
            worker: self.worker.clone(),
            model: serving.signature.model.clone(),
            lanes: self.lanes.clone(),
            device: info.device.to_owned(),
            max_batch: self.max_batch as u64,
            max_input_tokens: info.max_input_tokens as u64,
            precision: Some(info.precision.to_owned()),
            load_ms: Some(info.load_time.as_secs_f64() * 1e3),
            first_token_ms: Some(serving.first_token.as_secs_f64() * 1e3),
            resident_bytes: precis_engine::resident_bytes(),
            in_flight: in_flight as u64,
            pace,
            leaving,
            sent_at: clock::now(),
        }
    }
}

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
        tracing::debug!(%error, "a heartbeat could not be sent");
    }
}

/// Sends heartbeats until `stop`, and then one that says that the worker is leaving.
pub async fn run(client: Client, identity: Identity, leases: Leases, meter: Meter, stop: CancellationToken) {
    let mut tick = tokio::time::interval(Duration::from_secs(HEARTBEAT_SECONDS));
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = tick.tick() => send(&client, &identity.beat(leases.len(), meter.pace(), false)).await,
        }
    }
    // One is enough: whoever hears it forgets this worker, and whoever misses it does so a little later.
    send(&client, &identity.beat(leases.len(), meter.pace(), true)).await;
}
