//! Whether there is a connection to NATS.

use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use precis_schemas::error_code::Refusal;
use tokio::time::Instant;

use super::unavailable;

/// How long a question about what is there already waits for a lost connection to come back.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause between two looks meanwhile.
const PAUSE: Duration = Duration::from_millis(50);

/// The connection, as far as it is known to be there. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Link(Client);

impl Link {
    /// That of this client.
    pub(super) fn of(client: &Client) -> Self {
        Self(client.clone())
    }

    /// Whether it is there.
    pub(super) fn is_up(&self) -> bool {
        self.0.connection_state() == State::Connected
    }

    /// Refuses when it is known not to be there.
    pub(super) fn now(&self) -> Result<(), Refusal> {
        if self.is_up() { Ok(()) } else { Err(unavailable()) }
    }

    /// Waits a little for it: a restart of the server is no reason to refuse a question.
    pub(super) async fn soon(&self) -> Result<(), Refusal> {
        let give_up = Instant::now() + PATIENCE;
        while !self.is_up() {
            if Instant::now() > give_up {
                return self.now();
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use async_nats::ConnectOptions;
    use precis_schemas::ErrorCode;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn new_work_is_refused_at_once_and_a_question_waits_a_little() {
        // Nobody listens there; the client goes on trying.
        let client = ConnectOptions::new()
            .retry_on_initial_connect()
            .connect("nats://127.0.0.1:1")
            .await
            .unwrap();
        let link = Link::of(&client);
        let begun = Instant::now();
        assert_eq!(link.now().unwrap_err().code, ErrorCode::QueueUnavailable);
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert_eq!(link.soon().await.unwrap_err().code, ErrorCode::QueueUnavailable);
        assert!(begun.elapsed() >= PATIENCE);
    }
}
