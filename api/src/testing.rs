//! A queue in memory, for tests.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use precis_producer::Submission;
use precis_runtime::config::{Access, Api, ClickHouse, Http, Limits, ServerUrl};
use precis_runtime::liveness::Workers;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::reference::LateReference;
use precis_schemas::result::{Sizes, Timings};
use precis_schemas::{
    Channel, GenerationParams, JobHandle, JobId, JobResult, Lane, Outcome, Task, Token, time,
};
use tokio_util::sync::CancellationToken;

use crate::access::Gate;
use crate::analytics::Analytics;
use crate::depth::{Depth, LaneDepth};
use crate::progress::Running;
use crate::queue::{Copy, Queue, Standing};
use crate::state::{AppState, Parts};
use crate::wait::Waiters;

/// A queue in memory. Its model `default` has consumers; a worker answers only if there is one.
#[derive(Default)]
pub(crate) struct FakeQueue {
    /// Jobs that were taken; the first has sequence 1.
    pub(crate) jobs: Mutex<Vec<Submission>>,
    /// Jobs that a worker has let go of.
    pub(crate) done: Mutex<Vec<u64>>,
    results: Mutex<HashMap<JobId, JobResult>>,
    /// References that were taken.
    pub(crate) references: Mutex<Vec<LateReference>>,
    /// Refuses everything with this code.
    pub(crate) refuses: Mutex<Option<ErrorCode>>,
    /// Whether jobs are answered at once: with their text in capitals, or with an error for `fail`.
    pub(crate) has_worker: AtomicBool,
    waiters: OnceLock<Waiters>,
}

impl FakeQueue {
    /// Stores a result and gives the sign.
    pub(crate) fn store(&self, result: JobResult) {
        let id = result.id.clone();
        let body = {
            let mut results = self.results.lock().unwrap();
            serde_json::to_vec(results.entry(id.clone()).or_insert(result)).unwrap()
        };
        if let Some(waiters) = self.waiters.get() {
            waiters.stored(&id, body.into());
        }
    }

    /// Stores a result later, without a sign.
    pub(crate) fn store_after(self: Arc<Self>, pause: Duration, result: JobResult) {
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            self.results.lock().unwrap().insert(result.id.clone(), result);
        });
    }

    fn refusal(&self) -> Result<(), Refusal> {
        match *self.refuses.lock().unwrap() {
            Some(code) => Err(Refusal::new(code, "refused by the test")),
            None => Ok(()),
        }
    }
}

impl Queue for FakeQueue {
    fn publish<'a>(&'a self, submission: &'a Submission) -> BoxFuture<'a, Result<JobHandle, Refusal>> {
        async move {
            self.refusal()?;
            let sequence = {
                let mut jobs = self.jobs.lock().unwrap();
                jobs.push(submission.clone());
                jobs.len() as u64
            };
            let job = &submission.job;
            if self.has_worker.load(Ordering::Relaxed) {
                let failed = job.text == "fail";
                self.done.lock().unwrap().push(sequence);
                self.store(JobResult {
                    outcome: if failed {
                        Outcome::Failed
                    } else {
                        Outcome::Succeeded
                    },
                    summary: (!failed).then(|| job.text.to_uppercase()),
                    error: failed.then(|| Refusal::new(ErrorCode::InferenceFailed, "the model failed")),
                    params: job.params.clone(),
                    ..result(job.id.as_str(), sequence)
                });
            }
            Ok(JobHandle {
                id: job.id.clone(),
                sequence: Some(sequence),
            })
        }
        .boxed()
    }

    fn publish_reference<'a>(
        &'a self,
        reference: &'a LateReference,
        _: &'a TraceContext,
    ) -> BoxFuture<'a, Result<(), Refusal>> {
        async move {
            self.refusal()?;
            self.references.lock().unwrap().push(reference.clone());
            Ok(())
        }
        .boxed()
    }

    fn result<'a>(&'a self, id: &'a JobId, _: Copy) -> BoxFuture<'a, Result<Option<JobResult>, Refusal>> {
        async move {
            self.refusal()?;
            Ok(self.results.lock().unwrap().get(id).cloned())
        }
        .boxed()
    }

    fn standing(&self, sequence: u64) -> BoxFuture<'_, Result<Option<Standing>, Refusal>> {
        async move {
            self.refusal()?;
            if self.done.lock().unwrap().contains(&sequence) {
                return Ok(None);
            }
            let jobs = self.jobs.lock().unwrap();
            let index = usize::try_from(sequence).unwrap().checked_sub(1);
            let job = index.and_then(|index| jobs.get(index));
            Ok(job.map(|submission| Standing {
                id: submission.job.id.clone(),
                subject: submission.subject.clone(),
                submitted_at: None,
            }))
        }
        .boxed()
    }

    fn waiting_of<'a>(&'a self, tenant: &'a Token) -> BoxFuture<'a, Result<u64, Refusal>> {
        async move {
            self.refusal()?;
            let done = self.done.lock().unwrap();
            let jobs = self.jobs.lock().unwrap();
            let waits = |(index, submission): &(usize, &Submission)| {
                submission.subject.tenant == *tenant && !done.contains(&(*index as u64 + 1))
            };
            Ok(jobs.iter().enumerate().filter(waits).count() as u64)
        }
        .boxed()
    }

    fn depth(&self) -> BoxFuture<'_, Result<Depth, Refusal>> {
        async move {
            self.refusal()?;
            let jobs = self.jobs.lock().unwrap().len() as u64;
            Ok(Depth {
                last_sequence: jobs,
                lanes: vec![LaneDepth {
                    model: Token::new("a model", "default").unwrap(),
                    lane: Lane::Normal,
                    delivered: 0,
                    pending: jobs,
                }],
            })
        }
        .boxed()
    }
}

/// The result of a job that succeeded.
pub(crate) fn result(id: &str, sequence: u64) -> JobResult {
    JobResult {
        id: id.parse().unwrap(),
        job_sequence: sequence,
        task: Task::Summarize,
        lane: Lane::Normal,
        tenant: Token::new("a tenant", "public").unwrap(),
        channel: Channel::Api,
        outcome: Outcome::Succeeded,
        summary: Some("Rain fell.".into()),
        error: None,
        text: "It rained.".into(),
        reference: None,
        model: None,
        worker: None,
        params: GenerationParams::default(),
        sizes: Sizes::default(),
        timings: Timings::default(),
        attempt: 1,
        submitted_at: time::now(),
        started_at: None,
        finished_at: time::now(),
        metadata: Default::default(),
        embeddings: None,
        send_to_arize: None,
    }
}

/// A state on a queue in memory, with small limits.
pub(crate) fn state_of(queue: Arc<FakeQueue>) -> AppState {
    guarded_state_of(queue, &Access::default(), Http::default())
}

/// As [`state_of`], with keys.
pub(crate) fn guarded_state_of(queue: Arc<FakeQueue>, access: &Access, http: Http) -> AppState {
    let waiters = Waiters::default();
    assert!(
        queue.waiters.set(waiters.clone()).is_ok(),
        "one state for each queue"
    );
    AppState::new(Parts {
        limits: Limits {
            max_text_chars: 1_000,
            max_body_bytes: 4_096,
            max_wait_seconds: 30,
            max_batch_texts: 3,
            ..Limits::default()
        },
        api: Api {
            sync_wait_seconds: 2,
            ..Api::default()
        },
        http,
        gate: Arc::new(Gate::new(access)),
        result_ttl_hours: 24,
        queue,
        // Nobody listens there.
        analytics: Analytics::new(&ClickHouse {
            url: ServerUrl::new("http://127.0.0.1:1"),
            ..ClickHouse::default()
        }),
        workers: Workers::default(),
        waiters,
        running: Running::default(),
        stop: CancellationToken::new(),
    })
}
