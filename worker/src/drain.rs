//! Retires the worker on request: it stops as on SIGTERM.

use async_nats::Client;
use futures::StreamExt;
use precis_schemas::event::Draining;
use precis_schemas::{Token, subject};
use tokio_util::sync::CancellationToken;

use crate::lease::Leases;

/// Answers requests to retire until `drained`. The first one cancels `stop`.
pub async fn listen(
    client: Client,
    worker: Token,
    leases: Leases,
    stop: CancellationToken,
    drained: CancellationToken,
) {
    let mut requests = match client.subscribe(subject::drain_of(&worker)).await {
        Ok(requests) => requests,
        Err(error) => {
            tracing::warn!(%error, "this worker can only be retired by a signal");
            return;
        }
    };
    loop {
        let request = tokio::select! {
            request = requests.next() => request,
            () = drained.cancelled() => return,
        };
        let Some(request) = request else { return };
        if !stop.is_cancelled() {
            tracing::info!("asked to retire: finishing the jobs in flight");
            stop.cancel();
        }
        let Some(reply) = request.reply else { continue };
        let answer = Draining {
            worker: worker.clone(),
            in_flight: leases.len() as u64,
        };
        let sent = match serde_json::to_vec(&answer) {
            Ok(body) => client
                .publish(reply, body.into())
                .await
                .map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "the request to retire was not answered");
        }
    }
}
