//! Reports the progress of a job: that it is running, and its text so far.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use precis_engine::Engine;
use precis_schemas::event::Progress;
use precis_schemas::subject;
use tokio::sync::mpsc;

use crate::lease::LeaseRenewer;

/// A job is reported as running after this time. The result of a faster job says more.
const REPORT_AFTER: Duration = Duration::from_millis(10);

/// Receives progress events. Events may be lost, so sending one never fails.
pub trait ProgressSink: Sync {
    /// Sends one event.
    fn send(&self, progress: Progress) -> impl Future<Output = ()> + Send;

    /// Notes that the model works on the job.
    fn note_progress(&self) {}
}

/// Publishes progress on `progress.v1.<job_id>`.
#[derive(Debug, Clone)]
pub struct NatsProgress(pub Client);

impl ProgressSink for NatsProgress {
    async fn send(&self, progress: Progress) {
        let sent = match serde_json::to_vec(&progress) {
            Ok(body) => {
                let subject = subject::progress_of(&progress.id);
                let published = self.0.publish(subject, body.into()).await;
                published.map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "progress not published");
        }
    }
}

/// Publishes the progress of a job and renews its lease.
pub struct LeasedProgress<'a> {
    /// Publishes.
    pub sink: &'a NatsProgress,
    /// Renews.
    pub lease: LeaseRenewer,
}

impl ProgressSink for LeasedProgress<'_> {
    async fn send(&self, progress: Progress) {
        self.sink.send(progress).await;
    }

    fn note_progress(&self) {
        self.lease.renew();
    }
}

/// Sends `started`, and then one event for each sequence of tokens, until `tokens` is closed. An empty
/// sequence is progress without a text.
pub async fn report(
    sink: &impl ProgressSink,
    engine: &Engine,
    started: Progress,
    mut tokens: mpsc::Receiver<Arc<[u32]>>,
) {
    let mut next = match tokio::time::timeout(REPORT_AFTER, tokens.recv()).await {
        Ok(None) => return,
        Ok(next) => next,
        Err(_) => {
            sink.send(started.clone()).await;
            tokens.recv().await
        }
    };
    let (mut number, mut last) = (0, None);
    while let Some(ids) = next {
        sink.note_progress();
        if !ids.is_empty()
            && let Ok(text) = engine.decode_so_far(&ids)
            && last.as_ref() != Some(&text)
        {
            number += 1;
            last = Some(text.clone());
            sink.send(Progress {
                part: Some(number),
                text: Some(text),
                ..started.clone()
            })
            .await;
        }
        next = tokens.recv().await;
    }
}
