//! Whether the connection to NATS is up.

use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use precis_schemas::error_code::{ErrorCode, Refusal};
use tokio::time::Instant;

/// How long a read waits for a lost connection to come back.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// How often the connection is checked during the wait.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// Checks the connection of a client. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Connectivity(Client);

impl Connectivity {
    /// Checks the connection of this client.
    pub(super) fn of(client: &Client) -> Self {
        Self(client.clone())
    }

    /// Returns whether the client is connected.
    pub(super) fn is_up(&self) -> bool {
        self.0.connection_state() == State::Connected
    }

    /// Refuses while the client is disconnected.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        if self.is_up() { Ok(()) } else { Err(unavailable()) }
    }

    /// Waits up to two seconds for the connection, so that a restart of the server does not fail reads.
    pub(super) async fn wait_until_up(&self) -> Result<(), Refusal> {
        let give_up = Instant::now() + MAX_WAIT;
        while !self.is_up() {
            if Instant::now() > give_up {
                return self.check();
            }
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
        Ok(())
    }
}

/// Returns the refusal while the queue is unreachable.
pub(super) fn unavailable() -> Refusal {
    Refusal::new(
        ErrorCode::QueueUnavailable,
        "the queue is unavailable at the moment",
    )
}

#[cfg(test)]
mod tests {
    use async_nats::ConnectOptions;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn check_refuses_at_once_and_wait_refuses_after_a_while() {
        // Nothing listens on this port; the client keeps trying.
        let client = ConnectOptions::new()
            .retry_on_initial_connect()
            .connect("nats://127.0.0.1:1")
            .await
            .unwrap();
        let connectivity = Connectivity::of(&client);
        let start = Instant::now();
        let refusal = connectivity.check().unwrap_err();
        assert_eq!(refusal.code, ErrorCode::QueueUnavailable);
        assert_eq!(start.elapsed(), Duration::ZERO);
        let refusal = connectivity.wait_until_up().await.unwrap_err();
        assert_eq!(refusal.code, ErrorCode::QueueUnavailable);
        assert!(start.elapsed() >= MAX_WAIT);
    }
}
