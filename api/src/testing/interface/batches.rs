//! Tests of batches.

use super::*;

fn upload(rows: usize) -> Request<Body> {
    let lines: String = (0..rows).map(|row| format!("\"rain {row}\"\n")).collect();
    Request::post("/v1/batches")
        .header(header::CONTENT_TYPE, "application/x-ndjson")
        .body(lines.into())
        .unwrap()
}

pub(super) fn results_of(answer: &Answer) -> Vec<Value> {
    let text = answer.body.as_str().unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn rows_become_jobs_and_results_keep_their_order() {
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
    assert!(lanes, "rows use the bulk lane");
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
async fn a_queued_batch_is_running_and_a_too_large_one_is_broken() {
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

fn delete(path: &str) -> Request<Body> {
    Request::delete(path).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn cancelling_a_batch_ends_its_open_rows_and_keeps_results() {
    let api = api();
    let location = api.call(upload(700)).await.header("location").to_owned();
    let finished = api.queue.jobs.lock().unwrap()[1].job.id.clone();
    api.queue.store(crate::testing::result(finished.as_str(), 2));
    for _ in 0..2 {
        let cancelled = api.call(delete(&location)).await;
        assert_eq!(cancelled.status, 200, "{}", cancelled.body);
        assert_eq!(cancelled.body["status"], "finished");
        let counts = &cancelled.body["counts"];
        assert_eq!(
            (counts["cancelled"].as_u64(), counts["succeeded"].as_u64()),
            (Some(699), Some(1))
        );
    }
    let lines = results_of(&api.call(get(&format!("{location}/results"))).await);
    assert_eq!(lines[0]["error"]["code"], "cancelled");
    assert_eq!(lines[1]["summary"], "Rain fell.");
    api.refused(delete("/v1/batches/never"), 404, "batch_not_found")
        .await;
}

#[tokio::test]
async fn a_submission_returns_the_id_though_the_batch_cannot_be_read() {
    let api = api();
    api.queue.hides_batches.store(true, Ordering::Relaxed);
    let accepted = api.call(upload(3)).await;
    assert_eq!(accepted.status, 202, "{}", accepted.body);
    let location = accepted.header("location").to_owned();
    assert_eq!(location, format!("/v1/batches/{}", accepted.id()));
    assert_eq!(accepted.body["status"], "running");
    assert_eq!(accepted.body["counts"]["queued"], 3);
    api.refused(get(&location), 503, "queue_unavailable").await;
    api.queue.hides_batches.store(false, Ordering::Relaxed);
    assert_eq!(api.call(get(&location)).await.body["rows"], 3);
}

fn keyed(key: &str, query: &str, media_type: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(format!("/v1/batches{query}"))
        .header(header::CONTENT_TYPE, media_type)
        .header("idempotency-key", key)
        .body(body.into())
        .unwrap()
}

#[tokio::test]
async fn a_repeated_upload_with_a_key_returns_the_same_batch() {
    let api = with_worker();
    let file = "article\nRain fell.\nSnow fell.\n";
    let first = api.call(keyed("k-1", "", "text/csv", file)).await;
    assert_eq!((first.status, first.header("idempotent-replayed")), (202, ""));
    let boundary = "x-boundary";
    let form = format!(
        "--{boundary}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"rows.csv\"\r\n\r\n{file}\r\n--{boundary}--\r\n"
    );
    let media_type = format!("multipart/form-data; boundary={boundary}");
    for again in [
        keyed("k-1", "", "text/csv", file),
        keyed("\"k-1\"", "", &media_type, form),
    ] {
        let again = api.call(again).await;
        assert_eq!(
            (again.status, again.header("idempotent-replayed")),
            (202, "true"),
            "{}",
            again.body
        );
        assert_eq!(again.id(), first.id());
        assert_eq!(again.header("location"), first.header("location"));
        // The current state, not the first response.
        assert_eq!(again.body["status"], "finished");
    }
    for other in [
        keyed("k-1", "", "text/csv", "article\nRain fell.\nSnow fell. \n"),
        keyed("k-1", "?priority=high", "text/csv", file),
        keyed("k-1", "", "application/json", r#"["Rain fell.", "Snow fell."]"#),
    ] {
        api.refused(other, 422, "idempotency_key_reused").await;
    }
    assert_eq!(api.queue.jobs.lock().unwrap().len(), 2);
    let other_key = api.call(keyed("k-2", "", "text/csv", file)).await;
    assert_ne!(other_key.id(), first.id());
    // A key is shared by all routes.
    let mut text = submit(&json!({"text": "Rain fell."}));
    text.headers_mut()
        .insert("idempotency-key", "k-1".parse().unwrap());
    api.refused(text, 422, "idempotency_key_reused").await;
}

#[tokio::test]
async fn a_key_is_in_use_during_its_upload_and_free_after_a_failure() {
    let api = Arc::new(api());
    let (sender, pieces) = futures::channel::mpsc::unbounded::<Result<&str, std::io::Error>>();
    let body = Body::from_stream(pieces);
    let first = tokio::spawn({
        let api = api.clone();
        async move { api.call(keyed("k", "", "application/x-ndjson", body)).await }
    });
    sender.unbounded_send(Ok("\"Rain fell.\"\n")).unwrap();
    while api.queue.jobs.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let again = || keyed("k", "", "application/x-ndjson", "\"Rain fell.\"\n");
    let refused = api.refused(again(), 409, "idempotency_key_in_use").await;
    assert!(refused.headers.contains_key(header::RETRY_AFTER));
    sender
        .unbounded_send(Err(std::io::Error::other("the cable is cut")))
        .unwrap();
    let first = first.await.unwrap();
    assert_eq!(first.body["code"], "invalid_request", "{}", first.body);
    let taken = api.call(again()).await;
    assert_eq!((taken.status, taken.header("idempotent-replayed")), (202, ""));
    // An upload that is rejected unread releases its key too.
    let wrong = |rows: &'static str| keyed("w", "", "text/csv", rows);
    api.refused(wrong("title\nx\n"), 400, "invalid_request").await;
    assert_eq!(api.call(wrong("article\nx\n")).await.status, 202);
    let unknown = || keyed("u", "?model=gpt-9", "text/csv", "article\nx\n");
    api.refused(unknown(), 422, "unknown_model").await;
    api.refused(unknown(), 422, "unknown_model").await;
}

#[tokio::test]
async fn results_repeat_the_columns_of_the_upload() {
    let queued = api();
    let done = with_worker();
    let file = "id,title,article,summ\n7,Rain,It rained.,\n8,Snow,,\n,Wind,The wind blew.,\n";
    for (api, status, summary) in [
        (&queued, "queued", Value::Null),
        (&done, "succeeded", json!("IT RAINED.")),
    ] {
        let accepted = api.call(keyed("k", "?id_column=id", "text/csv", file)).await;
        assert_eq!(accepted.body["counts"]["refused"], 2, "{}", accepted.body);
        let path = format!("{}/results", accepted.header("location"));
        let lines = results_of(&api.call(get(&path)).await);
        assert_eq!(
            (&lines[0]["status"], &lines[0]["summary"]),
            (&json!(status), &summary)
        );
        let seen: Vec<(&Value, &Value)> = lines
            .iter()
            .map(|line| (&line["row_id"], &line["metadata"]))
            .collect();
        assert_eq!(
            seen,
            [
                (&json!("7"), &json!({"id": "7", "title": "Rain"})),
                (&json!("8"), &json!({"id": "8", "title": "Snow"})),
                (&json!(""), &json!({"id": "", "title": "Wind"})),
            ]
        );
        assert!(
            lines[2]["error"]["message"]
                .as_str()
                .unwrap()
                .contains("no value in `id`")
        );
        let csv = api.call(get(&format!("{path}?format=csv"))).await;
        let text = csv.body.as_str().unwrap();
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(
            rows[0],
            "index,line,id,status,summary,error_code,error_message,row_id,title"
        );
        assert!(rows[1].ends_with(",7,Rain") && rows[2].ends_with(",8,Snow") && rows[3].ends_with(",,Wind"));
    }
    // JSON rows name the key of their metadata.
    let lines = r#"{"article":"It rained.","metadata":{"key":"a"}}
{"article":" ","metadata":{"key":"b"}}
"It snowed."
"#;
    let accepted = done
        .call(keyed("j", "?id_column=key", "application/x-ndjson", lines))
        .await;
    let path = format!("{}/results", accepted.header("location"));
    let lines = results_of(&done.call(get(&path)).await);
    let seen: Vec<(&Value, &Value)> = lines
        .iter()
        .map(|line| (&line["row_id"], &line["status"]))
        .collect();
    assert_eq!(
        seen,
        [
            (&json!("a"), &json!("succeeded")),
            (&json!("b"), &json!("failed")),
            (&Value::Null, &json!("failed"))
        ]
    );
    done.refused(
        keyed("c", "?id_column=no", "text/csv", file),
        400,
        "invalid_request",
    )
    .await;
}

#[tokio::test]
async fn rows_with_much_metadata_are_written_in_smaller_chunks() {
    let api = api();
    let note = "\u{1}".repeat(500);
    let line = json!({"article": "", "metadata": {"a": note, "b": note, "c": note}});
    let file = format!("{line}\n").repeat(300);
    let accepted = api.call(keyed("m", "", "application/x-ndjson", file)).await;
    assert_eq!(accepted.body["counts"]["refused"], 300, "{}", accepted.body);
    let lines = results_of(
        &api.call(get(&format!("{}/results", accepted.header("location"))))
            .await,
    );
    let indices: Vec<u64> = lines.iter().map(|line| line["index"].as_u64().unwrap()).collect();
    assert_eq!(indices, (0..300).collect::<Vec<u64>>());
    assert!(lines.iter().all(|line| line["metadata"]["c"] == json!(note)));
    assert!(api.queue.largest_batch_record() < 1 << 20);
}

#[tokio::test(start_paused = true)]
async fn a_broken_batch_looks_up_only_rows_that_may_have_ended() {
    let api = api();
    let refused = api.refused(upload(1_300), 413, "body_too_large").await;
    let detail = refused.body["detail"].as_str().unwrap();
    let id = detail.split(' ').nth(2).unwrap();
    let path = format!("/v1/batches/{id}");
    let before = api.queue.job_end_reads.load(Ordering::Relaxed);
    for _ in 0..3 {
        assert_eq!(api.call(get(&path)).await.body["counts"]["queued"], 1_200);
    }
    assert_eq!(
        api.queue.job_end_reads.load(Ordering::Relaxed),
        before,
        "no worker received any of them"
    );
}
