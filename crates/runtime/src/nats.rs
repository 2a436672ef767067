//! Connects to NATS and classifies its errors.

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::jetstream::stream::{RawMessageError, RawMessageErrorKind};
use async_nats::jetstream::{self, ErrorCode, context::PublishErrorKind};
use async_nats::{Client, ConnectOptions, Event};
use futures::future::try_join_all;
use precis_schemas::nats_version::{self, UnsupportedServer};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::config::{NatsConfig, ServerUrl};

/// Delays between attempts to reconnect.
const MIN_RECONNECT_DELAY: Duration = Duration::from_millis(50);
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(2);

/// Longest wait for another server of the cluster.
const PEER_TIMEOUT: Duration = Duration::from_secs(1);

/// A failure to connect.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The server could not be reached in time, or rejected the credentials.
    #[error(
        "can't connect to NATS at {url}: {source}; check that the server runs and that nats.url is right"
    )]
    Unreachable {
        /// The URL, without credentials.
        url: String,
        /// The last error.
        source: async_nats::ConnectError,
    },
    /// The server has a version that Precis refuses to work with.
    #[error("NATS at {url}: {source}")]
    Unsupported {
        /// The URL, without credentials.
        url: String,
        /// What is wrong with the version.
        source: UnsupportedServer,
    },
    /// The credentials file can't be read.
    #[error("nats.credentials_file {path}: {source}")]
    Credentials {
        /// The file.
        path: String,
        /// The cause.
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
        // The server may be down for long: reconnect forever, at least every two seconds.
        .max_reconnects(None)
        .reconnect_delay_callback(|attempt| {
            Backoff::nth(MIN_RECONNECT_DELAY, MAX_RECONNECT_DELAY, attempt as u64 + 1)
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

/// Connects, retrying for `nats.connect_timeout_seconds`.
///
/// # Errors
/// If the server can't be reached in that time, rejects the credentials, or has an unsupported version.
pub async fn connect(settings: &NatsConfig, name: &str) -> Result<Client, ConnectError> {
    let deadline = Instant::now() + Duration::from_secs(settings.connect_timeout_seconds);
    let addresses: Vec<&str> = settings.url.expose().split(',').map(str::trim).collect();
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    loop {
        match options(settings, name).await?.connect(&addresses[..]).await {
            Ok(client) => {
                check_version(&client, settings.url.shown())?;
                check_peers(settings, name, &addresses, &client).await?;
                return Ok(client);
            }
            Err(source) => {
                let refused = matches!(
                    source.kind(),
                    async_nats::ConnectErrorKind::AuthorizationViolation
                        | async_nats::ConnectErrorKind::Authentication
                );
                let delay = backoff.next_delay();
                if refused || Instant::now() + delay > deadline {
                    return Err(ConnectError::Unreachable {
                        url: settings.url.shown(),
                        source,
                    });
                }
                tracing::debug!(error = %source, url = %settings.url, "waiting for NATS");
                tokio::time::sleep(delay).await;
            }
        }
    }
}

fn check_version(client: &Client, url: String) -> Result<(), ConnectError> {
    nats_version::check(&client.server_info().version)
        .map_err(|source| ConnectError::Unsupported { url, source })
}

/// Checks the versions of the other servers of a cluster: streams may be on any of them, and the client may reconnect to
/// any. Servers that can't be reached now are skipped.
async fn check_peers(
    settings: &NatsConfig,
    name: &str,
    addresses: &[&str],
    client: &Client,
) -> Result<(), ConnectError> {
    let advertised = client.server_info().connect_urls;
    let peers: BTreeSet<&str> = addresses
        .iter()
        .copied()
        .chain(advertised.iter().map(String::as_str))
        .collect();
    if peers.len() < 2 {
        return Ok(());
    }
    let checks = peers.into_iter().map(|address| async move {
        let options = options(settings, name)
            .await?
            .connection_timeout(PEER_TIMEOUT)
            .event_callback(|_| std::future::ready(()));
        match options.connect(address).await {
            Ok(peer) => check_version(&peer, ServerUrl::new(address).shown()),
            Err(error) => {
                tracing::debug!(%error, "a server of the cluster was not checked");
                Ok(())
            }
        }
    });
    try_join_all(checks).await.map(drop)
}

/// Kind of a failed publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishFailure {
    /// The stream is full and rejects new messages.
    Full,
    /// The subject has as many messages as the stream allows for one subject.
    SubjectFull,
    /// The subject's last message has another sequence than expected: another publisher was first.
    Conflict,
    /// The server or the stream is unreachable, or gave no answer: the message may be stored.
    Unavailable,
    /// Another publish with the same message id or to the same subject is in process. A repeat shows how it ended.
    InProcess,
    /// The message exceeds the server's maximum size.
    TooLarge,
    /// Anything else.
    Other,
}

impl PublishFailure {
    /// Reports whether the same publish may succeed a moment later.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Unavailable | Self::InProcess)
    }

    /// Reports whether the stream has no room for the message.
    pub fn is_full(self) -> bool {
        matches!(self, Self::Full | Self::SubjectFull)
    }
}

/// Reports whether a read failed because the stream has no such message.
pub fn is_missing(error: &RawMessageError) -> bool {
    match error.kind() {
        RawMessageErrorKind::NoMessageFound => true,
        RawMessageErrorKind::JetStream(server) => server.code() == 404,
        _ => false,
    }
}

/// Classifies a publish error by how the caller can handle it.
pub fn classify(error: &jetstream::context::PublishError) -> PublishFailure {
    use std::error::Error as _;
    match error.kind() {
        PublishErrorKind::WrongLastSequence => return PublishFailure::Conflict,
        PublishErrorKind::StreamNotFound
        | PublishErrorKind::TimedOut
        | PublishErrorKind::BrokenPipe
        | PublishErrorKind::MaxAckPending => return PublishFailure::Unavailable,
        PublishErrorKind::MaxPayloadExceeded => return PublishFailure::TooLarge,
        _ => {}
    }
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(server) = cause.downcast_ref::<jetstream::Error>() {
            return match server.error_code() {
                // The same code as for a full stream.
                ErrorCode::STREAM_STORE_FAILED if server.to_string().contains("per subject") => {
                    PublishFailure::SubjectFull
                }
                // The stream reached a limit, or the server ran out of storage.
                ErrorCode::STREAM_STORE_FAILED
                | ErrorCode::INSUFFICIENT_RESOURCES
                | ErrorCode::STORAGE_RESOURCES_EXCEEDED => PublishFailure::Full,
                ErrorCode::STREAM_WRONG_LAST_SEQUENCE => PublishFailure::Conflict,
                // A cluster compares with publishes that its members have not confirmed yet.
                ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT
                | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT => PublishFailure::InProcess,
                _ if server.code() == 503 => PublishFailure::Unavailable,
                _ => PublishFailure::Other,
            };
        }
        source = cause.source();
    }
    PublishFailure::Other
}

#[cfg(test)]
mod tests {
    use async_nats::jetstream::message::PublishMessage;

    use super::*;
    use crate::fake_nats::FakeNats;

    #[tokio::test]
    async fn a_server_that_is_too_old_or_loses_jobs_is_refused() {
        for (version, refused) in [
            ("2.10.26", true),
            ("2.12.3", true),
            ("2.12.5", false),
            ("2.15.1", false),
        ] {
            let server = FakeNats::start(version, |_| None).await;
            let settings = NatsConfig {
                url: ServerUrl::new(server.url()),
                ..NatsConfig::default()
            };
            let connected = connect(&settings, "test").await;
            assert_eq!(connected.is_err(), refused, "{version}");
            if let Err(error) = connected {
                let text = error.to_string();
                assert!(text.contains(version) && text.contains("upgrade"), "{text}");
            }
        }
    }

    #[tokio::test]
    async fn a_cluster_with_one_server_that_loses_jobs_is_refused() {
        let good = FakeNats::start("2.15.1", |_| None).await;
        let bad = FakeNats::start("2.12.4", |_| None).await;
        let connected = async |urls: [&str; 2]| {
            let settings = NatsConfig {
                url: ServerUrl::new(urls.join(",")),
                ..NatsConfig::default()
            };
            connect(&settings, "test").await
        };
        let error = connected([good.url(), bad.url()]).await.unwrap_err().to_string();
        assert!(
            error.contains("2.12.4") && error.contains(bad.url().trim_start_matches("nats://")),
            "{error}"
        );
        // A server that is down is not waited for. Nobody listens on port 1.
        assert!(connected([good.url(), "nats://127.0.0.1:1"]).await.is_ok());
    }

    #[tokio::test]
    async fn publish_errors_are_classified_by_their_code() {
        // The subject names the code that the server answers with.
        let server = FakeNats::start("2.15.1", |message| {
            let (_, code) = message.subject.split_once('.')?;
            let error = format!(r#"{{"error":{{"code":400,"err_code":{code},"description":"refused"}}}}"#);
            Some(error.into_bytes())
        })
        .await;
        let jetstream = jetstream::new(async_nats::connect(server.url()).await.unwrap());
        for (code, failure) in [
            (10_071, PublishFailure::Conflict),
            (10_164, PublishFailure::InProcess),
            (10_158, PublishFailure::InProcess),
            (10_077, PublishFailure::Full),
            (10_023, PublishFailure::Full),
            (10_047, PublishFailure::Full),
            (10_060, PublishFailure::Other),
        ] {
            let publish = PublishMessage::build();
            let ack = jetstream
                .send_publish(format!("code.{code}"), publish)
                .await
                .unwrap();
            assert_eq!(classify(&ack.await.unwrap_err()), failure, "{code}");
        }
    }
}
