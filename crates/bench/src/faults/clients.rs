//! Clients of a run: they submit work and repeat what was not answered, as real clients must.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::{HeaderMap, jetstream};
use parking_lot::Mutex;
use precis_runtime::clock::{self, Instant};
use precis_schemas::{JobId, Lane, manifest};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::plan::{At, Behaviour, Submission};
use super::testbed::Testbed;

/// Delay before a request is repeated.
const RETRY_DELAY: Duration = Duration::from_millis(300);
/// How long a client repeats a request. An idempotency key of a gateway that died is free again by then.
const PATIENCE: Duration = Duration::from_secs(150);
/// Time limit of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);
/// Deadline of a job that hangs.
const HANG_DEADLINE: Duration = Duration::from_secs(4);
/// Characters of a text that is too long.
const OVERSIZED: usize = 300_000;

/// A job that the product has accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AcceptedJob {
    /// Its id.
    pub(super) id: JobId,
    /// The name of its webhook at the receiver.
    pub(super) webhook: Option<String>,
}

/// What the clients of a run learned.
#[derive(Debug, Default)]
pub(super) struct Learned {
    /// The accepted jobs.
    pub(super) jobs: Vec<AcceptedJob>,
    /// Parts of the bodies of accepted messages that name no job. Each becomes a dead letter.
    pub(super) unreadable: Vec<String>,
    /// Submissions that were refused for good, or never answered.
    pub(super) refused: Vec<String>,
    last_accepted: Option<Instant>,
    /// The longest time in which nothing was accepted, between two accepted submissions.
    pub(super) longest_pause: Duration,
}

/// The clients of a run. Cheap to clone.
#[derive(Clone)]
pub(super) struct Clients {
    testbed: Arc<Testbed>,
    jetstream: jetstream::Context,
    /// Names the run in metadata, ids and keys.
    tag: String,
    deadline: Instant,
    learned: Arc<Mutex<Learned>>,
}

impl Clients {
    /// Creates the clients of a run.
    pub(super) fn new(testbed: Arc<Testbed>, jetstream: jetstream::Context, tag: String) -> Self {
        Self {
            testbed,
            jetstream,
            tag,
            deadline: Instant::now() + PATIENCE,
            learned: Arc::default(),
        }
    }

    /// Submits all work at its time. Returns once every submission was answered.
    pub(super) async fn submit_all(&self, submissions: &[At<Submission>]) -> Learned {
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for (number, submission) in submissions.iter().copied().enumerate() {
            let clients = self.clone();
            tasks.spawn(async move {
                tokio::time::sleep_until(start + submission.begins).await;
                clients.try_submit(number, submission.what).await;
            });
        }
        tasks.join_all().await;
        std::mem::take(&mut self.learned.lock())
    }

    /// Submits `load`, one piece each `period`, until `stop`. Returns once every submission was answered.
    pub(super) async fn submit_until(
        &self,
        load: impl Iterator<Item = Submission>,
        period: Duration,
        stop: &CancellationToken,
    ) -> Learned {
        let mut tasks = JoinSet::new();
        for (number, what) in load.enumerate() {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(period) => {}
            }
            let clients = Self {
                deadline: Instant::now() + PATIENCE,
                ..self.clone()
            };
            tasks.spawn(async move { clients.try_submit(number, what).await });
            while tasks.try_join_next().is_some() {}
        }
        tasks.join_all().await;
        std::mem::take(&mut self.learned.lock())
    }

    async fn try_submit(&self, number: usize, what: Submission) {
        if let Err(error) = self.submit(number, what).await {
            let refused = format!("{number}: {what}: {error:#}");
            self.learned.lock().refused.push(refused);
        }
    }

    fn accept(&self, id: JobId, webhook: Option<String>) {
        let now = Instant::now();
        let mut learned = self.learned.lock();
        learned.jobs.push(AcceptedJob { id, webhook });
        if let Some(last) = learned.last_accepted.replace(now) {
            learned.longest_pause = learned.longest_pause.max(now - last);
        }
    }

    fn text(&self, number: usize, behaviour: Behaviour) -> String {
        let directive = behaviour.directive();
        // Long enough to be stored apart from its result.
        let rest = "It was wet. ".repeat(40);
        format!(
            "{directive}Rain fell on the coast, says note {number} of run {}. {rest}",
            self.tag
        )
    }

    async fn submit(&self, number: usize, submission: Submission) -> anyhow::Result<()> {
        match submission {
            Submission::Rest {
                gateway,
                lane,
                behaviour,
                has_callback,
                cancel_after,
            } => {
                let name = format!("{}-{number}", self.tag);
                let mut body = json!({
                    "text": self.text(number, behaviour),
                    "priority": lane,
                    "metadata": self.metadata(&number.to_string()),
                });
                if has_callback {
                    body["callback_url"] = self.testbed.receiver.url(&name).into();
                }
                let answer = self.post(gateway, "/v1/summaries", &name, &body).await?;
                let handle = answer["id"].as_str().context("the answer has no id")?.to_owned();
                let id = handle.split('.').next().unwrap_or_default().parse()?;
                self.accept(id, has_callback.then_some(name));
                if let Some(after) = cancel_after {
                    tokio::time::sleep(after).await;
                    // The job may have ended, and the gateway may be down: either outcome is fine.
                    let url = format!("{}/v1/jobs/{handle}", self.testbed.gateway(gateway));
                    let request = self.testbed.http.delete(url).timeout(REQUEST_TIMEOUT);
                    let _outcome = request.send().await;
                }
                Ok(())
            }
            Submission::Direct {
                tenant,
                lane,
                behaviour,
                copies,
            } => {
                let id: JobId = format!("{}-{number}", self.tag).parse()?;
                let mut body = json!({
                    "id": id,
                    "text": self.text(number, behaviour),
                    "metadata": self.metadata(&number.to_string()),
                });
                if behaviour == Behaviour::Hang {
                    body["deadline"] = (clock::now() + HANG_DEADLINE).to_string().into();
                }
                for _ in 0..copies {
                    self.publish(tenant, lane, id.as_str(), body.to_string()).await?;
                }
                self.accept(id, None);
                Ok(())
            }
            Submission::Batch { gateway, rows } => {
                let key = format!("{}-{number}", self.tag);
                let rows: Vec<Value> = (0..rows)
                    .map(|row| {
                        json!({
                            "article": format!("Row {row}. {}", self.text(number, Behaviour::Answer)),
                            "metadata": self.metadata(&format!("{number}-{row}")),
                        })
                    })
                    .collect();
                let count = rows.len();
                let answer = self
                    .post(gateway, "/v1/batches", &key, &Value::from(rows))
                    .await?;
                let batch = answer["id"].as_str().context("the answer has no id")?.parse()?;
                for row in 0..count {
                    let id = manifest::job_of(&batch, row as u64).context("a row has an id")?;
                    self.accept(id, None);
                }
                Ok(())
            }
            Submission::Malformed => {
                let id = format!("{}-{number}", self.tag);
                // Half of them say which job they are.
                let names_job = number.is_multiple_of(2);
                let body = match names_job {
                    true => format!(r#"{{"id": "{id}", "text": "Rain fe"#),
                    false => format!(r#"{{"id": 12, "note": "{id}.", "text""#),
                };
                self.publish(0, Lane::Normal, &id, body).await?;
                if names_job {
                    self.accept(id.parse()?, None);
                } else {
                    self.learned.lock().unreadable.push(format!("{id}."));
                }
                Ok(())
            }
            Submission::Oversized => {
                let id: JobId = format!("{}-{number}", self.tag).parse()?;
                let body = json!({"id": id, "text": "x".repeat(OVERSIZED)}).to_string();
                self.publish(0, Lane::Normal, id.as_str(), body).await?;
                self.accept(id, None);
                Ok(())
            }
        }
    }

    /// Returns the metadata by which the jobs of a submission, or of a row of an upload, are counted.
    fn metadata(&self, number: &str) -> Value {
        json!({"faults": self.tag, "number": number})
    }

    /// Posts until a gateway accepts the body. Every second attempt goes to the other gateway.
    async fn post(&self, gateway: usize, path: &str, key: &str, body: &Value) -> anyhow::Result<Value> {
        let mut attempt = gateway;
        loop {
            let url = format!("{}{path}", self.testbed.gateway(attempt % 2));
            attempt += 1;
            let request = self.testbed.http.request(Method::POST, url);
            let request = request.header("idempotency-key", key).json(body);
            let problem = match answer_of(request).await {
                Ok((status, answer)) if status.is_success() => return Ok(answer),
                Ok((status, answer)) if !is_transient(status) => {
                    anyhow::bail!("{status}: {}", answer["detail"]);
                }
                Ok((status, answer)) => anyhow::anyhow!("{status}: {}", answer["detail"]),
                Err(error) => error,
            };
            if Instant::now() >= self.deadline {
                return Err(problem.context("never accepted"));
            }
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }

    /// Publishes until the stream acknowledges the message.
    async fn publish(&self, tenant: u64, lane: Lane, id: &str, body: String) -> anyhow::Result<()> {
        let subject = format!("jobs.v1.default.{lane}.summarize.tenant-{tenant}");
        loop {
            let mut headers = HeaderMap::new();
            headers.insert(NATS_MESSAGE_ID, id);
            let sent = self
                .jetstream
                .publish_with_headers(subject.clone(), headers, body.clone().into())
                .await;
            let acknowledged = match sent {
                Ok(acknowledgement) => acknowledgement.await,
                Err(error) => Err(error),
            };
            match acknowledged {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= self.deadline => return Err(error.into()),
                Err(_) => tokio::time::sleep(RETRY_DELAY).await,
            }
        }
    }
}

async fn answer_of(request: RequestBuilder) -> anyhow::Result<(StatusCode, Value)> {
    let answer = request.timeout(REQUEST_TIMEOUT).send().await?;
    let status = answer.status();
    Ok((status, answer.json().await?))
}

/// Returns whether a client repeats a request with this answer. 409 says that the key is in use.
fn is_transient(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
        )
}
