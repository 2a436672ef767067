use std::collections::BTreeSet;

use super::*;

fn now() -> Timestamp {
    "2026-11-24T12:00:00.25Z".parse().unwrap()
}

#[test]
fn every_file_in_the_folder_is_a_query() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/clickhouse/queries");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    let known: BTreeSet<String> = all().map(|query| format!("{}.sql", query.name)).collect();
    assert_eq!(files, known);
}

#[test]
fn every_parameter_is_described_and_its_default_is_a_value() {
    for query in all().chain([predictions(), prediction()]) {
        assert!(query.title.ends_with('.'), "{}", query.name);
        let described: BTreeSet<&str> = query.parameters.iter().map(|p| p.name.as_str()).collect();
        let used: BTreeSet<&str> = query
            .sql
            .split('{')
            .skip(1)
            .filter_map(|part| part.split_once(':'))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(described, used, "{}", query.name);
        let lines = query
            .sql
            .lines()
            .filter(|line| line.starts_with("-- param "))
            .count();
        assert_eq!(
            lines,
            query.parameters.len(),
            "{}: a line can't be read",
            query.name
        );
        for parameter in &query.parameters {
            parameter.value(None, now()).unwrap();
            assert!(!parameter.description.is_empty(), "{}", query.name);
        }
    }
}

#[test]
fn an_unknown_channel_is_rejected_and_every_known_one_accepted() {
    for query in all() {
        let Some(channel) = query.parameters.iter().find(|p| p.name == "channel") else {
            continue;
        };
        let ParameterKind::Choice(choices) = &channel.kind else {
            panic!("{}: any text is accepted", query.name);
        };
        let schema = serde_json::to_value(schemars::schema_for!(crate::Channel)).unwrap();
        let variants = schema["oneOf"].as_array().unwrap().iter();
        let known: Vec<&str> = variants.map(|one| one["const"].as_str().unwrap()).collect();
        assert_eq!(*choices, known, "{}", query.name);
        assert!(channel.value(Some("rest"), now()).is_err(), "{}", query.name);
        assert_eq!(channel.value(Some(""), now()).unwrap(), "");
    }
}

#[test]
fn numbers_are_finite_or_absent() {
    let query = predictions();
    let least = query
        .parameters
        .iter()
        .find(|parameter| parameter.name == "min_score")
        .unwrap();
    for (given, value) in [("", ""), ("0.25", "0.25"), ("-1e3", "-1000"), (".5", "0.5")] {
        assert_eq!(least.value(Some(given), now()).unwrap(), value, "{given}");
    }
    for bad in ["x", "1,5", "NaN", "inf", " 1", "1)"] {
        assert!(least.value(Some(bad), now()).is_err(), "{bad}");
    }
}

#[test]
fn times_are_formatted_for_clickhouse() {
    let query = find("latency").unwrap();
    let from = &query.parameters[0];
    assert_eq!(from.value(None, now()).unwrap(), "2026-11-23 12:00:00.250");
    for (given, value) in [
        ("now", "2026-11-24 12:00:00.250"),
        ("now-15m", "2026-11-24 11:45:00.250"),
        ("2026-01-02T03:04:05+02:00", "2026-01-02 01:04:05.000"),
        ("2026-01-02T03:04:05.0001Z", "2026-01-02 03:04:05.001"),
        ("1970-01-01T00:00:00Z", "1970-01-01 00:00:00.000"),
        ("2106-02-06T23:59:59Z", "2106-02-06 23:59:59.000"),
    ] {
        assert_eq!(from.value(Some(given), now()).unwrap(), value, "{given}");
    }
    for bad in [
        "",
        "yesterday",
        "now-",
        "now-1",
        "now-1w",
        "now+1h",
        "now--1h",
        "now-99999999999999999999d",
        "2026-01-02",
        "1969-12-31T23:59:59Z",
        "2106-02-07T00:00:00Z",
        "2107-01-01T00:00:00Z",
        "now-é",
        "5",
    ] {
        assert!(from.value(Some(bad), now()).is_err(), "{bad:?} was taken");
    }
}

#[test]
fn values_of_the_wrong_kind_are_rejected() {
    let query = find("worst_scores").unwrap();
    let parameter = |name: &str| query.parameters.iter().find(|p| p.name == name).unwrap();
    let error = parameter("score")
        .value(Some("rouge9"), now())
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "score must be one of rouge1, rouge2, rougeL, rougeLsum, bleu, not \"rouge9\""
    );
    for bad in ["0", "1001", "-1", "+5", "5.0", "", "1e2", " 5"] {
        assert!(
            parameter("limit").value(Some(bad), now()).is_err(),
            "{bad:?} was taken"
        );
    }
    assert_eq!(parameter("limit").value(Some("007"), now()).unwrap(), "7");
    assert!(parameter("model").value(Some(&"x".repeat(201)), now()).is_err());
    assert_eq!(
        parameter("model").value(Some("a' OR 1"), now()).unwrap(),
        "a' OR 1"
    );
}

#[test]
fn the_count_of_predictions_has_the_filters_of_their_list() {
    let (list, count) = (predictions(), prediction_count());
    let is_filter = |parameter: &&QueryParameter| !["limit", "after"].contains(&parameter.name.as_str());
    let filters: Vec<_> = list.parameters.iter().filter(is_filter).collect();
    assert_eq!(filters, count.parameters.iter().collect::<Vec<_>>());
    let conditions = |sql: &'static str| -> Vec<&'static str> {
        let lines = sql.lines().map(str::trim);
        let lines = lines.filter(|line| line.starts_with("AND (") || line.starts_with("OR "));
        lines.filter(|line| !line.contains("{after:")).collect()
    };
    let counted = conditions(count.sql);
    assert!(counted.len() > 15);
    for condition in conditions(list.sql) {
        assert!(counted.contains(&condition), "count.sql lacks {condition}");
    }
}
