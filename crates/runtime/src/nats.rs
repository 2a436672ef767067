//! The connection to NATS.

use std::time::Duration;

use async_nats::jetstream::{self, context::PublishErrorKind};
use async_nats::{Client, ConnectOptions, Event};
use tokio::time::Instant;

use crate::config::NatsConfig;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The server did not answer in time.
    #[error("NATS at {url} can't be reached ({source}); is it running, and is nats.url right?")]
    Unreachable {
        /// The address, without credentials.
        url: String,
        /// The last error.
        source: async_nats::ConnectError,
    },
    /// The credentials file can't be read.
    #[error("nats.credentials_file {path}: {source}")]
    Credentials {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

async fn options(settings: &NatsConfig, name: &str) -> Result<ConnectOptions, ConnectError> {
    let mut options = ConnectOptions::new();
    if let Some(path) = &settings.credentials_file {
        options = options
            .credentials_file(path)
            .await
            .map_err(|source| ConnectError::Credentials {
                path: path.display().to_string(),
                source,
            })?;
    } else if let Some(token) = &settings.token {
        options = options.token(token.expose().to_owned());
    } else if let Some(user) = &settings.user {
        let password = settings.password.as_ref().map_or("", |secret| secret.expose());
        options = options.user_and_password(user.clone(), password.to_owned());
    }
    Ok(options
        .name(name)
        .connection_timeout(Duration::from_secs(5))
        .request_timeout(Some(Duration::from_secs(10)))
        // The server may be away for long: try again for ever, every two seconds at the slowest.
        .max_reconnects(None)
        .reconnect_delay_callback(|attempt| {
            Duration::from_millis((50 * 2_u64.saturating_pow(attempt.min(6) as u32)).min(2_000))
        })
        .event_callback(|event| async move {
            match event {
                Event::Connected => tracing::info!("connected to NATS"),
                Event::Disconnected => tracing::warn!("lost the connection to NATS; reconnecting"),
                Event::ClientError(error) => tracing::warn!(%error, "NATS client"),
                Event::ServerError(error) => tracing::warn!(%error, "NATS server"),
                other => tracing::debug!(event = %other, "NATS"),
            }
        }))
}

/// Connects, trying again until `nats.connect_timeout_seconds` have passed.
///
/// # Errors
/// When the server can't be reached in that time, or refuses the credentials.
pub async fn connect(settings: &NatsConfig, name: &str) -> Result<Client, ConnectError> {
    let give_up = Instant::now() + Duration::from_secs(settings.connect_timeout_seconds);
    let addresses: Vec<&str> = settings.url.expose().split(',').map(str::trim).collect();
    let mut pause = Duration::from_millis(50);
    loop {
        match options(settings, name).await?.connect(&addresses[..]).await {
            Ok(client) => return Ok(client),
            Err(source) => {
                let refused = matches!(
                    source.kind(),
                    async_nats::ConnectErrorKind::AuthorizationViolation
                        | async_nats::ConnectErrorKind::Authentication
                );
                if refused || Instant::now() + pause > give_up {
                    return Err(ConnectError::Unreachable {
                        url: settings.url.shown(),
                        source,
                    });
                }
                tracing::debug!(error = %source, url = %settings.url, "waiting for NATS");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
        }
    }
}

/// What kind of failure a publish to a stream was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishFailure {
    /// The stream is at its limits and refuses new messages.
    Full,
    /// The subject's last message has another sequence than expected: somebody was first.
    Conflict,
    /// The server, or the stream, can't be reached at the moment.
    Unavailable,
    /// The message is larger than the server takes.
    TooLarge,
    /// Anything else.
    Other,
}

/// JetStream's error code for a stream that is at its limit of messages (10077), of bytes (10047 for
/// the server's storage, 10077 for the stream's).
const STREAM_STORE_FAILED: u64 = 10_077;
const INSUFFICIENT_RESOURCES: u64 = 10_023;
const STORAGE_RESOURCES_EXCEEDED: u64 = 10_047;
const WRONG_LAST_SEQUENCE: u64 = 10_071;

/// Sorts the error of a publish into what a caller can do about it.
pub fn classify(error: &jetstream::context::PublishError) -> PublishFailure {
    use std::error::Error as _;
    match error.kind() {
        PublishErrorKind::WrongLastSequence => return PublishFailure::Conflict,
        PublishErrorKind::StreamNotFound | PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => {
            return PublishFailure::Unavailable;
        }
        PublishErrorKind::MaxPayloadExceeded => return PublishFailure::TooLarge,
        _ => {}
    }
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(server) = cause.downcast_ref::<jetstream::Error>() {
            return match server.error_code().0 {
                STREAM_STORE_FAILED | INSUFFICIENT_RESOURCES | STORAGE_RESOURCES_EXCEEDED => {
                    PublishFailure::Full
                }
                WRONG_LAST_SEQUENCE => PublishFailure::Conflict,
                _ if server.code() == 503 => PublishFailure::Unavailable,
                _ => PublishFailure::Other,
            };
        }
        source = cause.source();
    }
    PublishFailure::Other
}
