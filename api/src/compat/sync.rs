//! Routes that answer with the summaries themselves: they publish, wait, and hand out the texts.

use std::collections::BTreeMap;

use futures::future::join_all;
use futures::{Stream, StreamExt, stream};
use precis_producer::Submission;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::{Channel, GenerationParams, JobId, JobResult};
use sha2::{Digest, Sha256};
use tokio::time::{Duration, Instant};

use crate::access::Caller;
use crate::http::problem::ApiError;
use crate::jobs::submit;
use crate::jobs::view;
use crate::queue::ReadConsistency;
use crate::state::AppState;

/// A text to summarize.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Item {
    /// The text.
    pub(crate) text: String,
    /// A summary by a human, if there is one.
    pub(crate) reference: Option<String>,
}

impl From<String> for Item {
    fn from(text: String) -> Self {
        Self {
            text,
            reference: None,
        }
    }
}

/// A call that waits for its summaries.
#[derive(Clone)]
pub(crate) struct Call {
    state: AppState,
    caller: Caller,
    trace: TraceContext,
    channel: Channel,
    until: Instant,
    /// The model; none for the default one.
    model: Option<String>,
    /// Notes that go with every job.
    metadata: BTreeMap<String, String>,
    /// What is the same when the client sends the same call again.
    repeat_key: Option<String>,
}

/// Jobs that were checked and are not published yet, in the order of the texts.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Name of the list in the request, for messages.
    field: &'static str,
    submissions: Vec<Submission>,
}

/// Why there is no summary, and the job, if there is one.
struct Failure {
    error: ApiError,
    handle: Option<String>,
}

impl Failure {
    fn into_error(self) -> ApiError {
        match self.handle {
            Some(handle) => self.error.of_job(handle),
            None => self.error,
        }
    }

    /// Says which text of a list it is about.
    fn at(mut self, field: &str, index: usize) -> Self {
        self.error = self.error.at(&format!("{field}[{index}]"));
        self
    }
}

impl Call {
    /// A call whose waiting begins now.
    pub(crate) fn new(state: AppState, caller: Caller, trace: TraceContext, channel: Channel) -> Self {
        let patience = Duration::from_secs(state.api().sync_wait_seconds);
        Self {
            until: Instant::now() + patience,
            state,
            caller,
            trace,
            channel,
            model: None,
            metadata: BTreeMap::new(),
            repeat_key: None,
        }
    }

    /// Asks this model.
    pub(crate) fn of_model(mut self, model: Option<String>) -> Self {
        self.model = model;
        self
    }

    /// Notes something that comes back with the results and stands in the rows.
    pub(crate) fn noting(mut self, metadata: BTreeMap<String, String>) -> Self {
        self.metadata = metadata;
        self
    }

    /// Makes the same jobs of the same texts under the same key, so that a call that is sent again waits for
    /// what the first one began.
    pub(crate) fn repeatable(mut self, key: Option<String>) -> Self {
        self.repeat_key = key;
        self
    }

    /// One text in, its summary out.
    ///
    /// # Errors
    /// The first refusal that applies; after the time of these routes, `wait_timeout` with the job.
    pub(crate) async fn one(&self, item: Item, params: GenerationParams) -> Result<String, ApiError> {
        let submission = self.submission(0, item, params).await?;
        match self.summary(&submission).await {
            Ok((_, text)) => Ok(text),
            Err(failure) => Err(failure.into_error()),
        }
    }

    /// Texts in, their summaries out, in the same order; all or nothing. `field` is the list's name in the request.
    ///
    /// # Errors
    /// As [`Call::one`], with the place of the text and all jobs of the call.
    pub(crate) async fn many(
        &self,
        field: &'static str,
        items: Vec<Item>,
        params: &GenerationParams,
    ) -> Result<Vec<String>, ApiError> {
        let prepared = self.prepare(field, items, params).await?;
        self.all(&prepared).await
    }

    /// Checks all texts before the first is published.
    ///
    /// # Errors
    /// When there are too many, or one can't be taken.
    pub(crate) async fn prepare(
        &self,
        field: &'static str,
        items: Vec<Item>,
        params: &GenerationParams,
    ) -> Result<Prepared, ApiError> {
        let (given, most) = (items.len(), self.state.limits().max_batch_texts);
        if given > most {
            return Err(ApiError::new(
                ErrorCode::InvalidParameter,
                format!("there are {given} texts in {field}; {most} are allowed in one call"),
            ));
        }
        let mut submissions = Vec::with_capacity(given);
        for (index, item) in items.into_iter().enumerate() {
            let submission = self.submission(index, item, params.clone()).await;
            submissions.push(submission.map_err(|error| error.at(&format!("{field}[{index}]")))?);
        }
        Ok(Prepared { field, submissions })
    }

    /// Publishes what was prepared and waits for all of it.
    ///
    /// # Errors
    /// As [`Call::many`].
    pub(crate) async fn all(&self, prepared: &Prepared) -> Result<Vec<String>, ApiError> {
        let answers = join_all(
            prepared
                .submissions
                .iter()
                .map(|submission| self.summary(submission)),
        )
        .await;
        if answers.iter().all(Result::is_ok) {
            return Ok(answers
                .into_iter()
                .filter_map(Result::ok)
                .map(|(_, text)| text)
                .collect());
        }
        let mut first = None;
        let mut handles = Vec::with_capacity(answers.len());
        for (index, answer) in answers.into_iter().enumerate() {
            match answer {
                Ok((handle, _)) => handles.push(handle),
                Err(failure) => {
                    handles.extend(failure.handle.clone());
                    first.get_or_insert(failure.at(prepared.field, index).into_error());
                }
            }
        }
        // One has failed, or this would not have been reached.
        Err(first
            .unwrap_or_else(|| ApiError::internal("a batch that failed without a failure"))
            .of_jobs(handles))
    }

    /// Publishes what was prepared; the summaries come in order, each as soon as it and those before it are there.
    pub(crate) fn in_order(self, prepared: Prepared) -> impl Stream<Item = Result<String, ApiError>> + Send {
        let count = prepared.submissions.len().max(1);
        let field = prepared.field;
        let jobs = prepared.submissions.into_iter().enumerate();
        stream::iter(jobs)
            .map(move |(index, submission)| {
                let call = self.clone();
                async move {
                    match call.summary(&submission).await {
                        Ok((_, text)) => Ok(text),
                        Err(failure) => Err(failure.at(field, index).into_error()),
                    }
                }
            })
            .buffered(count)
    }

    async fn submission(
        &self,
        index: usize,
        item: Item,
        params: GenerationParams,
    ) -> Result<Submission, ApiError> {
        let id = self
            .repeat_key
            .as_ref()
            // The tenant is part of it: nobody waits for what another has asked for.
            .map(|key| derived_id(&format!("{}/{key}", self.caller.tenant()), index, &item.text));
        let mut request = submit::JobRequest::of_text(self.channel, item.text, params);
        request.body.reference = item.reference;
        request.body.model.clone_from(&self.model);
        request.body.metadata.clone_from(&self.metadata);
        let mut submission = submit::prepare(&self.state, &self.caller, request, &self.trace).await?;
        if let Some(id) = id {
            submission.job.id = id;
        }
        Ok(submission)
    }

    /// Publishes a job and waits for its summary.
    async fn summary(&self, submission: &Submission) -> Result<(String, String), Failure> {
        let state = &self.state;
        let unpublished = |refusal: Refusal| Failure {
            error: refusal.into(),
            handle: None,
        };
        // Before the publish: a fast worker may be done before its acknowledgement is here.
        let mut waiter = state.waiters().register(&submission.job.id);
        let known = match &self.repeat_key {
            Some(_) => state
                .queue()
                .result(&submission.job.id, ReadConsistency::Any)
                .await
                .map_err(unpublished)?,
            None => None,
        };
        let (handle, result) = match known {
            Some(result) => (view::handle_of(&result).to_string(), Some(result)),
            None => {
                let handle = submit::publish(state, submission).await.map_err(unpublished)?;
                (
                    handle.to_string(),
                    waiter.result(state.queue(), state.stop(), self.until).await,
                )
            }
        };
        let outcome = match result {
            Some(result) => text_of(result).map_err(ApiError::from),
            None => Err(ApiError::new(ErrorCode::WaitTimeout, self.too_late())),
        };
        match outcome {
            Ok(text) => Ok((handle, text)),
            Err(error) => Err(Failure {
                error,
                handle: Some(handle),
            }),
        }
    }

    fn too_late(&self) -> String {
        if self.state.stop().is_cancelled() {
            let job = match self.state.queue().is_durable() {
                true => "the job goes on",
                false => "the job ends with it",
            };
            format!("this server is about to stop; {job}")
        } else {
            let seconds = self.state.api().sync_wait_seconds;
            format!("the summary was not ready within {seconds} seconds; the job goes on")
        }
    }
}

/// The id of a job that is the same whenever the client sends the same call again.
fn derived_id(key: &str, index: usize, text: &str) -> JobId {
    let digest = Sha256::new()
        .chain_update(key)
        .chain_update([0])
        .chain_update(index.to_be_bytes())
        .chain_update(text)
        .finalize();
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    // 32 hex digits are an id.
    hex.parse().unwrap_or_else(|_| JobId::generate())
}

fn text_of(result: JobResult) -> Result<String, Refusal> {
    match (view::refusal_of(&result), result.summary) {
        (Some(refusal), _) => Err(refusal),
        (None, summary) => Ok(summary.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_call_makes_the_same_jobs_and_no_other_call_does() {
        let id = derived_id("call-1", 0, "Rain.");
        assert_eq!(derived_id("call-1", 0, "Rain."), id);
        for (key, index, text) in [
            ("call-2", 0, "Rain."),
            ("call-1", 1, "Rain."),
            ("call-1", 0, "Snow."),
        ] {
            assert_ne!(derived_id(key, index, text), id);
        }
    }
}
