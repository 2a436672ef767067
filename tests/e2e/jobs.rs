//! Jobs over REST on the real queue: waiting, events, cancellation, idempotency keys, two gateways, a full queue,
//! scores.

use std::time::Duration;

use futures::future::join_all;
use futures::{StreamExt, TryStreamExt};
use precis_schemas::rest::{JobView, ScoreReport, Status, SubmittedBatch};
use precis_schemas::{JobId, Outcome, subject};
use precis_tests::product::free_port;
use precis_tests::{Options, Process, Product, eventually, id_of, samples};
use serde_json::{Value, json};

use crate::{PROGRAM, shared};

const MINUTE: Duration = Duration::from_secs(60);

fn text() -> String {
    samples::get("tramway-fare-free").article
}

/// A request that keeps a worker busy for seconds.
fn long_request() -> Value {
    let text = samples::get("geothermal-skarn-valley").article;
    json!({"text": text, "params": {
        "num_beams": 64, "min_new_tokens": 500, "max_new_tokens": 500, "first_sentence": false,
    }})
}

async fn without_workers(settings: &[&str]) -> Product {
    let options = Options {
        workers: 0,
        settings: settings.iter().map(|text| (*text).to_owned()).collect(),
        ..Options::default()
    };
    Product::start(PROGRAM, options).await
}

/// A product whose worker created its consumers and then stopped: jobs are accepted and wait.
pub(crate) async fn with_waiting_jobs(settings: &[&str]) -> Product {
    let product = without_workers(settings).await;
    let mut worker = product.worker("gone", &[]);
    worker_is_known(&product).await;
    worker.signal(rustix::process::Signal::TERM);
    assert!(worker.ended(MINUTE).await.success(), "{}", worker.output());
    product
}

async fn worker_is_known(product: &Product) {
    eventually(MINUTE, "a worker is live", async || {
        let (status, models) = product.get("/v1/models").await;
        (status == 200 && models.to_string().contains("default")).then_some(())
    })
    .await;
}

/// Returns the subjects to which the gateway subscribes, as nats-server reports them.
async fn subscriptions(product: &Product, monitor: u16) -> Vec<String> {
    let url = format!("http://127.0.0.1:{monitor}/connz?subs=1&limit=1024");
    let answer: Value = product.http.get(url).send().await.unwrap().json().await.unwrap();
    let mut gateways = answer["connections"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|connection| {
            let name = connection["name"].as_str().unwrap_or_default();
            name.starts_with("precis-api")
        });
    let gateway = gateways.next().expect("the gateway is connected");
    assert!(gateways.next().is_none(), "it has one connection: {answer}");
    let list = gateway["subscriptions_list"].as_array().unwrap();
    let subjects = list.iter().map(|subject| subject.as_str().unwrap().to_owned());
    // Reply inboxes: one for all requests, and one while it pulls webhooks.
    let (inboxes, mut subjects): (Vec<_>, Vec<_>) =
        subjects.partition(|subject| subject.starts_with("_INBOX."));
    assert!(inboxes.len() < 5, "{inboxes:?}");
    subjects.sort();
    subjects
}

/// Returns the names of the consumers of results.
async fn results_consumers(product: &Product) -> Vec<String> {
    let stream = product.nats().await.get_stream("RESULTS").await.unwrap();
    stream.consumer_names().try_collect().await.unwrap()
}

async fn delete(product: &Product, id: &str) -> (u16, Value) {
    let request = product.http.delete(format!("{}/v1/jobs/{id}", product.api));
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn with_key(product: &Product, api: &str, key: &str, body: &Value) -> (u16, Value) {
    let request = product.http.post(format!("{api}/v1/summaries"));
    let request = request.header("idempotency-key", key).json(body);
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

/// Starts another gateway. Returns it with its address.
async fn second_gateway(product: &Product, name: &str) -> (Process, String) {
    let port = free_port();
    let settings = [format!("api.listen=127.0.0.1:{port}")];
    let process = product.command("api", name, &settings);
    let address = format!("http://127.0.0.1:{port}");
    eventually(MINUTE, "the second gateway is ready", async || {
        let answer = product.http.get(format!("{address}/readyz")).send().await.ok()?;
        answer.status().is_success().then_some(())
    })
    .await;
    (process, address)
}

/// A server-sent event: type, id, data.
type Event = (String, String, Value);

/// Reads events until the stream ends or `enough` events arrived.
async fn events(product: &Product, api: &str, id: &str, last: Option<&str>, enough: usize) -> Vec<Event> {
    let mut request = product.http.get(format!("{api}/v1/jobs/{id}/events"));
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let (mut body, mut text, mut found) = (response.bytes_stream(), String::new(), Vec::new());
    while found.len() < enough
        && let Some(chunk) = body.next().await
    {
        text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        while let Some((block, rest)) = text.split_once("\n\n") {
            let field = |name: &str| {
                let line = block.lines().find_map(|line| line.strip_prefix(name))?;
                line.strip_prefix(": ").map(str::to_owned)
            };
            if let (Some(kind), Some(id), Some(data)) = (field("event"), field("id"), field("data")) {
                found.push((kind, id, serde_json::from_str(&data).unwrap()));
            }
            text = rest.to_owned();
        }
    }
    found
}

#[tokio::test]
async fn several_texts_are_accepted_together_or_not_at_all() {
    let product = shared().await;
    let body = json!({"texts": [text(), samples::get("harbour-bridge-vote").article]});
    let request = product.http.post(format!("{}/v1/summaries", product.api));
    let response = request
        .header("prefer", "wait=100")
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let batch: SubmittedBatch = response.json().await.unwrap();
    for (index, job) in batch.jobs.iter().enumerate() {
        assert_eq!(job.status, Status::Succeeded, "{job:?}");
        assert_eq!(id_of(&job.id).to_string(), format!("{}-{index}", batch.id));
    }
    let (status, problem) = product
        .post("/v1/summaries", &json!({"texts": [text(), " "]}))
        .await;
    assert_eq!((status, problem["code"].as_str()), (422, Some("empty_text")));
    assert!(problem["detail"].as_str().unwrap().starts_with("texts[1]: "));
}

#[tokio::test]
async fn workers_score_pairs() {
    let product = shared().await;
    let sample = samples::get("harbour-bridge-vote");
    let body = json!({"pairs": [
        {"text": sample.article, "reference": sample.reference},
        {"summary": "the harbour stayed open", "reference": "the harbour stayed open in the rain"},
        {"summary": "", "reference": "the harbour stayed open"},
        {"summary": "the harbour stayed open", "reference": " "},
    ]});
    let (status, report) = product.post("/v1/scores", &body).await;
    assert_eq!(status, 200, "{report}");
    let report: ScoreReport = serde_json::from_value(report).unwrap();
    assert!(report.done);
    assert!(report.pairs[0].scores.is_some() && report.pairs[0].summary.is_some());
    // 4 of 4 words, and 4 of 7.
    let given = report.pairs[1].scores.unwrap();
    assert!((given.rouge1.fmeasure - 8.0 / 11.0).abs() < 1e-9, "{given:?}");
    for empty in &report.pairs[2..] {
        let scores = empty.scores.expect("an empty text scores 0");
        assert_eq!(
            (scores.rouge1.fmeasure, scores.rouge_lsum.fmeasure, scores.bleu),
            (0.0, 0.0, 0.0)
        );
    }
    assert_eq!(report.aggregate.as_ref().unwrap().count, 4);
    let (status, again) = product.get(&report.links.this).await;
    assert_eq!(status, 200);
    assert_eq!(serde_json::from_value::<ScoreReport>(again).unwrap(), report);
    let result = product.result(&id_of(&report.pairs[1].job_id)).await.unwrap();
    assert_eq!((result.model, result.scores), (None, Some(given)));
    let rows = product.rows_of(&id_of(&report.pairs[1].job_id)).await;
    assert_eq!((rows.len(), rows[0]["task"].as_str()), (1, Some("score")));
}

#[tokio::test]
async fn events_stream_the_text_and_resume_on_another_gateway() {
    let product = without_workers(&[]).await;
    let _worker = product.worker("only", &[]);
    worker_is_known(&product).await;
    let (_second, other) = second_gateway(&product, "second").await;
    let job = product.submit(&long_request()).await;
    let first = events(&product, &product.api, &job.id, None, 4).await;
    let kinds: Vec<_> = first.iter().map(|(kind, ..)| kind.as_str()).collect();
    assert_eq!(kinds.first(), Some(&"state"));
    let (kind, last, data) = first.last().unwrap();
    assert_eq!(kind, "text", "test setup: the job is too short: {kinds:?}");
    let part = data["part"].as_u64().unwrap();
    let rest = events(&product, &other, &job.id, Some(last), usize::MAX).await;
    for (kind, _, data) in &rest {
        assert_ne!(kind, "state", "{rest:?}");
        assert!(kind == "result" || data["part"].as_u64().unwrap() > part);
    }
    let (kind, id, end) = rest.last().unwrap();
    assert_eq!((kind.as_str(), id.as_str()), ("result", "end"));
    assert_eq!(end["status"], "succeeded", "{end}");
    let request = product.http.get(format!("{other}/v1/jobs/{}/events", job.id));
    let seen = request.header("last-event-id", "end").send().await.unwrap();
    assert_eq!(seen.status(), 204);
}

#[tokio::test]
async fn cancelling_removes_a_job_from_the_decoding_batch() {
    leaves_when_cancelled(&long_request()).await;
}

#[tokio::test]
async fn cancelling_removes_all_chunks_of_a_long_text() {
    let mut request = long_request();
    let text = request["text"].as_str().unwrap().to_owned();
    request["text"] = json!(vec![text; 8].join(" "));
    request["params"]["long_text"] = json!("map_reduce");
    leaves_when_cancelled(&request).await;
}

async fn leaves_when_cancelled(request: &Value) {
    let product = without_workers(&[]).await;
    let worker = product.worker("only", &["worker.max_batch=1"]);
    worker_is_known(&product).await;
    let job = product.begun(request).await;
    let (status, view) = delete(&product, &job.id).await;
    assert_eq!(
        (status, view["status"].as_str()),
        (200, Some("cancelled")),
        "{view}"
    );
    // The queue has room for one job, so the next one fits only after this one leaves.
    let next = product.summarize(&json!({"text": text()})).await;
    assert_eq!(next.status, Status::Succeeded);
    assert!(
        worker.output().contains("job cancelled by its client"),
        "{}",
        worker.output()
    );
    let result = product.result(&id_of(&job.id)).await.unwrap();
    assert_eq!(result.outcome, Outcome::Cancelled);
    let (_, sequence) = job.id.split_once('.').unwrap();
    product.left_the_queue(sequence.parse().unwrap()).await;
    let (status, again) = delete(&product, &job.id).await;
    assert_eq!((status, again["status"].as_str()), (200, Some("cancelled")));
    let (status, ended) = delete(&product, &next.id).await;
    assert_eq!((status, ended["code"].as_str()), (409, Some("job_finished")));
    assert_eq!(ended["job_status"], "succeeded");
    assert_eq!(product.stored_rows(&id_of(&job.id)).await.len(), 1);
}

#[tokio::test]
async fn waiting_jobs_can_be_cancelled_expire_and_be_resubmitted() {
    let monitor = free_port();
    let port = format!("standalone.nats_monitor_port={monitor}");
    let product = with_waiting_jobs(&["monitor.absent_grace_seconds=600", &port]).await;
    // A job is cancelled while it waits, then published again under the same id, which its publisher chose.
    let id = JobId::generate();
    let subject = "jobs.v1.default.normal.summarize.acme";
    let body = json!({"id": id, "text": text()}).to_string();
    let sequence = product.publish_as(id.as_str(), subject, body.clone()).await;
    let (status, view) = delete(&product, &format!("{id}.{sequence}")).await;
    assert_eq!(
        (status, view["status"].as_str()),
        (200, Some("cancelled")),
        "{view}"
    );
    product.left_the_queue(sequence).await;
    // The same message id within two minutes is a duplicate. A different one is a new message.
    let same = product.publish_as(id.as_str(), subject, body.clone()).await;
    assert_eq!(same, sequence);
    let again = product.publish_as(&format!("{id}-2"), subject, body).await;
    assert!(again > sequence);
    let (_, view) = product.get(&format!("/v1/jobs/{id}.{again}")).await;
    assert_eq!(view["status"], "queued", "{view}");
    // A job expires while it waits.
    let mut short = json!({"text": text()});
    short["ttl_seconds"] = 1.into();
    let short = product.submit(&short).await;
    let (_, ended) = product.get(&format!("/v1/jobs/{}?wait=20", short.id)).await;
    assert_eq!(ended["status"], "expired", "{ended}");
    // Many requests wait for one job, and a process has one subscription for all of them.
    let job = product.submit(&json!({"text": text()})).await;
    let path = format!("{}/v1/jobs/{}?wait=100", product.api, job.id);
    let before = subscriptions(&product, monitor).await;
    let for_results = before.iter().filter(|subject| *subject == subject::ALL_DONE);
    assert_eq!(for_results.count(), 1, "{before:?}");
    let waiting: Vec<_> = (0..1_000)
        .map(|_| tokio::spawn(product.http.get(&path).send()))
        .collect();
    eventually(MINUTE, "all requests wait", async || {
        let metrics = product.get("/metrics").await.1;
        let line = metrics
            .as_str()?
            .lines()
            .find(|line| line.starts_with("precis_api_waiters "))?;
        line.ends_with(" 1000").then_some(())
    })
    .await;
    assert_eq!(subscriptions(&product, monitor).await, before);
    let consumers = results_consumers(&product).await;
    assert!(
        consumers.iter().all(|name| name.starts_with("monitor-")),
        "{consumers:?}"
    );
    let _worker = product.worker("new", &[]);
    for one in join_all(waiting).await {
        let view: JobView = one.unwrap().unwrap().json().await.unwrap();
        assert_eq!(view.status, Status::Succeeded);
    }
    let view = product.finished(&format!("{id}.{again}")).await;
    assert_eq!(view.status, Status::Succeeded, "{view:?}");
    assert_eq!(product.result(&id).await.unwrap().job_sequence, again);
}

#[tokio::test]
async fn fifty_equal_posts_to_two_gateways_create_one_job() {
    let product = shared().await;
    let (_second, other) = second_gateway(product, "second").await;
    let key = JobId::generate().to_string();
    let body = json!({"text": text()});
    let posts = (0..50).map(|number| {
        let api = if number % 2 == 0 { &product.api } else { &other };
        with_key(product, api, &key, &body)
    });
    let answers = join_all(posts).await;
    for (status, answer) in &answers {
        assert!(matches!(status, 200 | 202), "{status}: {answer}");
        assert_eq!(answer["id"], answers[0].1["id"]);
    }
    let (status, problem) = with_key(product, &other, &key, &json!({"text": "Rain fell."})).await;
    assert_eq!(
        (status, problem["code"].as_str()),
        (422, Some("idempotency_key_reused"))
    );
    let id = answers[0].1["id"].as_str().unwrap();
    assert_eq!(product.finished(id).await.status, Status::Succeeded);
    assert_eq!(product.stored_rows(&id_of(id)).await.len(), 1);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_rolls_back_groups() {
    let product = with_waiting_jobs(&["queue.max_jobs=2"]).await;
    let job = product.submit(&json!({"text": text()})).await;
    let (status, problem) = product
        .post("/v1/summaries", &json!({"texts": [text(), text(), text()]}))
        .await;
    assert_eq!(
        (status, problem["code"].as_str()),
        (503, Some("queue_full")),
        "{problem}"
    );
    // The jobs queued before the rejection are withdrawn, so there is room for another one.
    product.submit(&json!({"text": text()})).await;
    let request = product.http.post(format!("{}/v1/summaries", product.api));
    let response = request.json(&json!({"text": text()})).send().await.unwrap();
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    // Cancelling a job makes room for another one.
    assert_eq!(delete(&product, &job.id).await.0, 200);
    product.submit(&json!({"text": text()})).await;
}
