//! Every named query, timed from the request to the last byte of the answer.

use std::collections::BTreeMap;
use tokio::time::Instant;

use clickhouse::Client;
use precis_runtime::clock;
use precis_schemas::queries::{self, NamedQuery};
use serde::Serialize;

use super::super::clock::{median, quantile};

/// Windows that are asked for: the default of every query, and a month by days.
const WINDOWS: [(&str, &str, &str); 2] = [("day", "now-1d", "hour"), ("month", "now-29d", "day")];

/// Milliseconds of a query over one window.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Timed {
    /// Half of the answers took this long at most.
    pub(super) p50_ms: f64,
    /// The slowest.
    pub(super) max_ms: f64,
    /// Bytes of the answer.
    pub(super) bytes: usize,
}

/// Asks all queries in turns; what they took, by name and window.
pub(super) async fn timed(
    client: &Client,
    repeats: usize,
) -> anyhow::Result<BTreeMap<&'static str, BTreeMap<&'static str, Timed>>> {
    let mut spent: BTreeMap<(&'static str, &'static str), (Vec<f64>, usize)> = BTreeMap::new();
    for _ in 0..repeats.max(1) {
        for query in queries::all() {
            for (window, from, bucket) in WINDOWS {
                let begin = Instant::now();
                let bytes = ask(client, &query, from, bucket).await?;
                let ms = 1e3 * begin.elapsed().as_secs_f64();
                let entry = spent.entry((query.name, window)).or_default();
                entry.0.push(ms);
                entry.1 = bytes;
            }
        }
    }
    let mut timed: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for ((name, window), (mut ms, bytes)) in spent {
        let found = Timed {
            max_ms: quantile(&mut ms, 1.0),
            p50_ms: median(ms),
            bytes,
        };
        timed.entry(name).or_default().insert(window, found);
    }
    Ok(timed)
}

/// The bytes of the answer.
async fn ask(client: &Client, query: &NamedQuery, from: &str, bucket: &str) -> anyhow::Result<usize> {
    let now = clock::now();
    let mut prepared = client.query_raw(query.sql);
    for parameter in &query.parameters {
        let given = match parameter.name.as_str() {
            "from" => Some(from),
            "bucket" => Some(bucket),
            _ => None,
        };
        prepared = prepared.param(&parameter.name, parameter.value(given, now)?);
    }
    Ok(prepared.fetch_bytes("JSON")?.collect().await?.len())
}
