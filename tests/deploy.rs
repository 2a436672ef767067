//! Checks that the files in `deploy/` name things that exist: metrics, data sources, runbook sections.
#![allow(clippy::unwrap_used)] // a test may panic

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

fn dashboards() -> Vec<(String, Value)> {
    let folder = root().join("deploy/grafana/dashboards");
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            (path.display().to_string(), serde_json::from_str(&text).unwrap())
        })
        .collect()
}

/// Returns every object of `value` that has the field `name`, with the field's value.
fn fields<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(object) => {
            found.extend(object.get(name));
            object.values().for_each(|value| fields(value, name, found));
        }
        Value::Array(items) => items.iter().for_each(|value| fields(value, name, found)),
        _ => {}
    }
}

/// Returns the series that Prometheus gets from the metrics in `docs/reference/metrics.md`.
fn series() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in read("docs/reference/metrics.md").lines() {
        let Some((name, rest)) = line.strip_prefix("| `").and_then(|line| line.split_once("` | ")) else {
            continue;
        };
        match rest.split_once(" |").unwrap().0 {
            "histogram" => names.extend(["bucket", "sum", "count"].map(|part| format!("{name}_{part}"))),
            "counter" | "gauge" => {
                names.insert(name.to_owned());
            }
            kind => panic!("{name} is a {kind}"),
        }
    }
    names
}

/// Returns the words of `text` that begin with `precis_`.
fn precis_words(text: &str) -> impl Iterator<Item = &str> {
    let part_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(move |c| !part_of_name(c))
        .filter(|word| word.starts_with("precis_"))
}

#[test]
fn every_metric_in_dashboards_and_alerts_exists() {
    let known = series();
    assert!(known.contains("precis_worker_inference_seconds_bucket"));
    let mut used = BTreeSet::new();
    for (path, dashboard) in &dashboards() {
        let mut expressions = vec![];
        fields(dashboard, "expr", &mut expressions);
        for expression in expressions {
            let names: Vec<&str> = precis_words(expression.as_str().unwrap()).collect();
            for name in &names {
                assert!(known.contains(*name), "{path}: no metric {name}");
            }
            used.extend(names.into_iter().map(str::to_owned));
        }
    }
    assert!(used.len() > 30, "{used:?}");
    for path in [
        "deploy/prometheus/alerts.yml",
        "deploy/prometheus/alerts.test.yml",
    ] {
        for name in precis_words(&read(path)) {
            assert!(known.contains(name), "{path}: no metric {name}");
        }
    }
}

#[test]
fn dashboards_use_provisioned_data_sources() {
    let provisioned = read("deploy/grafana/provisioning/datasources/precis.yaml");
    let mut ids = BTreeSet::new();
    for (path, dashboard) in &dashboards() {
        assert!(
            ids.insert(dashboard["uid"].as_str().unwrap().to_owned()),
            "{path}"
        );
        let mut sources = vec![];
        fields(dashboard, "datasource", &mut sources);
        assert!(!sources.is_empty(), "{path}");
        for source in sources {
            let uid = source["uid"].as_str().unwrap();
            assert!(provisioned.contains(&format!("uid: {uid}\n")), "{path}: {uid}");
        }
    }
}

#[test]
fn every_alert_names_a_section_of_the_runbook() {
    let anchors: BTreeSet<String> = read("docs/operate/runbook.md")
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|heading| {
            let kept = heading
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.collect::<String>().to_lowercase().replace(' ', "-")
        })
        .collect();
    let alerts = read("deploy/prometheus/alerts.yml");
    let count = |prefix| {
        alerts
            .lines()
            .filter(|line| line.trim().starts_with(prefix))
            .count()
    };
    assert_eq!(count("runbook: docs/operate/runbook.md#"), count("- alert: "));
    for anchor in alerts
        .lines()
        .filter_map(|line| line.trim().split_once("runbook.md#"))
    {
        assert!(anchors.contains(anchor.1), "no section {}", anchor.1);
    }
}
