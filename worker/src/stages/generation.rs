//! Waits for a generation of the engine, and forwards its tokens on the way.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use precis_engine::{Event, Generated, Generation, RowError};
use precis_runtime::clock::Instant;
use tokio::sync::mpsc;

/// Shortest time between two progress reports of a job.
const REPORT_PERIOD: Duration = Duration::from_millis(100);

/// Returns what was generated. `started` is called when a compute thread has taken the request. `progress` receives the tokens so far, at most once per [`REPORT_PERIOD`].
pub(super) async fn complete(
    mut generation: Generation,
    progress: &mpsc::Sender<Arc<[u32]>>,
    started: impl FnOnce(),
) -> Result<Box<Generated>, RowError> {
    let mut next_report = Instant::now() + REPORT_PERIOD;
    let mut started = Some(started);
    while let Some(event) = generation.next().await {
        match event {
            Event::Started => {
                if let Some(started) = started.take() {
                    started();
                }
            }
            Event::Tokens(tokens) => {
                if Instant::now() >= next_report {
                    // A receiver that is still busy skips these tokens: later ones include them.
                    let _ = progress.try_send(tokens);
                    next_report = Instant::now() + REPORT_PERIOD;
                }
            }
            Event::Finished(generated) => return Ok(generated),
            Event::Failed(error) => return Err(error),
        }
    }
    Err(RowError::Compute("the engine has stopped".to_owned()))
}
