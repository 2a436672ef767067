//! The inventory of metrics in `docs/reference/metrics.md` lists every described metric, and names follow the
//! conventions of Prometheus and OpenMetrics.
#![allow(clippy::unwrap_used)] // a test may panic

use std::collections::BTreeMap;
use std::sync::Mutex;

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit, with_local_recorder,
};

/// A metric as its role describes it.
struct Described {
    kind: &'static str,
    unit: Option<Unit>,
    text: String,
}

/// Keeps descriptions.
#[derive(Default)]
struct Inventory(Mutex<BTreeMap<String, Described>>);

impl Inventory {
    fn add(&self, kind: &'static str, name: &KeyName, unit: Option<Unit>, text: &SharedString) {
        let described = Described {
            kind,
            unit,
            text: text.to_string(),
        };
        let before = self.0.lock().unwrap().insert(name.as_str().to_owned(), described);
        assert!(before.is_none(), "{} is described twice", name.as_str());
    }
}

impl Recorder for Inventory {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.add("counter", &name, unit, &text);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.add("gauge", &name, unit, &text);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.add("histogram", &name, unit, &text);
    }

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// Describes the metrics of a gateway, with or without a queue.
fn describe_gateway() {
    precis_api::describe_metrics();
    precis_serverless::describe_metrics();
}

/// What each role describes at its start.
fn roles() -> Vec<(&'static str, BTreeMap<String, Described>)> {
    let roles: [(&str, fn()); 3] = [
        ("precis-api", describe_gateway),
        ("precis-worker", precis_worker::metrics::describe),
        ("precis-monitor", precis_monitor::describe_metrics),
    ];
    let described = |describe: fn()| {
        let inventory = Inventory::default();
        with_local_recorder(&inventory, describe);
        inventory.0.into_inner().unwrap()
    };
    roles
        .into_iter()
        .map(|(role, describe)| (role, described(describe)))
        .collect()
}

fn page() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         Every role serves `/metrics` in Prometheus' text format: the gateway on `api.listen`, a worker on\n\
         `worker.admin_listen`, the monitor on `monitor.listen`. Durations are in seconds, and\n\
         `crates/runtime/src/telemetry.rs` defines the buckets of histograms. A description names the labels: `by sink`\n\
         means the label `sink`.\n\n\
         This page is generated from the code: `PRECIS_UPDATE=1 cargo test -p precis --test metrics` rewrites it.\n",
    );
    for (role, metrics) in roles() {
        page.push_str(&format!(
            "\n## {role}\n\n| name | kind | unit | meaning |\n| --- | --- | --- | --- |\n"
        ));
        for (name, metric) in metrics {
            let unit = match metric.unit {
                None | Some(Unit::Count) => "–",
                Some(Unit::Seconds) => "seconds",
                Some(Unit::Bytes) => "bytes",
                Some(other) => other.as_str(),
            };
            page.push_str(&format!(
                "| `{name}` | {} | {unit} | {} |\n",
                metric.kind, metric.text
            ));
        }
    }
    page
}

#[test]
fn the_inventory_lists_every_described_metric() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/metrics.md");
    let fresh = page();
    if std::env::var_os("PRECIS_UPDATE").is_some() {
        std::fs::write(path, &fresh).unwrap();
    }
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(
        stored, fresh,
        "docs/reference/metrics.md is out of date: run with PRECIS_UPDATE=1"
    );
}

#[test]
fn names_follow_the_conventions() {
    for (role, metrics) in roles() {
        let prefix = role.replace('-', "_");
        for (name, metric) in metrics {
            let plain = name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            assert!(
                // Every monitor reports the same about the queue.
                plain && (name.starts_with(&format!("{prefix}_")) || name.starts_with("precis_queue_")),
                "{name}: {prefix}_…, in snake case"
            );
            assert_eq!(
                name.ends_with("_total"),
                metric.kind == "counter",
                "{name}: _total is for counters"
            );
            let reserved = ["_bucket", "_count", "_sum", "_info"];
            assert!(
                !reserved.iter().any(|end| name.ends_with(end)),
                "{name} ends like a part of another kind"
            );
            let base = name.trim_end_matches("_total");
            assert_eq!(
                metric.unit == Some(Unit::Seconds),
                base.ends_with("_seconds"),
                "{name}: seconds"
            );
            assert_eq!(
                metric.unit == Some(Unit::Bytes),
                base.ends_with("_bytes"),
                "{name}: bytes"
            );
            let abbreviated = [
                "_ms",
                "_us",
                "_ns",
                "_s",
                "_sec",
                "_milliseconds",
                "_minutes",
                "_kb",
                "_mb",
            ];
            assert!(
                !abbreviated.iter().any(|end| base.ends_with(end)),
                "{name}: base units, written out"
            );
            assert!(
                metric.text.len() > 10 && !metric.text.contains('|'),
                "{name} is described"
            );
        }
    }
}
