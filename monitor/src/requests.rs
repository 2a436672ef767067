//! Answers the requests of gateways (`monitors.v1.*`).

use anyhow::Context as _;
use async_nats::Message;
use futures::StreamExt as _;
use precis_runtime::boot::NatsConnection;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::monitor_request::{MonitorReply, MonitorRequest};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::samples::Samples;
use crate::status;

/// Answers requests until shutdown.
///
/// # Errors
/// When the subscription fails.
pub(crate) async fn run(
    queue: NatsConnection,
    samples: Samples,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let (subjects, group) = (MonitorRequest::ALL_SUBJECTS, MonitorRequest::GROUP.to_owned());
    let mut requests = queue
        .client
        .queue_subscribe(subjects, group)
        .await
        .context("subscribe to the requests of gateways")?;
    loop {
        let request = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            request = requests.next() => request,
        };
        let Some(request) = request else { return Ok(()) };
        let (queue, samples) = (queue.clone(), samples.clone());
        // A slow request must not delay the others.
        tokio::spawn(async move {
            let Some(inbox) = request.reply.clone() else {
                return;
            };
            let reply = answer(&request, &samples).await;
            if let Err(error) = queue.client.publish(inbox, reply.into()).await {
                tracing::warn!(%error, subject = %request.subject, "a request was not answered");
            }
        });
    }
}

async fn answer(request: &Message, samples: &Samples) -> Vec<u8> {
    match MonitorRequest::of_subject(&request.subject) {
        Some(MonitorRequest::Status) => reply(Ok(status::current())),
        Some(MonitorRequest::SampleHistory) => reply(samples.history().await),
        Some(MonitorRequest::LoadSampleHistory) => reply(samples.load().await),
        Some(MonitorRequest::RemoveSampleHistory) => reply(samples.remove().await),
        None => reply::<()>(Err(Refusal::new(
            ErrorCode::NotImplemented,
            "the monitor does not know this request; it has another version than the gateway",
        ))),
    }
}

fn reply<T: Serialize>(outcome: Result<T, Refusal>) -> Vec<u8> {
    // Serializing numbers and texts never fails.
    serde_json::to_vec(&MonitorReply::from(outcome)).unwrap_or_default()
}
