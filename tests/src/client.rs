//! Requests that tests send to the product over REST, NATS and SQL.

use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use futures::StreamExt;
use precis_runtime::nats::is_missing;
use precis_schemas::dead::DeadLetter;
use precis_schemas::rest::JobView;
use precis_schemas::topology::{DEAD, JOBS, RESULTS, clickhouse_sink_consumer};
use precis_schemas::{JobId, JobResult, subject};
use serde_json::Value;

use crate::product::Product;
use crate::wait::eventually;

impl Product {
    /// Posts JSON to a path of the API. Returns the status and the body.
    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = self.http.post(format!("{}{path}", self.api)).json(body);
        answer(request.send().await.expect("the API answers")).await
    }

    /// Gets a path of the API. Returns the status and the body.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        answer(
            self.http
                .get(format!("{}{path}", self.api))
                .send()
                .await
                .expect("the API answers"),
        )
        .await
    }

    /// Submits a text and returns the job as accepted.
    pub async fn submit(&self, body: &Value) -> JobView {
        let (status, view) = self.post("/v1/summaries", body).await;
        assert_eq!(status, 202, "{view}");
        serde_json::from_value(view).expect("a job")
    }

    /// Submits a text and waits for its summary in the same request.
    pub async fn summarize(&self, body: &Value) -> JobView {
        let request = self
            .http
            .post(format!("{}/v1/summaries", self.api))
            .header("prefer", "wait=100");
        let (status, view) = answer(request.json(body).send().await.expect("the API answers")).await;
        assert_eq!(status, 200, "{view}");
        serde_json::from_value(view).expect("a job")
    }

    /// Polls a job until it has ended.
    pub async fn finished(&self, id: &str) -> JobView {
        eventually(Duration::from_secs(120), "the job has ended", async || {
            let (status, view) = self.get(&format!("/v1/jobs/{id}")).await;
            assert_eq!(status, 200, "{view}");
            let view: JobView = serde_json::from_value(view).expect("a job");
            view.status.is_final().then_some(view)
        })
        .await
    }

    /// Submits a text and returns the accepted job as soon as a worker reports progress.
    pub async fn begun(&self, body: &Value) -> JobView {
        let client = async_nats::connect(&self.nats).await.expect("NATS answers");
        let mut progress = client
            .subscribe(subject::ALL_PROGRESS)
            .await
            .expect("a subscription");
        client.flush().await.expect("the server has the subscription");
        let submitted = self.submit(body).await;
        let wanted = subject::progress_of(&id_of(&submitted.id));
        let seen = async {
            while let Some(message) = progress.next().await {
                if message.subject.as_str() == wanted {
                    return;
                }
            }
            panic!("the subscription ended");
        };
        tokio::time::timeout(Duration::from_secs(60), seen)
            .await
            .expect("a worker begins with the job within a minute");
        submitted
    }

    /// Connects to the product's NATS.
    pub async fn nats(&self) -> async_nats::jetstream::Context {
        async_nats::jetstream::new(async_nats::connect(&self.nats).await.expect("NATS answers"))
    }

    /// Returns the stored result of a job, if any.
    pub async fn result(&self, id: &JobId) -> Option<JobResult> {
        let stream = self
            .nats()
            .await
            .get_stream(RESULTS)
            .await
            .expect("the stream is there");
        let message = stream
            .get_last_raw_message_by_subject(&subject::result_of(id))
            .await
            .ok()?;
        Some(serde_json::from_slice(&message.payload).expect("a result"))
    }

    /// Runs a ClickHouse query. Returns one JSON object per row.
    pub async fn query(&self, sql: &str) -> Vec<Value> {
        self.try_query(sql).await.expect("ClickHouse answers")
    }

    /// Like [`Product::query`], for tests in which ClickHouse may be down.
    ///
    /// # Errors
    /// If ClickHouse does not answer or returns an error.
    pub async fn try_query(&self, sql: &str) -> Result<Vec<Value>, String> {
        let request = self.http.post(format!(
            "{}/?database=precis&default_format=JSONEachRow",
            self.clickhouse
        ));
        let sent = request.body(sql.to_owned()).send().await;
        let response = sent.map_err(|error| error.to_string())?;
        let status = response.status();
        let text = response.text().await.map_err(|error| error.to_string())?;
        if !status.is_success() {
            return Err(format!("{sql}: {text}"));
        }
        let rows = text.lines().map(serde_json::from_str);
        rows.collect::<Result<_, _>>().map_err(|error| error.to_string())
    }

    /// Inserts rows, given as JSON objects, into a table.
    pub async fn insert(&self, table: &str, rows: &[Value]) {
        let body: String = rows.iter().map(|row| format!("{row}\n")).collect();
        let sql = format!("INSERT%20INTO%20{table}%20FORMAT%20JSONEachRow");
        let address = format!("{}/?database=precis&query={sql}", self.clickhouse);
        let response = self.http.post(address).body(body).send().await;
        let response = response.expect("ClickHouse answers");
        let status = response.status();
        assert!(
            status.is_success(),
            "{}",
            response.text().await.unwrap_or_default()
        );
    }

    /// Waits for a job's rows in the view that analysts query.
    pub async fn rows_of(&self, id: &JobId) -> Vec<Value> {
        let sql = format!("SELECT * FROM predictions WHERE job_id = '{id}'");
        eventually(Duration::from_secs(60), "the row is there", async || {
            let rows = self.try_query(&sql).await.ok()?;
            (!rows.is_empty()).then_some(rows)
        })
        .await
    }

    /// Returns a job's rows in the table itself, duplicates included, after the monitor has stored every current
    /// result.
    pub async fn stored_rows(&self, id: &JobId) -> Vec<Value> {
        self.results_are_stored().await;
        self.query(&format!(
            "SELECT * FROM prediction_versions WHERE job_id = '{id}'"
        ))
        .await
    }

    /// Waits until the monitor has stored and acknowledged every current result.
    async fn results_are_stored(&self) {
        let context = self.nats().await;
        let mut results = context.get_stream(RESULTS).await.expect("the stream is there");
        let last = results.info().await.expect("it answers").state.last_sequence;
        let sink = clickhouse_sink_consumer();
        let consumer: PullConsumer = results
            .get_consumer(&sink.name)
            .await
            .expect("the monitor has it");
        eventually(Duration::from_secs(120), "all results are stored", async || {
            let info = consumer.get_info().await.expect("it answers");
            let nothing_left = info.num_pending == 0 && info.num_ack_pending == 0;
            // Other tests may add results all the time.
            (nothing_left || info.ack_floor.stream_sequence >= last).then_some(())
        })
        .await;
    }

    /// Publishes a message like a client in any language. Returns its stream sequence.
    pub async fn publish(&self, subject: &str, body: impl Into<Vec<u8>>) -> u64 {
        let context = self.nats().await;
        let sent = context.publish(subject.to_owned(), body.into().into()).await;
        let acknowledged = sent.expect("the server is there").await;
        acknowledged.expect("the stream takes it").sequence
    }

    /// Like [`Product::publish`], with a message id.
    pub async fn publish_as(&self, message_id: &str, subject: &str, body: impl Into<Vec<u8>>) -> u64 {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert(async_nats::header::NATS_MESSAGE_ID, message_id);
        let context = self.nats().await;
        let sent = context
            .publish_with_headers(subject.to_owned(), headers, body.into().into())
            .await;
        let acknowledged = sent.expect("the server is there").await;
        acknowledged.expect("the stream takes it").sequence
    }

    /// Waits until the message with this sequence has left the queue.
    pub async fn left_the_queue(&self, sequence: u64) {
        let jobs = self
            .nats()
            .await
            .get_stream(JOBS)
            .await
            .expect("the stream is there");
        eventually(
            Duration::from_secs(120),
            "the job has left the queue",
            async || {
                let error = jobs.get_raw_message(sequence).await.err()?;
                assert!(is_missing(&error), "{error}");
                Some(())
            },
        )
        .await;
    }

    /// The last sequence of the stream of dead letters.
    pub async fn last_dead_letter(&self) -> u64 {
        let mut dead = self
            .nats()
            .await
            .get_stream(DEAD)
            .await
            .expect("the stream is there");
        dead.info().await.expect("it answers").state.last_sequence
    }

    /// Waits for the first dead letter after the sequence `after` that `is_wanted` accepts.
    pub async fn dead_letter(&self, after: u64, is_wanted: impl Fn(&DeadLetter) -> bool) -> DeadLetter {
        let dead = self
            .nats()
            .await
            .get_stream(DEAD)
            .await
            .expect("the stream is there");
        let mut seen = after;
        eventually(Duration::from_secs(60), "the dead letter is there", async || {
            while let Ok(message) = dead.get_raw_message(seen + 1).await {
                seen += 1;
                let letter = serde_json::from_slice(&message.payload).expect("a dead letter");
                if is_wanted(&letter) {
                    return Some(letter);
                }
            }
            None
        })
        .await
    }
}

async fn answer(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.expect("a text");
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// Returns the job id of a handle.
pub fn id_of(handle: &str) -> JobId {
    handle.parse::<precis_schemas::JobHandle>().expect("a handle").id
}
