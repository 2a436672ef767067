//! A worker without a queue: the model in the process of whoever asks it. A job passes the same stages as behind
//! NATS, from its tokens to its result; who keeps jobs and results is up to the caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::Timestamp;
use precis_runtime::Config;
use precis_runtime::clock;
use precis_runtime::config::EmbeddingTexts;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::event::{Heartbeat, Progress};
use precis_schemas::{Job, JobResult, JobSubject, Outcome, Token};
use tokio::sync::{mpsc, watch};

use crate::heartbeat::Identity;
use crate::lease::Lease;
use crate::metrics;
use crate::pace::Meter;
use crate::pipeline::name_of_worker;
use crate::serving::Serving;
use crate::stages::batch::Row;
use crate::stages::decode::{Accepted, Answered, Delivery, expired};
use crate::stages::detokenize::{result_of_answered, result_of_given, result_of_row};
use crate::stages::embed::embed;
use crate::stages::infer::{Ends, Inferred, RowOutcome, infer};
use crate::stages::score::scored;
use crate::stages::tokenize::tokenize;

/// A loaded model that takes jobs one by one and decodes them together. Cheap to clone.
#[derive(Clone)]
pub struct LocalWorker {
    serving: Arc<Serving>,
    identity: Identity,
    embeddings: EmbeddingTexts,
    meter: Meter,
    in_hand: Arc<AtomicUsize>,
}

/// A job in hand, until this is dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    /// Takes a place; how many are in hand now, this one included.
    fn take(in_hand: &'a AtomicUsize) -> (Self, usize) {
        let count = in_hand.fetch_add(1, Ordering::Relaxed) + 1;
        metrics::in_flight(count);
        (Self(in_hand), count)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        metrics::in_flight(self.0.fetch_sub(1, Ordering::Relaxed) - 1);
    }
}

/// A job as it is handed to a [`LocalWorker`].
#[derive(Debug, Clone)]
pub struct Assignment {
    /// The job.
    pub job: Job,
    /// Where it would have been published.
    pub subject: JobSubject,
    /// Its place in the caller's order.
    pub sequence: u64,
    /// When the caller took it.
    pub submitted_at: Timestamp,
    /// The request that it belongs to.
    pub trace: TraceContext,
}

impl LocalWorker {
    /// Loads the model that `[worker]` asks for. Blocks while it reads and, for a hub id, downloads.
    ///
    /// # Errors
    /// When the device is not there or the model can't be loaded.
    pub fn load(config: &Config) -> anyhow::Result<Self> {
        metrics::describe();
        let settings = &config.worker;
        let worker = name_of_worker(settings.id.as_deref())?;
        let served_as = Token::new("worker.serve_as", &settings.serve_as)?;
        let serving = Arc::new(Serving::load(settings, &worker, &served_as, false)?);
        Ok(Self {
            identity: Identity {
                worker,
                // It is not replaced: a new model is a new process.
                serving: watch::channel(serving.clone()).1,
                lanes: settings.lanes.clone(),
                max_batch: settings.max_batch,
            },
            serving,
            embeddings: settings.embeddings,
            meter: Meter::default(),
            in_hand: Arc::default(),
        })
    }

    /// What it says of itself.
    pub fn heartbeat(&self) -> Heartbeat {
        let in_hand = self.in_hand.load(Ordering::Relaxed);
        self.identity.beat(in_hand, self.meter.pace(), false)
    }

    /// Works on a job to its end. `tell` hears that it has begun, and what there is of its summary.
    pub async fn work(&self, assignment: Assignment, ends: Ends, tell: impl Fn(Progress)) -> JobResult {
        let (_place, in_hand) = Place::take(&self.in_hand);
        let stemmed = assignment.job.stemmed;
        let result = self.result(assignment, in_hand, ends, &tell).await;
        let result = scored(result, stemmed).await;
        metrics::answered(&result);
        result
    }

    async fn result(
        &self,
        assignment: Assignment,
        in_hand: usize,
        ends: Ends,
        tell: &impl Fn(Progress),
    ) -> JobResult {
        let accepted = accept(assignment);
        if let Some(refusal) = expired(&accepted.job, accepted.delivery.received_at) {
            return self.unread(accepted, Outcome::Expired, refusal);
        }
        if accepted.job.summary.is_some() {
            return result_of_given(&accepted, &self.serving.signature);
        }
        let announce = self.announcer(&accepted, tell);
        announce(None);
        let tokenized = match tokenize(self.serving.clone(), accepted).await {
            Ok(tokenized) => tokenized,
            Err(refused) => {
                let (accepted, reason) = *refused;
                let reason = format!("the tokenizer refused the text: {reason}");
                let refusal = Refusal::new(ErrorCode::InferenceFailed, reason);
                return self.unread(accepted, Outcome::Failed, refusal);
            }
        };
        let row = self.serving.requests.form(tokenized);
        let inferred = self.infer(row, in_hand, ends, announce).await;
        self.result_of(inferred)
    }

    /// Says of a job that it runs and, with a number and a text, what there is of its summary.
    fn announcer<'a, Tell: Fn(Progress)>(
        &self,
        accepted: &Accepted,
        tell: &'a Tell,
    ) -> impl Fn(Option<(u64, String)>) + use<'a, Tell> {
        let begun = Progress {
            id: accepted.job.id.clone(),
            attempt: accepted.delivery.attempt,
            worker: self.identity.worker.clone(),
            started_at: accepted.delivery.received_at,
            job_sequence: Some(accepted.delivery.sequence),
            part: None,
            text: None,
        };
        move |told| {
            let (part, text) = told.unzip();
            tell(Progress {
                part,
                text,
                ..begun.clone()
            });
        }
    }

    /// Runs the model on a row, and measures how long that takes.
    async fn infer(
        &self,
        row: Row,
        in_hand: usize,
        ends: Ends,
        announce: impl Fn(Option<(u64, String)>),
    ) -> Inferred {
        let (parts, mut told) = mpsc::channel::<Arc<[u32]>>(1);
        let tell = async {
            let mut number = 0;
            while let Some(tokens) = told.recv().await {
                if let Ok(text) = self.serving.engine.decode(&tokens) {
                    number += 1;
                    announce(Some((number, text)));
                }
            }
        };
        let in_engine = self.meter.begin();
        let engine = &self.serving.engine;
        let (mut inferred, ()) = tokio::join!(infer(engine.clone(), row, in_hand, ends, parts), tell);
        metrics::inferred(in_hand, in_engine.took().as_secs_f64());
        if matches!(inferred.outcome, RowOutcome::Done(_) | RowOutcome::Failed(_)) {
            in_engine.done();
        }
        embed(engine, self.embeddings, &mut inferred).await;
        inferred
    }

    fn result_of(&self, mut inferred: Inferred) -> JobResult {
        let signature = &self.serving.signature;
        let (outcome, refusal) = match std::mem::replace(&mut inferred.outcome, RowOutcome::HandBack) {
            RowOutcome::Done(generated) => {
                return result_of_row(&inferred, Outcome::Succeeded, Some(&generated), signature);
            }
            RowOutcome::Expired(refusal) => (Outcome::Expired, refusal),
            RowOutcome::Cancelled(refusal) => (Outcome::Cancelled, refusal),
            // Trying again here would be the same model on the same text.
            RowOutcome::Failed(refusal) | RowOutcome::Refused(refusal) => (Outcome::Failed, refusal),
            RowOutcome::HandBack => {
                let message = "the process that worked on the job is about to stop";
                let refusal = Refusal::new(ErrorCode::QueueUnavailable, message);
                (Outcome::Failed, refusal)
            }
        };
        JobResult {
            error: Some(refusal),
            ..result_of_row(&inferred, outcome, None, signature)
        }
    }

    /// The result of a job that the model has not read.
    fn unread(&self, accepted: Accepted, outcome: Outcome, reason: Refusal) -> JobResult {
        let answered = Answered {
            id: Some(accepted.job.id.clone()),
            job: Some(accepted.job),
            raw: (accepted.subject.to_string(), bytes::Bytes::new()),
            subject: Some(accepted.subject),
            outcome,
            reason,
            delivery: accepted.delivery,
            lease: accepted.lease,
        };
        // It has an id, and then there is a result.
        result_of_answered(&answered, &self.serving.signature).expect("a job with an id has a result")
    }
}

/// The job as the stages take it: delivered once, and held by nobody.
fn accept(assignment: Assignment) -> Accepted {
    Accepted {
        delivery: Delivery {
            sequence: assignment.sequence,
            attempt: 1,
            submitted_at: assignment.submitted_at,
            received_at: clock::now(),
            trace: Some(assignment.trace),
            pull: None,
        },
        job: assignment.job,
        subject: assignment.subject,
        lease: Lease::of_nobody(),
    }
}
