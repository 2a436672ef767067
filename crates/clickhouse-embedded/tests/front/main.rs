//! Tests of the HTTP interface with the real engine.
//!
//! All tests share one engine, because a process can have only one. Tests that need their own process start this binary
//! again.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod cancel;
mod data;
mod harness;
mod http;
mod peers;
mod process;
mod sessions;
