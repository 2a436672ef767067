//! Latency of every named query, from the request to the last byte of the response.

use std::collections::BTreeMap;

use clickhouse::Client;
use precis_runtime::clock::{self, Instant};
use precis_schemas::queries::{self, NamedQuery};
use serde::Serialize;

use crate::stats::{median, quantile};

/// Name, `from` and `bucket` of each window: the default of every query, and a month by days.
const WINDOWS: [(&str, &str, &str); 2] = [("day", "now-1d", "hour"), ("month", "now-29d", "day")];

/// Latency of a query over one window.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct QueryFigures {
    /// Median latency in milliseconds.
    pub(super) p50_ms: f64,
    /// Maximum latency in milliseconds.
    pub(super) max_ms: f64,
    /// Size of the response in bytes.
    pub(super) bytes: usize,
}

/// Runs all queries in turns and returns their latency by name and window.
pub(super) async fn measure(
    client: &Client,
    repeats: usize,
) -> anyhow::Result<BTreeMap<&'static str, BTreeMap<&'static str, QueryFigures>>> {
    let mut runs: BTreeMap<(&'static str, &'static str), (Vec<f64>, usize)> = BTreeMap::new();
    for _ in 0..repeats.max(1) {
        for query in queries::all() {
            for (window, from, bucket) in WINDOWS {
                let begin = Instant::now();
                let bytes = run_query(client, &query, from, bucket).await?;
                let ms = 1e3 * begin.elapsed().as_secs_f64();
                let entry = runs.entry((query.name, window)).or_default();
                entry.0.push(ms);
                entry.1 = bytes;
            }
        }
    }
    let mut figures: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for ((name, window), (mut ms, bytes)) in runs {
        let query = QueryFigures {
            max_ms: quantile(&mut ms, 1.0),
            p50_ms: median(ms),
            bytes,
        };
        figures.entry(name).or_default().insert(window, query);
    }
    Ok(figures)
}

/// Runs a query and returns the size of the response in bytes.
async fn run_query(client: &Client, query: &NamedQuery, from: &str, bucket: &str) -> anyhow::Result<usize> {
    let now = clock::now();
    let mut prepared = client.query_raw(query.sql);
    for parameter in &query.parameters {
        let value = match parameter.name.as_str() {
            "from" => Some(from),
            "bucket" => Some(bucket),
            _ => None,
        };
        prepared = prepared.param(&parameter.name, parameter.value(value, now)?);
    }
    Ok(prepared.fetch_bytes("JSON")?.collect().await?.len())
}
