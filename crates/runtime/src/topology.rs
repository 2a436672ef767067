//! Creates, updates and checks the streams and consumers of `precis_schemas::topology`.

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::consumer::{AckPolicy, Consumer};
use async_nats::jetstream::stream::{
    Config as StreamConfig, DiscardPolicy, Republish, RetentionPolicy, StorageType,
};
use async_nats::jetstream::{self, stream::Stream};
use futures::TryStreamExt;
use precis_schemas::topology::{ConsumerSpec, OnFull, Retention, StreamSpec, TopologyLimits, streams};

/// A stream or consumer that is missing or can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// A stream is missing and may not be created.
    #[error(
        "stream {0} is missing and nats.manage_topology is false; ask the administrator of NATS to create it"
    )]
    Missing(&'static str),
    /// A stream has another value for a setting that can't be changed.
    #[error(
        "stream {stream} has {field} = {found}, but Precis needs {wanted}; another program may have created it"
    )]
    Differs {
        /// The stream.
        stream: &'static str,
        /// The setting.
        field: &'static str,
        /// Its value.
        found: String,
        /// The required value.
        wanted: String,
    },
    /// JetStream returned an error.
    #[error("JetStream: {what}: {source}")]
    JetStream {
        /// The operation.
        what: String,
        /// The cause.
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

/// Converts a limit to JetStream's notation: -1 for none.
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
        // Without this, the server drops a subject's oldest message.
        discard_new_per_subject: spec.on_full == OnFull::Reject && spec.max_messages_per_subject.is_some(),
        max_messages: or_unlimited(spec.max_messages),
        max_bytes: or_unlimited(spec.max_bytes),
        max_age: spec.max_age.unwrap_or_default(),
        max_messages_per_subject: or_unlimited(spec.max_messages_per_subject),
        max_consumers: spec
            .max_consumers
            .map_or(-1, |limit| i32::try_from(limit).unwrap_or(i32::MAX)),
        duplicate_window: spec.duplicate_window,
        storage: StorageType::File,
        num_replicas: replicas,
        allow_direct: true,
        republish: spec.republish.map(|republish| Republish {
            source: republish.source.into(),
            destination: republish.destination.into(),
            headers_only: republish.headers_only,
        }),
        ..StreamConfig::default()
    }
}

/// Creates missing streams, updates changeable settings, and checks the others. Every process may call it at every
/// start.
///
/// # Errors
/// If a stream is missing or has a wrong setting that can't be changed.
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
            // Another process may create the same stream at the same time, which is no error.
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
    // A later version adds subjects. A stream with others belongs to another program.
    let is_extended = found
        .subjects
        .iter()
        .all(|subject| wanted.subjects.contains(subject));
    if !manage || !is_extended {
        differs(
            "subjects",
            format!("{:?}", found.subjects),
            format!("{:?}", wanted.subjects),
        )?;
    }
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
    let same = found.subjects == wanted.subjects
        && found.discard == wanted.discard
        && found.discard_new_per_subject == wanted.discard_new_per_subject
        && found.max_messages == wanted.max_messages
        && found.max_bytes == wanted.max_bytes
        && found.max_age == wanted.max_age
        && found.max_messages_per_subject == wanted.max_messages_per_subject
        && found.max_consumers == wanted.max_consumers
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
            "the stream's settings differ from the configuration; ask an administrator of NATS to update it"
        );
        return Ok(());
    }
    tracing::info!(stream = spec.name, "changing the stream");
    // Keep an administrator's other settings (placement, compression). Replicas are added but never removed.
    let max_consumers = found.max_consumers;
    let max_per_subject = Box::pin(safe_subject_limit(jetstream, spec, &found, &wanted)).await?;
    let mut update = StreamConfig {
        subjects: wanted.subjects,
        discard: wanted.discard,
        discard_new_per_subject: wanted.discard_new_per_subject && max_per_subject > 0,
        max_messages: wanted.max_messages,
        max_bytes: wanted.max_bytes,
        max_age: wanted.max_age,
        max_messages_per_subject: max_per_subject,
        max_consumers: wanted.max_consumers,
        duplicate_window: wanted.duplicate_window,
        allow_direct: wanted.allow_direct,
        republish: wanted.republish,
        num_replicas: found.num_replicas.max(wanted.num_replicas),
        ..found
    };
    let mut changed = jetstream.update_stream(update.clone()).await;
    if changed.is_err() && update.max_consumers != max_consumers {
        // nats-server 2.11 does not change this limit; it has none by default.
        update.max_consumers = max_consumers;
        changed = jetstream.update_stream(update).await;
    }
    changed.map_err(failed(format!("change stream {}", spec.name)))?;
    Ok(())
}

/// Returns the limit per subject to set: the present one if the wanted one is too low for the stored messages.
///
/// The server deletes the oldest messages of a subject beyond a new limit, also from a stream that rejects new ones when
/// it is full.
async fn safe_subject_limit(
    jetstream: &jetstream::Context,
    spec: &StreamSpec,
    found: &StreamConfig,
    wanted: &StreamConfig,
) -> Result<i64, TopologyError> {
    let (present, limit) = (found.max_messages_per_subject, wanted.max_messages_per_subject);
    let is_lower = limit > 0 && (present <= 0 || limit < present);
    if spec.on_full == OnFull::DropOldest || !is_lower {
        return Ok(limit);
    }
    let counted = || failed(format!("count the messages of stream {}", spec.name));
    let most = stream(jetstream, spec.name)
        .await?
        .info_with_subjects(">")
        .await
        .map_err(counted())?
        .try_fold(0, |most, (_, messages)| async move { Ok(messages.max(most)) })
        .await
        .map_err(counted())?;
    // Leaves room for messages that arrive meanwhile.
    if (most as u64).saturating_mul(10) <= limit.unsigned_abs().saturating_mul(9) {
        return Ok(limit);
    }
    tracing::warn!(
        stream = spec.name,
        messages = most,
        limit,
        "a subject exceeds its new limit; the old limit stays until a start finds fewer messages"
    );
    Ok(present)
}

fn is_missing(error: &jetstream::context::GetStreamError) -> bool {
    use jetstream::context::GetStreamErrorKind;
    matches!(error.kind(), GetStreamErrorKind::JetStream(server) if server.code() == 404)
}

/// Returns a stream that [`apply`] has created.
///
/// # Errors
/// If the lookup fails.
pub async fn stream(jetstream: &jetstream::Context, name: &'static str) -> Result<Stream, TopologyError> {
    jetstream
        .get_stream(name)
        .await
        .map_err(failed(format!("look up stream {name}")))
}

/// Returns a durable consumer, creating or updating it if `manage` is set.
///
/// # Errors
/// If JetStream rejects it.
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
        // 0 leaves the choice to the server.
        max_waiting: spec
            .max_waiting
            .map_or(0, |limit| i64::try_from(limit).unwrap_or(i64::MAX)),
        inactive_threshold: spec.inactive_threshold.unwrap_or_default(),
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
