//! The NATS interface as an AsyncAPI 3 document, built from the types, subjects and topology.
//!
//! A test compares it with `schemas/asyncapi.json`; `PRECIS_UPDATE=1 cargo test -p precis-schemas` regenerates the
//! file. AsyncAPI's NATS bindings only know queue groups, so streams and consumers are described under `x-jetstream`.

use std::time::Duration;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::dead::DeadLetter;
use crate::event::{Cancel, Drain, HEARTBEAT_SECONDS, Heartbeat, Progress};
use crate::headers;
use crate::reference::LateReference;
use crate::topology::{
    ConsumerSpec, DEAD, JOBS, OnFull, REFERENCES, RESULTS, Retention, StreamSpec, TEXTS, TopologyLimits,
    clickhouse_references_consumer, clickhouse_sink_consumer, streams,
};
use crate::worker_consumers::{TenantLane, lane_marker};
use crate::{Job, JobResult, Lane, Token};

/// One subject of the contract.
struct Channel {
    name: &'static str,
    address: &'static str,
    /// `receive`: Precis reads it; `send`: Precis publishes on it.
    action: &'static str,
    message: &'static str,
    summary: &'static str,
    /// The stream that stores it.
    stream: Option<&'static str>,
    /// Names of its message headers.
    headers: &'static [&'static str],
}

const CHANNELS: [Channel; 10] = [
    Channel {
        name: "jobs",
        address: "jobs.v1.{model}.{lane}.{task}.{tenant}",
        action: "receive",
        message: "job",
        summary: "A job. It is accepted once the stream acknowledges the publish. A full queue rejects it.",
        stream: Some(JOBS),
        headers: &[headers::MESSAGE_ID, headers::TRACEPARENT, headers::TRACESTATE],
    },
    Channel {
        name: "results",
        address: "results.v1.{job_id}",
        action: "send",
        message: "result",
        summary: "How a job ended. The stream stores only the first final result of a job, but plain subscribers also see \
            the others: subscribe to `done.v1.*` instead.",
        stream: Some(RESULTS),
        headers: &[
            headers::EXPECTED_LAST_SUBJECT_SEQUENCE,
            headers::TRACEPARENT,
            headers::TRACESTATE,
        ],
    },
    Channel {
        name: "texts",
        address: "texts.v1.{tenant}.{job_id}.{job_sequence}",
        action: "send",
        message: "text",
        summary: "The text of a job that ended, stored before its result, if the result says `text_in_stream`. The body \
            is no JSON: the length of the text in bytes (four bytes, little-endian), and one LZ4 block.",
        stream: Some(TEXTS),
        headers: &[],
    },
    Channel {
        name: "done",
        address: "done.v1.{job_id}",
        action: "send",
        message: "result",
        summary: "The result, republished by the server once the stream has stored it. May be missed; the stream has it.",
        stream: None,
        headers: &[],
    },
    Channel {
        name: "references",
        address: "references.v1.{job_id}",
        action: "receive",
        message: "reference",
        summary: "A human summary that arrives after its job. The prediction is scored against it. The last one counts.",
        stream: Some(REFERENCES),
        headers: &[headers::MESSAGE_ID, headers::TRACEPARENT, headers::TRACESTATE],
    },
    Channel {
        name: "dead",
        address: "dead.v1.{task}",
        action: "send",
        message: "deadLetter",
        summary: "A message that could not be processed, with the reason.",
        stream: Some(DEAD),
        headers: &[
            headers::MESSAGE_ID,
            headers::ORIGINAL_SUBJECT,
            headers::DEAD_REASON,
        ],
    },
    Channel {
        name: "progress",
        address: "progress.v1.{job_id}",
        action: "send",
        message: "progress",
        summary: "A job is running, perhaps with the text so far. May be missed.",
        stream: None,
        headers: &[],
    },
    Channel {
        name: "cancels",
        address: "cancels.v1.{job_id}",
        action: "receive",
        message: "cancel",
        summary: "A client cancelled the job. The worker that runs it removes it from its decoding batch.",
        stream: None,
        headers: &[],
    },
    Channel {
        name: "workers",
        address: "workers.v1.{worker_id}",
        action: "send",
        message: "heartbeat",
        summary: "A worker's model, lanes, load and pace, every few seconds.",
        stream: None,
        headers: &[],
    },
    Channel {
        name: "drains",
        address: "drains.v1.{worker_id}",
        action: "receive",
        message: "drain",
        summary: "A request to retire a worker, which replies with the number of jobs that it still holds.",
        stream: None,
        headers: &[],
    },
];

/// The document.
pub fn document() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let messages = messages(&mut generator);
    let streams = streams(&TopologyLimits::default());
    let channels: Map<String, Value> = CHANNELS
        .iter()
        .map(|channel| (channel.name.to_owned(), render(channel, &streams)))
        .collect();
    let operations: Map<String, Value> = CHANNELS
        .iter()
        .map(|channel| {
            let operation = json!({
                "action": channel.action,
                "channel": {"$ref": format!("#/channels/{}", channel.name)},
                "summary": channel.summary,
            });
            (format!("{}_{}", channel.action, channel.name), operation)
        })
        .collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Precis over NATS",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Publish a job, read its result. `send` and `receive` are from Precis' point of view. Bodies are \
                JSON; readers of results ignore fields that they don't know, jobs with unknown fields are refused.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": {
                "host": "127.0.0.1:4222",
                "protocol": "nats",
                "description": "The server that `precis up` starts, with JetStream",
            },
        },
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": generator.take_definitions(true),
        },
    })
}

fn messages(generator: &mut SchemaGenerator) -> Value {
    fn message<T: JsonSchema>(generator: &mut SchemaGenerator, name: &str, title: &str) -> Value {
        json!({
            "name": name,
            "title": title,
            "contentType": "application/json",
            "payload": generator.subschema_for::<T>(),
        })
    }
    json!({
        "job": message::<Job>(generator, "job.v1", "A text to summarize"),
        "result": message::<JobResult>(generator, "result.v1", "How a job ended"),
        "text": json!({
            "name": "text.v1",
            "title": "The text of a job that ended",
            "contentType": "application/octet-stream",
            "payload": {"type": "string", "format": "binary"},
        }),
        "reference": message::<LateReference>(generator, "reference.v1", "A late reference"),
        "deadLetter": message::<DeadLetter>(generator, "dead-letter.v1", "A dead letter"),
        "progress": message::<Progress>(generator, "progress.v1", "A job is running"),
        "cancel": message::<Cancel>(generator, "cancel.v1", "A job was cancelled"),
        "drain": message::<Drain>(generator, "drain.v1", "A request to retire a worker"),
        "heartbeat": message::<Heartbeat>(generator, "heartbeat.v1", "A worker is alive"),
    })
}

fn render(channel: &Channel, streams: &[StreamSpec]) -> Value {
    let mut rendered = json!({
        "address": channel.address,
        "description": channel.summary,
        "messages": {
            channel.message: {"$ref": format!("#/components/messages/{}", channel.message)},
        },
        "parameters": parameters(channel.address),
    });
    let stream = streams.iter().find(|spec| Some(spec.name) == channel.stream);
    let mut jetstream = Map::new();
    if let Some(spec) = stream {
        jetstream.insert("stream".into(), stream_facts(spec));
        jetstream.insert("consumers".into(), consumers(spec.name));
    }
    if !channel.headers.is_empty() {
        jetstream.insert("headers".into(), json!(channel.headers));
    }
    if channel.name == "workers" {
        jetstream.insert("period_seconds".into(), HEARTBEAT_SECONDS.into());
    }
    if !jetstream.is_empty() {
        rendered["x-jetstream"] = jetstream.into();
    }
    rendered
}

fn parameters(address: &str) -> Value {
    let one = |part: &str| {
        let name = part.strip_prefix('{')?.strip_suffix('}')?;
        let parameter = match name {
            "model" => json!({"description": "Name under which a model is served", "default": "default"}),
            "lane" => json!({
                "description": "Priority",
                "enum": Lane::ALL.iter().map(|lane| lane.as_str()).collect::<Vec<_>>(),
                "default": "normal",
            }),
            "task" => json!({"description": "Task of the job, such as `summarize`"}),
            "tenant" => json!({"description": "Tenant that owns the job"}),
            "job_id" => json!({"description": "Id of the job: 1 to 64 characters of A-Z a-z 0-9 _ -"}),
            "job_sequence" => json!({"description": "Sequence of the job in `JOBS`"}),
            _ => json!({"description": "Id of the worker"}),
        };
        Some((name.to_owned(), parameter))
    };
    address.split('.').filter_map(one).collect::<Map<_, _>>().into()
}

fn seconds(time: Duration) -> Value {
    time.as_secs().into()
}

fn stream_facts(spec: &StreamSpec) -> Value {
    json!({
        "name": spec.name,
        "description": spec.description,
        "subjects": spec.subjects,
        "retention": match spec.retention {
            Retention::WorkQueue => "workqueue",
            Retention::Limits => "limits",
        },
        "discard": match spec.on_full {
            OnFull::Reject => "new",
            OnFull::DropOldest => "old",
        },
        "storage": "file",
        "allow_direct": true,
        "max_msgs": spec.max_messages,
        "max_bytes": spec.max_bytes,
        "max_age_seconds": spec.max_age.map(seconds),
        "max_msgs_per_subject": spec.max_messages_per_subject,
        "max_consumers": spec.max_consumers,
        "duplicate_window_seconds": seconds(spec.duplicate_window),
        "republish": spec.republish.map(|republish| json!({
            "src": republish.source,
            "dest": republish.destination,
            "headers_only": republish.headers_only,
        })),
    })
}

/// Returns the consumers of a stream. Workers' consumers are shown for the model `default` and the tenant `public`.
fn consumers(stream: &str) -> Value {
    let mut specs = Vec::new();
    for lane in Lane::ALL.iter().copied() {
        let jobs = TenantLane {
            model: Token::sanitized("default"),
            lane,
            tenant: Token::sanitized("public"),
        };
        specs.push(lane_marker(&jobs.model, lane));
        specs.push(jobs.consumer(Duration::from_secs(30)));
    }
    specs.extend([clickhouse_sink_consumer(), clickhouse_references_consumer()]);
    let facts = |spec: &ConsumerSpec| {
        json!({
            "durable_name": spec.name,
            "description": spec.description,
            "filter_subject": spec.filter,
            "ack_policy": "explicit",
            "ack_wait_seconds": seconds(spec.ack_wait),
            "max_deliver": spec.max_deliver,
            "max_ack_pending": spec.max_ack_pending,
            "max_waiting": spec.max_waiting,
            "inactive_threshold_seconds": spec.inactive_threshold.map(seconds),
        })
    };
    specs
        .iter()
        .filter(|spec| spec.stream == stream)
        .map(facts)
        .collect()
}
