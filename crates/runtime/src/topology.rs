//! Sets up and checks the streams and consumers that `precis_schemas::topology` describes.

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::consumer::{AckPolicy, Consumer};
use async_nats::jetstream::stream::{
    Config as StreamConfig, DiscardPolicy, Republish, RetentionPolicy, StorageType,
};
use async_nats::jetstream::{self, stream::Stream};
use precis_schemas::topology::{ConsumerSpec, OnFull, Retention, StreamSpec, TopologyLimits, streams};

/// Why the topology is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// A stream is missing and may not be created.
    #[error(
        "stream {0} is missing, and nats.manage_topology is false: ask the administrator of NATS to create it"
    )]
    Missing(&'static str),
    /// A stream differs from its description in what can't be changed.
    #[error(
        "stream {stream} exists with {field} = {found}, and {wanted} is needed: was it made by something else?"
    )]
    Differs {
        /// The stream.
        stream: &'static str,
        /// What differs.
        field: &'static str,
        /// How it is.
        found: String,
        /// How it should be.
        wanted: String,
    },
    /// JetStream refused.
    #[error("JetStream: {what}: {source}")]
    JetStream {
        /// What was being done.
        what: String,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn failed<E>(what: impl Into<String>) -> impl FnOnce(E) -> TopologyError
where
    E: std::error::Error + Send + Sync + 'static,
{
    let what = what.into();
    move |source| TopologyError::JetStream {
        what,
        source: Box::new(source),
    }
}

/// `limit` as JetStream writes it: -1 for none.
fn or_unlimited(limit: Option<u64>) -> i64 {
    limit.map_or(-1, |value| i64::try_from(value).unwrap_or(i64::MAX))
}

fn stream_config(spec: &StreamSpec, replicas: usize) -> StreamConfig {
    StreamConfig {
        name: spec.name.into(),
        description: Some(spec.description.into()),
        subjects: spec.subjects.clone(),
        retention: match spec.retention {
            Retention::WorkQueue => RetentionPolicy::WorkQueue,
            Retention::Limits => RetentionPolicy::Limits,
        },
        discard: match spec.on_full {
            OnFull::Reject => DiscardPolicy::New,
            OnFull::DropOldest => DiscardPolicy::Old,
        },
        max_messages: or_unlimited(spec.max_messages),
        max_bytes: or_unlimited(spec.max_bytes),
        max_age: spec.max_age.unwrap_or_default(),
        max_messages_per_subject: or_unlimited(spec.max_messages_per_subject),
        duplicate_window: spec.duplicate_window,
        storage: StorageType::File,
        num_replicas: replicas,
        allow_direct: true,
        republish: spec.republish.map(|(source, destination)| Republish {
            source: source.into(),
            destination: destination.into(),
            headers_only: false,
        }),
        ..StreamConfig::default()
    }
}

/// Creates what is missing, changes what may be changed, and checks the rest. Safe to run from every
/// process at every start.
///
/// # Errors
/// When a stream is missing or different and can't be put right.
pub async fn apply(
    jetstream: &jetstream::Context,
    limits: &TopologyLimits,
    replicas: usize,
    manage: bool,
) -> Result<(), TopologyError> {
    for spec in streams(limits) {
        apply_stream(jetstream, &spec, replicas, manage).await?;
    }
    Ok(())
}

async fn apply_stream(
    jetstream: &jetstream::Context,
    spec: &StreamSpec,
    replicas: usize,
    manage: bool,
) -> Result<(), TopologyError> {
    let wanted = stream_config(spec, replicas);
    let found = match jetstream.get_stream(spec.name).await {
        Ok(stream) => stream.cached_info().config.clone(),
        Err(error) if is_missing(&error) => {
            if !manage {
                return Err(TopologyError::Missing(spec.name));
            }
            tracing::info!(stream = spec.name, "creating the stream");
            // Two processes may do this at once: creating the same stream twice is no error.
            let created = jetstream.get_or_create_stream(wanted.clone()).await;
            created
                .map_err(failed(format!("create stream {}", spec.name)))?
                .cached_info()
                .config
                .clone()
        }
        Err(error) => return Err(failed(format!("look up stream {}", spec.name))(error)),
    };
    let differs = |field, found: String, wanted: String| {
        if found == wanted {
            Ok(())
        } else {
            Err(TopologyError::Differs {
                stream: spec.name,
                field,
                found,
                wanted,
            })
        }
    };
    differs(
        "subjects",
        format!("{:?}", found.subjects),
        format!("{:?}", wanted.subjects),
    )?;
    differs(
        "retention",
        format!("{:?}", found.retention),
        format!("{:?}", wanted.retention),
    )?;
    differs(
        "storage",
        format!("{:?}", found.storage),
        format!("{:?}", wanted.storage),
    )?;
    let same = found.discard == wanted.discard
        && found.max_messages == wanted.max_messages
        && found.max_bytes == wanted.max_bytes
        && found.max_age == wanted.max_age
        && found.max_messages_per_subject == wanted.max_messages_per_subject
        && found.duplicate_window == wanted.duplicate_window
        && found.allow_direct == wanted.allow_direct
        && found.republish == wanted.republish
        && found.num_replicas >= wanted.num_replicas;
    if same {
        return Ok(());
    }
    if !manage {
        tracing::warn!(
            stream = spec.name,
            "the stream differs from what it should be; an administrator of NATS may put it right"
        );
        return Ok(());
    }
    tracing::info!(stream = spec.name, "changing the stream");
    // Only what is ours: what an administrator set besides (placement, compression) stays, and copies
    // are added but never taken away.
    let update = StreamConfig {
        discard: wanted.discard,
        max_messages: wanted.max_messages,
        max_bytes: wanted.max_bytes,
        max_age: wanted.max_age,
        max_messages_per_subject: wanted.max_messages_per_subject,
        duplicate_window: wanted.duplicate_window,
        allow_direct: wanted.allow_direct,
        republish: wanted.republish,
        num_replicas: found.num_replicas.max(wanted.num_replicas),
        ..found
    };
    jetstream
        .update_stream(update)
        .await
        .map_err(failed(format!("change stream {}", spec.name)))?;
    Ok(())
}

fn is_missing(error: &jetstream::context::GetStreamError) -> bool {
    use jetstream::context::GetStreamErrorKind;
    matches!(error.kind(), GetStreamErrorKind::JetStream(server) if server.code() == 404)
}

/// A stream that [`apply`] has set up.
///
/// # Errors
/// When it can't be looked up.
pub async fn stream(jetstream: &jetstream::Context, name: &'static str) -> Result<Stream, TopologyError> {
    jetstream
        .get_stream(name)
        .await
        .map_err(failed(format!("look up stream {name}")))
}

/// The durable consumer of this description, created or changed as needed.
///
/// # Errors
/// When JetStream refuses it.
pub async fn consumer(
    jetstream: &jetstream::Context,
    spec: &ConsumerSpec,
    replicas: usize,
    manage: bool,
) -> Result<Consumer<pull::Config>, TopologyError> {
    let config = pull::Config {
        durable_name: Some(spec.name.clone()),
        description: Some(spec.description.clone()),
        filter_subject: spec.filter.clone().unwrap_or_default(),
        ack_policy: AckPolicy::Explicit,
        ack_wait: spec.ack_wait,
        max_deliver: or_unlimited(spec.max_deliver),
        max_ack_pending: or_unlimited(Some(spec.max_ack_pending)),
        num_replicas: replicas,
        ..pull::Config::default()
    };
    let what = || format!("consumer {} of stream {}", spec.name, spec.stream);
    if manage {
        jetstream
            .create_consumer_on_stream(config, spec.stream)
            .await
            .map_err(failed(what()))
    } else {
        jetstream
            .get_consumer_from_stream(&spec.name, spec.stream)
            .await
            .map_err(failed(what()))
    }
}
