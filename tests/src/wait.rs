//! Waiting for a condition.

use std::time::Duration;

use tokio::time::Instant;

/// Retries until there is a value. Panics after `patience`.
pub async fn eventually<T>(patience: Duration, what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = attempt().await {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} until {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
