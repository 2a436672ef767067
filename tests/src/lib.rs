//! Harness of the end-to-end tests: the product as real processes on free ports and a data folder of
//! its own, with real servers.
//!
//! Servers are fetched once into the user's cache, as `precis up` does for everybody.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::missing_panics_doc)] // a harness of tests may panic

pub mod process;
pub mod product;
pub mod samples;

pub use process::Process;
pub use product::{Options, Product};
