//! The dashboard in `docs/operate/grafana/`: every panel's query answers with the columns that the panel shows.

use std::collections::BTreeSet;

use precis_schemas::queries;
use serde_json::Value;

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
