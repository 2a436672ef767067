//! Dashboards: every panel of `docs/operate/grafana/` asks for columns that the named queries have, and every ClickHouse
//! panel of `deploy/grafana/` returns rows.

use std::collections::BTreeSet;
use std::time::Duration;

use precis_runtime::clock;
use precis_schemas::queries;
use precis_tests::{eventually, samples};
use serde_json::{Value, json};

use crate::shared;

#[tokio::test]
async fn every_panel_shows_columns_of_a_named_query() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operate/grafana/precis.json");
    let dashboard: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let product = shared().await;
    let mut variables = vec![
        (
            "__from:date:iso".to_owned(),
            "2026-01-01T00:00:00.000Z".to_owned(),
        ),
        ("__to:date:iso".to_owned(), "2026-01-02T00:00:00.000Z".to_owned()),
    ];
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        variables.push((text(&variable["name"]), text(&variable["current"]["value"])));
    }
    let mut asked = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = &panel["title"];
        for target in panel["targets"].as_array().unwrap() {
            let mut url = target["url"].as_str().unwrap().to_owned();
            for (name, value) in &variables {
                url = url.replace(&format!("${{{name}}}"), value);
            }
            assert!(!url.contains('$'), "{title}: {url}");
            let query = url
                .strip_prefix("/v1/analytics/")
                .and_then(|rest| rest.split_once('?'));
            asked.insert(query.expect("a named query").0.to_owned());
            let (status, answer) = product.get(&url).await;
            assert_eq!(status, 200, "{title}: {answer}");
            let answer = answer.as_str().expect("CSV");
            let names: Vec<&str> = answer
                .lines()
                .next()
                .unwrap()
                .split(',')
                .map(|name| name.trim_matches('"'))
                .collect();
            for column in target["columns"].as_array().unwrap() {
                let selector = column["selector"].as_str().unwrap();
                assert!(
                    names.contains(&selector),
                    "{title} shows {selector}, and there are {names:?}"
                );
            }
        }
    }
    let named: BTreeSet<String> = queries::all().map(|query| query.name.to_owned()).collect();
    assert_eq!(asked, named);
}

/// Returns the arguments and the rest of `text` after a macro's name.
fn arguments(text: &str) -> (&str, &str) {
    text.strip_prefix('(')
        .and_then(|text| text.split_once(')'))
        .expect("one argument")
}

/// Expands the macros of Grafana's ClickHouse plugin as the plugin does, for an interval of one minute.
fn expand(sql: &str, from: i64, to: i64) -> String {
    let Some((before, rest)) = sql.split_once("$__") else {
        return sql.to_owned();
    };
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap();
    let (name, mut rest) = rest.split_at(end);
    let expanded = match name {
        "fromTime" => format!("toDateTime({from})"),
        "toTime" => format!("toDateTime({to})"),
        "timeFilter" => {
            let (column, after) = arguments(rest);
            rest = after;
            format!("{column} >= toDateTime({from}) AND {column} <= toDateTime({to})")
        }
        "timeInterval" => {
            let (column, after) = arguments(rest);
            rest = after;
            format!("toStartOfInterval(toDateTime({column}), INTERVAL 60 second)")
        }
        other => panic!("unknown macro {other}"),
    };
    format!("{before}{expanded}{}", expand(rest, from, to))
}

#[tokio::test]
async fn every_clickhouse_panel_returns_rows() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../deploy/grafana/dashboards/predictions.json"
    );
    let dashboard: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let product = shared().await;
    let sample = samples::get("harbour-bridge-vote");
    let body = json!({"text": sample.article, "reference": sample.reference});
    product.summarize(&body).await;
    let now = clock::now().as_second();
    let (from, to) = (now - 3_600, now + 600);
    let minute = Duration::from_secs(60);
    // Rollups follow the predictions within seconds.
    let mut variables = vec![];
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let sql = variable["query"].as_str().unwrap();
        let values = eventually(minute, sql, async || {
            let rows = product.query(sql).await;
            let values = rows.iter().map(|row| {
                let value = row.as_object().unwrap().values().next().unwrap();
                format!("'{}'", value.as_str().unwrap())
            });
            let list: Vec<String> = values.collect();
            (!list.is_empty()).then(|| list.join(","))
        })
        .await;
        variables.push((
            format!("${{{}:sqlstring}}", variable["name"].as_str().unwrap()),
            values,
        ));
    }
    let mut panels = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        for target in panel["targets"].as_array().into_iter().flatten() {
            let mut sql = expand(target["rawSql"].as_str().unwrap(), from, to);
            for (name, values) in &variables {
                sql = sql.replace(name, values);
            }
            assert!(!sql.contains('$'), "{title}: {sql}");
            let rows = eventually(minute, title, async || {
                let rows = product.query(&sql).await;
                let filled = rows
                    .iter()
                    .any(|row| row.as_object().unwrap().values().all(|value| !value.is_null()));
                filled.then_some(rows)
            })
            .await;
            let is_series = panel["type"] == "timeseries";
            assert_eq!(rows[0].get("time").is_some(), is_series, "{title}: {rows:?}");
            panels += 1;
        }
    }
    assert_eq!(panels, 12);
}
