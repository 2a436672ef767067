//! The contract of Precis, in one place and without I/O.
//!
//! A publisher or reader in any language needs a NATS client and what this crate describes:
//!
//! * [`job`], [`result`], [`event`], [`mod@reference`], [`dead`]: what travels on NATS, version 1;
//! * [`rest`]: what travels over HTTP;
//! * [`termination`]: the record of a job that ended without a worker;
//! * [`batch_view`] and [`manifest`]: batches, over HTTP and as they are kept;
//! * [`callback`]: where the end of a job is to be posted;
//! * [`subject`] and [`topology`]: where it travels, and how the streams and consumers are set up;
//! * [`error_code`]: every way in which a request can be refused or a job can fail;
//! * [`migrations`]: the tables that the monitor writes; [`queries`]: the questions that are asked of them;
//! * [`json_schema`]: the same types as JSON Schema, for everybody who does not write Rust.
//!
//! A change on the wire is a new version module beside the old one, never an edit of a frozen snapshot
//! in `schemas/wire/`.

pub mod asyncapi;
pub mod batch;
pub mod batch_view;
pub mod callback;
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
pub mod params;
pub mod queries;
pub mod reference;
pub mod rest;
mod rest_models;
mod rest_scores;
pub mod result;
pub mod scores;
pub mod subject;
pub mod termination;
pub mod time;
pub mod topology;

pub use error_code::ErrorCode;
pub use ids::{JobHandle, JobId};
pub use job::{Channel, Job};
pub use params::GenerationParams;
pub use result::{JobResult, Outcome};
pub use subject::{JobSubject, Lane, Task, Token};
