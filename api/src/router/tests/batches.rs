//! Batches, on a queue in memory.

use super::*;

fn upload(rows: usize) -> Request<Body> {
    let lines: String = (0..rows).map(|row| format!("\"rain {row}\"\n")).collect();
    Request::post("/v1/batches")
        .header(header::CONTENT_TYPE, "application/x-ndjson")
        .body(lines.into())
        .unwrap()
}

fn results_of(answer: &Answer) -> Vec<Value> {
    let text = answer.body.as_str().unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn rows_become_jobs_and_results_come_in_their_order() {
    let api = with_worker();
    let accepted = api.call(upload(700)).await;
    assert_eq!(
        (accepted.status, accepted.body["rows"].as_u64()),
        (202, Some(700))
    );
    let location = accepted.header("location").to_owned();
    assert_eq!(location, format!("/v1/batches/{}", accepted.id()));
    let lanes = api
        .queue
        .jobs
        .lock()
        .unwrap()
        .iter()
        .all(|job| job.subject.lane == Lane::Bulk);
    assert!(lanes, "rows hold up nobody");
    let shown = api.call(get(&location)).await;
    assert_eq!(shown.body["status"], "finished");
    assert_eq!(shown.body["counts"]["succeeded"], 700);
    let lines = results_of(&api.call(get(&format!("{location}/results"))).await);
    assert_eq!(lines.len(), 700);
    for (index, line) in lines.iter().enumerate() {
        assert_eq!(line["summary"], format!("RAIN {index}"));
        assert_eq!(
            (line["index"].as_u64(), line["line"].as_u64()),
            (Some(index as u64), Some(index as u64 + 1))
        );
    }
}

#[tokio::test]
async fn a_batch_that_waits_says_so_and_one_that_is_too_large_is_broken() {
    let api = api();
    let waiting = api.call(upload(3)).await;
    assert_eq!(waiting.body["counts"]["queued"], 3);
    assert_eq!(
        (waiting.body["status"].as_str(), waiting.body["progress"].as_f64()),
        (Some("running"), Some(0.0))
    );
    let results = format!("{}/results", waiting.header("location"));
    let lines = results_of(&api.call(get(&results)).await);
    assert!(lines.iter().all(|line| line["status"] == "queued"));

    let refused = api.refused(upload(1_300), 413, "body_too_large").await;
    let detail = refused.body["detail"].as_str().unwrap();
    let id = detail.split(' ').nth(2).unwrap();
    let broken = api.call(get(&format!("/v1/batches/{id}"))).await;
    assert_eq!(broken.body["status"], "broken");
    assert_eq!(broken.body["error"]["code"], "body_too_large");
    let lines = results_of(&api.call(get(&format!("/v1/batches/{id}/results"))).await);
    assert_eq!(lines.len() as u64, broken.body["rows"].as_u64().unwrap() + 1);
    api.refused(get("/v1/batches/never"), 404, "batch_not_found")
        .await;
}
