//! Harness of the end-to-end tests: the product as real processes on free ports and a data folder of
//! its own, with real servers.
//!
//! Servers are fetched once into the user's cache, as `precis up` does for everybody.
//!
//! | file | what |
//! | --- | --- |
//! | `product.rs` | starting and stopping the product |
//! | `client.rs` | what a test asks of it: over REST, NATS and SQL |
//! | `folder.rs` | where its data is |
//! | `process.rs` | a process that a test starts |
//! | `processes.rs` | processes that it finds |
//! | `receiver.rs` | a server that stands for Arize's cloud, or for a collector |
//! | `samples.rs` | texts |
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::missing_panics_doc)] // a harness of tests may panic

pub mod client;
mod folder;
pub mod process;
pub mod processes;
pub mod product;
pub mod receiver;
pub mod samples;

pub use client::{eventually, id_of};
pub use process::Process;
pub use product::{Options, Product};
