//! The embedded ClickHouse engine through its HTTP interface, with the real engine.
//!
//! One engine serves every test of this binary, because a process can have only one; what needs
//! another process starts this binary again.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod cancel;
mod data;
mod harness;
mod http;
mod process;
