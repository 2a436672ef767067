//! The runtime that all roles share: configuration, telemetry, NATS, shutdown, clock and retries.
//!
//! [`boot::run`] runs a role's process: it loads the configuration, sets up telemetry, runs the role, and stops it on a
//! signal. The role receives a [`boot::RoleContext`].

pub mod admin;
pub mod allocator;
pub mod backoff;
pub mod boot;
pub mod browser_guard;
pub mod clock;
pub mod config;
pub mod durable;
pub mod expiring_map;
#[cfg(any(test, feature = "fake-nats"))]
pub mod fake_nats;
pub mod http_server;
pub mod json;
mod json_log;
pub mod keys;
pub mod liveness;
pub mod nats;
pub mod problem;
pub mod results;
pub mod retry_after;
pub mod shutdown;
pub mod spans;
pub mod telemetry;
pub mod texts;
pub mod topology;
pub mod trace_context;
pub mod webhooks;

pub use boot::RoleContext;
pub use config::Config;
