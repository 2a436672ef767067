//! Jobs and predictions by filter, and the state of the parts.

use std::time::Duration;

use precis_tests::{Options, Product, eventually};
use serde_json::{Value, json};

use crate::{PROGRAM, shared};

const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn predictions_are_counted_and_run_again_by_filter_once_a_run() {
    let product = shared().await;
    for row in 0..3 {
        let body = json!({"text": format!("The Numbatfest opened on day {row}. Rain fell over the hills all night.")});
        product.summarize(&body).await;
    }
    let count = async |filter: &str| -> u64 {
        let (status, answer) = product
            .get(&format!("/v1/predictions/count?q=numbatfest&{filter}"))
            .await;
        assert_eq!(status, 200, "{answer}");
        answer["count"].as_u64().unwrap()
    };
    // Jobs that run again have the priority `bulk`, so the filter leaves them out.
    eventually(PATIENCE, "the predictions are stored", async || {
        (count("lane=normal").await == 3).then_some(())
    })
    .await;
    let resubmit = async |after: &Value| -> Value {
        let after = after.as_str().unwrap_or_default();
        let path =
            format!("/v1/predictions/resubmit?q=numbatfest&lane=normal&limit=2&run=again-1&after={after}");
        let (status, report) = product.post(&path, &json!({})).await;
        assert_eq!(status, 202, "{report}");
        assert_eq!(
            (&report["run"], &report["skipped"]),
            (&json!("again-1"), &json!([]))
        );
        report
    };
    let first = resubmit(&Value::Null).await;
    assert_eq!(first["submitted"].as_array().unwrap().len(), 2, "{first}");
    let second = resubmit(&first["after"]).await;
    assert_eq!(second["submitted"].as_array().unwrap().len(), 1, "{second}");
    assert_eq!(second.get("after"), None);
    let repeated = resubmit(&Value::Null).await;
    assert_eq!(repeated["submitted"], first["submitted"]);

    eventually(PATIENCE, "the new jobs are stored", async || {
        (count("lane=bulk").await == 3).then_some(())
    })
    .await;
    let submitted = &first["submitted"][0];
    let path = format!("/v1/predictions/{}", submitted["id"].as_str().unwrap());
    let (_, row) = product.get(&path).await;
    let source = row["metadata"]["resubmission_of"].as_str().unwrap();
    assert!(source.starts_with(submitted["job_id"].as_str().unwrap()), "{row}");
    assert_eq!(row["trace_id"].as_str().map(str::len), Some(32), "{row}");
}

#[tokio::test]
async fn waiting_jobs_are_cancelled_by_filter_and_the_status_names_every_part() {
    let options = Options {
        workers: 0,
        settings: vec!["monitor.unserved_grace_seconds=3600".into()],
        ..Options::default()
    };
    let product = Product::start(PROGRAM, options).await;
    for row in 0..5 {
        let lane = if row < 2 { "high" } else { "bulk" };
        let body = json!({"id": format!("waiting-{row}"), "text": format!("Rain fell in week {row}.")});
        let subject = format!("jobs.v1.absent.{lane}.summarize.public");
        product.publish(&subject, body.to_string()).await;
    }
    let listed = async |filter: &str| -> Vec<Value> {
        let (status, list) = product.get(&format!("/v1/jobs?{filter}")).await;
        assert_eq!(status, 200, "{list}");
        list["jobs"].as_array().unwrap().clone()
    };
    assert_eq!(listed("").await.len(), 5);
    assert_eq!(listed("lane=bulk").await.len(), 3);
    assert_eq!(listed("model=other").await.len(), 0);
    assert_eq!(listed("q=WEEK%203").await[0]["id"], "waiting-3.4");

    let path = "/v1/jobs/cancel?lane=bulk&limit=2";
    let (status, first) = product.post(path, &json!({})).await;
    assert_eq!(
        (status, &first["cancelled"]),
        (200, &json!(["waiting-2.3", "waiting-3.4"]))
    );
    let (_, rest) = product
        .post(&format!("{path}&after={}", first["next"]), &json!({}))
        .await;
    assert_eq!(rest, json!({"cancelled": ["waiting-4.5"], "ended": 0}));
    assert_eq!(listed("").await.len(), 2);
    let (_, job) = product.get("/v1/jobs/waiting-4").await;
    assert_eq!(job["status"], "cancelled");

    let state = eventually(PATIENCE, "every part is known", async || {
        let (status, view) = product.get("/v1/status").await;
        assert_eq!(status, 200, "{view}");
        let parts = view["parts"].as_array().unwrap().iter();
        let states: Vec<(String, String)> = parts
            .map(|part| {
                let text = |key: &str| part[key].as_str().unwrap().to_owned();
                (text("name"), text("state"))
            })
            .collect();
        (states[2].1 == "up").then_some(states)
    })
    .await;
    let state: Vec<(&str, &str)> = state
        .iter()
        .map(|(name, state)| (name.as_str(), state.as_str()))
        .collect();
    let expected = [
        ("nats", "up"),
        ("clickhouse", "up"),
        ("monitor", "up"),
        ("arize", "off"),
        ("phoenix", "off"),
    ];
    assert_eq!(state, expected);
}
