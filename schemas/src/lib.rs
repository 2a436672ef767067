//! The contract of Precis: messages, subjects, streams, error codes and SQL. No I/O.
//!
//! Publishers and readers in any language need only a NATS client and this contract:
//!
//! | module | content |
//! | --- | --- |
//! | [`job`], [`result`], [`event`], [`mod@reference`], [`dead`] | the messages on NATS, version 1 |
//! | [`rest`], [`rest_operations`] | the bodies of the REST interface |
//! | [`termination`] | the result of a job that ended without a worker |
//! | [`batch_view`], [`manifest`] | batches, over HTTP and in the stream `BATCHES` |
//! | [`callback`] | webhooks |
//! | [`subject`], [`topology`], [`worker_consumers`] | subjects, streams and consumers |
//! | [`nats_version`] | the versions of nats-server that Precis works with |
//! | [`console`] | the libraries of the gateway's console |
//! | [`error_code`] | every reason why a request is refused or a job fails |
//! | [`migrations`], [`queries`] | the tables that the monitor writes, and the named queries over them |
//! | [`strict_json`] | the reader of JSON that clients send |
//! | [`json_schema`] | the types as JSON Schema, for other languages |
//!
//! A change of the wire format is a new version beside the old one, never an edit of the frozen snapshots in
//! `schemas/wire/`.

pub mod asyncapi;
pub mod batch;
pub mod batch_view;
pub mod callback;
pub mod console;
pub mod dead;
pub mod decode_error;
pub mod embedding;
pub mod error_code;
pub mod event;
pub mod headers;
pub mod ids;
pub mod job;
pub mod json_schema;
pub mod manifest;
pub mod migrations;
pub mod monitor_request;
pub mod nats_version;
pub mod params;
pub mod queries;
pub mod reference;
pub mod rest;
pub mod rest_bulk;
mod rest_models;
pub mod rest_operations;
mod rest_scores;
pub mod result;
mod salvage;
pub mod scores;
pub mod strict_json;
pub mod subject;
pub mod termination;
pub mod time;
pub mod topology;
pub mod worker_consumers;

pub use error_code::ErrorCode;
pub use ids::{JobHandle, JobId};
pub use job::{Channel, Job};
pub use params::GenerationParams;
pub use result::{JobResult, Outcome};
pub use subject::{JobSubject, Lane, Task, Token};
