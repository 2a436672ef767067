//! Batches through the real queue.

use std::time::Duration;

use futures::StreamExt;
use precis_schemas::batch_view::{BatchLine, BatchStatus, BatchView};
use precis_schemas::rest::{JobView, Status};
use precis_tests::{Product, eventually, samples};
use reqwest::{Body, Method, Response};

use crate::guarded::{gateway_process, gateway_with, guarded, request, second_gateway};

/// Uploads a body.
async fn upload(
    product: &Product,
    name: &str,
    query: &str,
    media_type: &str,
    body: impl Into<Body>,
) -> Response {
    let path = format!("/v1/batches{query}");
    request(product, &product.api, Method::POST, &path, name)
        .header("content-type", media_type)
        .body(body)
        .send()
        .await
        .expect("the API answers")
}

async fn view(product: &Product, base: &str, name: &str, id: &str) -> BatchView {
    let path = format!("/v1/batches/{id}");
    let answer = request(product, base, Method::GET, &path, name)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    answer.json().await.unwrap()
}

async fn finished(product: &Product, base: &str, name: &str, id: &str) -> BatchView {
    eventually(Duration::from_secs(240), "the batch has ended", async || {
        let view = view(product, base, name, id).await;
        (view.status == BatchStatus::Finished).then_some(view)
    })
    .await
}

async fn results(product: &Product, base: &str, name: &str, path: &str) -> String {
    let path = format!("/v1/batches/{path}");
    let answer = request(product, base, Method::GET, &path, name)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    answer.text().await.unwrap()
}

fn lines(text: &str) -> Vec<BatchLine> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn a_csv_with_bad_rows_has_complete_results_on_any_gateway() {
    let product = guarded().await;
    let (_second, other) = second_gateway(product, "api-batch").await;
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let sample = samples::get("harbour-bridge-vote");
    let file = format!(
        "article,summ\r\n{},{}\r\n\"  \",nothing\r\n{},\r\na,b,c\r\n{},x\r\n",
        quoted(&sample.article),
        quoted(&sample.reference),
        quoted("Rain fell over the hills, the office said.\nThe river rose."),
        "y".repeat(300_000),
    );
    let answer = upload(product, "one", "", "text/csv", file).await;
    assert_eq!(answer.status(), 202);
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    let accepted: BatchView = answer.json().await.unwrap();
    assert_eq!((location, accepted.rows), (accepted.links.this.clone(), 5));
    assert_eq!(accepted.counts.refused, 3);

    let ended = finished(product, &other, "one", &accepted.id).await;
    assert_eq!((ended.counts.succeeded, ended.counts.refused), (2, 3));
    assert_eq!(ended.progress, 1.0);
    let rows = lines(&results(product, &other, "one", &format!("{}/results", accepted.id)).await);
    let seen: Vec<(Option<u64>, Status, Option<&str>)> = rows
        .iter()
        .map(|row| {
            let code = row.error.as_ref().map(|error| error.code.as_str());
            (row.index, row.status, code)
        })
        .collect();
    assert_eq!(
        seen,
        [
            (Some(0), Status::Succeeded, None),
            (Some(1), Status::Failed, Some("empty_text")),
            (Some(2), Status::Succeeded, None),
            (Some(3), Status::Failed, Some("invalid_request")),
            (Some(4), Status::Failed, Some("text_too_long")),
        ]
    );
    assert!(
        rows[0]
            .summary
            .as_deref()
            .is_some_and(|summary| summary.len() > 10)
    );
    // Each row is an ordinary job.
    let job = format!("/v1/jobs/{}", rows[0].id.as_deref().unwrap());
    let job = request(product, &other, Method::GET, &job, "one")
        .send()
        .await
        .unwrap();
    assert_eq!(job.status(), 200);
    let job: JobView = job.json().await.unwrap();
    assert_eq!(job.batch.unwrap().id.as_str(), accepted.id);

    let csv = results(
        product,
        &product.api,
        "one",
        &format!("{}/results?format=csv", accepted.id),
    )
    .await;
    assert!(
        csv.starts_with("index,line,id,status,summary,error_code,error_message\r\n0,2,"),
        "{csv}"
    );
    assert!(csv.contains("\r\n1,"), "{csv}");
    // Another tenant's batch is not visible.
    for path in ["", "/results"] {
        let path = format!("/v1/batches/{}{path}", accepted.id);
        let foreign = request(product, &other, Method::GET, &path, "two")
            .send()
            .await
            .unwrap();
        assert_eq!(foreign.status(), 404);
    }
}

/// Returns the gateway's memory in bytes.
fn memory_of(product: &Product) -> u64 {
    let gateway = gateway_process(product);
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.id)).unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let kilobytes: u64 = peak.split_whitespace().next().unwrap().parse().unwrap();
    kilobytes * 1_024
}

#[tokio::test]
async fn large_uploads_stream_with_flat_memory() {
    let product = guarded().await;
    let before = memory_of(product);
    // 3 000 rows that the gateway reads and refuses, 240 MB in total, with a few valid ones among them.
    let long = "x".repeat(80_000);
    let rows = 3_000_u64;
    let pieces = futures::stream::iter(0..rows).map(move |index| {
        let line = if index % 1_000 == 0 {
            format!("{{\"article\": \"Rain fell on hill {index}. It was wet.\"}}\n")
        } else {
            format!("{{\"article\": \"{long}\", \"summary of {index}\": 1}}\n")
        };
        Ok::<_, std::io::Error>(line)
    });
    let body = Body::wrap_stream(pieces);
    let answer = upload(product, "two", "?priority=normal", "application/x-ndjson", body).await;
    assert_eq!(answer.status(), 202);
    let accepted: BatchView = answer.json().await.unwrap();
    assert_eq!((accepted.rows, accepted.counts.refused), (rows, rows - 3));
    let grown = memory_of(product).saturating_sub(before);
    assert!(grown < 120 << 20, "the gateway has grown by {grown} bytes");
    finished(product, &product.api, "two", &accepted.id).await;
    let rows = lines(&results(product, &product.api, "two", &format!("{}/results", accepted.id)).await);
    let indexes: Vec<u64> = rows.iter().filter_map(|row| row.index).collect();
    assert_eq!(indexes, (0..3_000).collect::<Vec<_>>());
    assert_eq!(rows[2_000].status, Status::Succeeded);
}

#[tokio::test]
async fn forms_and_json_lists_are_accepted() {
    let product = guarded().await;
    let boundary = "x-boundary";
    let form = format!(
        "--{boundary}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"rows.csv\"\r\n\r\n\
         article\r\nRain fell. It was wet.\r\n\r\n--{boundary}--\r\n"
    );
    let media_type = format!("multipart/form-data; boundary={boundary}");
    let params = "?params=%7B%22max_new_tokens%22%3A16%7D";
    let by_form = upload(product, "one", params, &media_type, form).await;
    let list =
        r#"["Rain fell. It was wet.", {"article": "Snow fell. It was cold.", "metadata": {"id": "7"}}]"#;
    let by_list = upload(product, "one", "", "application/json", list).await;
    for (answer, rows) in [(by_form, 1), (by_list, 2)] {
        assert_eq!(answer.status(), 202);
        let accepted: BatchView = answer.json().await.unwrap();
        assert_eq!(accepted.rows, rows);
        finished(product, &product.api, "one", &accepted.id).await;
        let lines = lines(&results(product, &product.api, "one", &format!("{}/results", accepted.id)).await);
        if let Some(last) = lines.get(1) {
            assert_eq!(last.metadata["id"], "7");
        }
    }
}

#[tokio::test]
async fn rows_of_an_interrupted_upload_still_have_results() {
    let product = guarded().await;
    let pieces = futures::stream::iter([
        Ok("{\"article\": \"Rain fell on the hills. It was wet.\"}\n".repeat(520)),
        Err(std::io::Error::other("connection lost")),
    ]);
    // Everything sent so far has left this machine's buffers before the connection is cut.
    let pieces = pieces.then(|piece| async {
        if piece.is_err() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        piece
    });
    let path = "/v1/batches?params=%7B%22max_new_tokens%22%3A10%2C%22num_beams%22%3A1%7D";
    let sent = request(product, &product.api, Method::POST, path, "two")
        .header("content-type", "application/jsonl")
        .body(Body::wrap_stream(pieces))
        .send()
        .await;
    assert!(sent.is_err(), "the client sees its own broken connection");
    // The gateway detects it and stores the end of the upload with the reason.
    let heads = eventually(Duration::from_secs(60), "the batch is broken", async || {
        let stream = product.nats().await.get_stream("BATCHES").await.unwrap();
        let info = stream.info_with_subjects("batches.v1.two.*.head").await.unwrap();
        let subjects: Vec<String> = info.map(|entry| entry.unwrap().0).collect().await;
        for subject in subjects {
            let message = stream.get_last_raw_message_by_subject(&subject).await.unwrap();
            let head: precis_schemas::manifest::BatchHead = serde_json::from_slice(&message.payload).unwrap();
            if head.intake == precis_schemas::manifest::IntakeState::Broken {
                return Some(head);
            }
        }
        None
    })
    .await;
    assert_eq!(heads.rows, 520);
    let shown = view(product, &product.api, "two", heads.id.as_str()).await;
    assert_eq!(shown.status, BatchStatus::Broken);
    assert_eq!(shown.error.unwrap().code.as_str(), "invalid_request");
    let rows = lines(&results(product, &product.api, "two", &format!("{}/results", heads.id)).await);
    assert_eq!(rows.len(), 521);
    assert_eq!(rows[520].index, None);
    assert!(rows[520].error.as_ref().unwrap().message.contains("cut off"));
}

#[tokio::test]
async fn batches_report_progress_and_eta() {
    let product = guarded().await;
    let text = samples::get("geothermal-skarn-valley").article;
    // More rows than a worker decodes at once, all of equal length. They finish in at least three waves with whole
    // decodes between them, on any machine.
    let count = 80;
    let rows: Vec<String> = (0..count).map(|row| format!("Row {row}. {text}")).collect();
    let params = "?params=%7B%22num_beams%22%3A4%2C%22min_new_tokens%22%3A80%2C%22max_new_tokens%22%3A80%7D";
    let body = serde_json::to_vec(&rows).unwrap();
    let accepted = upload(product, "two", params, "application/json", body).await;
    assert_eq!(accepted.headers()["retry-after"], "1");
    let accepted: BatchView = accepted.json().await.unwrap();
    let (mut last, mut has_eta, mut ran) = (0.0, false, false);
    let ended = eventually(Duration::from_secs(240), "the batch has ended", async || {
        let view = view(product, &product.api, "two", &accepted.id).await;
        let counts = &view.counts;
        assert_eq!(
            counts.queued + counts.running + counts.succeeded,
            count,
            "{view:?}"
        );
        assert_eq!(view.progress, counts.succeeded as f64 / count as f64);
        assert!(view.progress >= last, "{view:?}");
        last = view.progress;
        ran |= counts.running > 0;
        if view.status == BatchStatus::Running {
            // The worker's pace is known with the heartbeat after the first job.
            assert_eq!(
                view.eta_seconds.is_some(),
                view.eta_seconds_p90.is_some(),
                "{view:?}"
            );
            has_eta |= view.eta_seconds.is_some();
        }
        (view.status == BatchStatus::Finished).then_some(view)
    })
    .await;
    assert!(has_eta && ran, "no progress was observed");
    assert_eq!(ended.eta_seconds, None);
    assert!(ended.finished_at.unwrap() > ended.created_at);
}

#[tokio::test]
async fn oversized_uploads_break_and_report_the_last_row() {
    let product = guarded().await;
    let settings = ["batches.max_rows=3", "batches.max_upload_bytes=2000"];
    let (_small, base) = gateway_with(product, "api-small", &settings).await;
    let row = "\"Rain fell over the hills. It was wet.\"\n";
    // Too many rows, and too many bytes: declared in advance, or counted on the way.
    let long = format!("{row}\"{}\"\n", "x".repeat(3_000));
    let streamed = long.clone().into_bytes();
    let pieces = futures::stream::iter(streamed.chunks(500).map(<[u8]>::to_vec).collect::<Vec<_>>());
    let pieces = Body::wrap_stream(pieces.map(Ok::<_, std::io::Error>));
    for (body, rows) in [
        (Body::from(row.repeat(5)), Some(3)),
        (Body::from(long), None),
        (pieces, Some(1)),
    ] {
        let answer = request(product, &base, Method::POST, "/v1/batches", "one")
            .header("content-type", "application/x-ndjson")
            .body(body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 413);
        let problem: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(problem["code"], "body_too_large");
        let detail = problem["detail"].as_str().unwrap();
        match rows {
            None => assert!(!detail.contains("is broken"), "nothing was read: {detail}"),
            Some(rows) => {
                let id = detail.split(' ').nth(2).unwrap();
                let broken = view(product, &base, "one", id).await;
                assert_eq!(
                    (broken.status, broken.rows),
                    (BatchStatus::Broken, rows),
                    "{detail}"
                );
            }
        }
    }
}

#[tokio::test]
async fn invalid_uploads_are_refused() {
    let product = guarded().await;
    for (media_type, body, status, code) in [
        ("text/plain", "x", 415, "unsupported_media_type"),
        ("text/csv", "title\nx\n", 400, "invalid_request"),
        ("text/csv", "article\n", 400, "invalid_request"),
        ("application/json", "{}", 400, "invalid_request"),
        ("application/x-ndjson", "\n\n", 400, "invalid_request"),
        ("multipart/form-data", "x", 400, "invalid_request"),
    ] {
        let answer = upload(product, "one", "", media_type, body).await;
        assert_eq!(answer.status(), status, "{media_type}: {body}");
        let problem: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(problem["code"], code, "{media_type}: {problem}");
    }
    let none = request(product, &product.api, Method::GET, "/v1/batches/never", "one");
    let problem: serde_json::Value = none.send().await.unwrap().json().await.unwrap();
    assert_eq!(problem["code"], "batch_not_found");
    for query in ["?ttl_seconds=0", "?params=nonsense", "?model=gpt-9", "?weight=1"] {
        let answer = upload(product, "one", query, "application/json", "[\"x\"]").await;
        assert!(answer.status().is_client_error(), "{query}");
    }
}

#[tokio::test]
async fn repeated_uploads_are_idempotent_across_gateways() {
    let product = guarded().await;
    let (_second, other) = second_gateway(product, "api-batch-key").await;
    let key = format!("batch-{}", precis_schemas::JobId::generate());
    let send = async |base: &str, name: &str, file: &'static str| {
        request(product, base, Method::POST, "/v1/batches", name)
            .header("content-type", "text/csv")
            .header("idempotency-key", &key)
            .body(file)
            .send()
            .await
            .unwrap()
    };
    let file = "article\nRain fell. It was wet.\nSnow fell. It was cold.\n";
    let first = send(&product.api, "one", file).await;
    assert_eq!(first.status(), 202);
    assert!(!first.headers().contains_key("idempotent-replayed"));
    let first: BatchView = first.json().await.unwrap();
    let again = send(&other, "one", file).await;
    assert_eq!(
        (again.status().as_u16(), &again.headers()["idempotent-replayed"]),
        (202, &"true".parse().unwrap())
    );
    let again: BatchView = again.json().await.unwrap();
    assert_eq!((again.id, again.rows), (first.id.clone(), 2));
    let reused = send(&other, "one", "article\nRain fell.\n").await;
    let problem: serde_json::Value = reused.json().await.unwrap();
    assert_eq!(problem["code"], "idempotency_key_reused", "{problem}");
    // Idempotency keys belong to a tenant.
    let theirs: BatchView = send(&other, "two", file).await.json().await.unwrap();
    assert_ne!(theirs.id, first.id);
}
