//! What every role of Precis starts with, written once.
//!
//! [`boot::run`] is the life of a process: read the configuration, set up telemetry, run the role,
//! drain when asked to stop. A role gets a [`boot::RoleContext`] and is otherwise free of such concerns.

pub mod admin;
pub mod allocator;
pub mod backoff;
pub mod boot;
pub mod clock;
pub mod config;
pub mod expiring_map;
pub mod json;
mod json_log;
pub mod keys;
pub mod liveness;
pub mod nats;
pub mod results;
pub mod shutdown;
pub mod spans;
pub mod telemetry;
pub mod topology;
pub mod trace_context;
pub mod webhooks;

pub use boot::RoleContext;
pub use config::Config;
