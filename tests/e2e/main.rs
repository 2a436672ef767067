//! End-to-end tests: real processes, a real nats-server, the real ClickHouse engine, the real model.
//!
//! Tests that only use the product share one. Tests that break something start their own.
#![allow(clippy::unwrap_used, clippy::expect_used)] // tests may panic

mod access;
mod admission;
mod analytics;
mod arize;
mod backlog;
mod batch_cancellation;
mod batches;
mod browsers;
mod bulk;
mod cluster;
mod compat_routes;
mod console;
mod contracts;
mod crash_isolation;
mod crashes;
mod drift;
mod estimates;
mod fairness;
mod fault_suite;
mod faults;
mod grafana;
mod guarded;
mod jobs;
mod languages;
mod late_references;
mod lifecycle;
mod local;
mod models;
mod monitor;
mod monitor_faults;
mod nats_direct;
mod operations;
mod predictions;
mod producer;
mod rest;
mod schema;
mod slow_clients;
mod stranded;
mod texts;
mod traces;
mod webhooks;

use precis_tests::{Options, Product};
use tokio::sync::OnceCell;

const PROGRAM: &str = env!("CARGO_BIN_EXE_precis-e2e");

/// The shared product. It ends with this process through its standard input, and the next test process removes its
/// folder.
async fn shared() -> &'static Product {
    static SHARED: OnceCell<Product> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            let settings = vec![
                "worker.linger_ms=150".into(),
                "monitor.unserved_grace_seconds=2".into(),
            ];
            let options = Options {
                workers: 1,
                settings,
                shared_in: Some(env!("CARGO_TARGET_TMPDIR").into()),
                ..Options::default()
            };
            Product::start(PROGRAM, options).await
        })
        .await
}
