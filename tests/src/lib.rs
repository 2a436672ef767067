//! Harness of the end-to-end tests: the product as real processes with real servers, on free ports and in a new data
//! folder.
//!
//! Servers are downloaded once into the user's cache, as `precis up` does.
//!
//! | file | content |
//! | --- | --- |
//! | `product.rs` | starting and stopping the product |
//! | `browser.rs` | a headless Chromium |
//! | `client.rs` | requests over REST, NATS and SQL |
//! | `folder.rs` | data folders |
//! | `process.rs` | processes that a test starts |
//! | `processes.rs` | processes that it finds |
//! | `receiver.rs` | a server in place of Arize's cloud or an OTLP collector |
//! | `samples.rs` | sample articles |
//! | `wait.rs` | waiting for a condition |
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::missing_panics_doc)] // a harness of tests may panic

mod browser;
pub mod client;
mod folder;
pub mod process;
pub mod processes;
pub mod product;
pub mod receiver;
pub mod samples;
mod wait;

pub use browser::Browser;
pub use client::id_of;
pub use process::Process;
pub use product::{Options, Product};
pub use wait::eventually;
