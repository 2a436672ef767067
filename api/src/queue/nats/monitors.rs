//! Requests to the monitor, and the webhooks that wait.

use std::time::Duration;

use async_nats::client::{Request, RequestErrorKind};
use async_nats::jetstream::consumer::PullConsumer;
use bytes::Bytes;
use precis_runtime::topology;
use precis_schemas::error_code::Refusal;
use precis_schemas::monitor_request::MonitorRequest;
use precis_schemas::rest_operations::WebhookBacklog;
use precis_schemas::topology::webhook_consumer;

use super::{NatsQueue, request_failed};
use crate::queue::no_monitor;

/// How long a question may take.
const QUESTION: Duration = Duration::from_secs(2);
/// How long loading or removing sample data may take.
const CHANGE: Duration = Duration::from_secs(60);

impl NatsQueue {
    pub(super) async fn read_webhook_backlog(&self) -> Result<WebhookBacklog, Refusal> {
        let failed = |error: &dyn std::error::Error| request_failed("counting webhooks", error);
        let spec = webhook_consumer();
        let stream = topology::stream(&self.connection.jetstream, spec.stream)
            .await
            .map_err(|error| failed(&error))?;
        let consumer: PullConsumer = stream
            .get_consumer(&spec.name)
            .await
            .map_err(|error| failed(&*error))?;
        let info = consumer.cached_info();
        Ok(WebhookBacklog {
            waiting: info.num_pending,
            in_flight: info.num_ack_pending as u64,
        })
    }

    pub(super) async fn send_to_monitor(&self, request: MonitorRequest) -> Result<Bytes, Refusal> {
        self.connectivity.check()?;
        let time_limit = match request {
            MonitorRequest::Status => QUESTION,
            MonitorRequest::SampleHistory
            | MonitorRequest::LoadSampleHistory
            | MonitorRequest::RemoveSampleHistory => CHANGE,
        };
        let message = Request::new().timeout(Some(time_limit));
        let reply = self
            .connection
            .client
            .send_request(request.subject(), message)
            .await;
        match reply {
            Ok(reply) => Ok(reply.payload),
            Err(error)
                if matches!(
                    error.kind(),
                    RequestErrorKind::NoResponders | RequestErrorKind::TimedOut
                ) =>
            {
                tracing::debug!(%request, %error, "no monitor answered");
                Err(no_monitor())
            }
            Err(error) => Err(request_failed("asking the monitor", &error)),
        }
    }
}
