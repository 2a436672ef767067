//! Synchronous calls: submit jobs, wait for them and return the summaries.

use std::collections::BTreeMap;

use futures::{Stream, StreamExt, stream};
use precis_producer::Submission;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::error_code::ErrorCode;
use precis_schemas::{Channel, GenerationParams, JobId, JobResult};
use sha2::{Digest, Sha256};
use tokio::time::{Duration, Instant};

use crate::access::Caller;
use crate::gateway::state::AppState;
use crate::http::problem::ApiError;
use crate::jobs::group::{self, GroupRefusal, JobGroup, SubmittedGroup, SubmittedJob};
use crate::jobs::submit::{self, JobRequest};
use crate::jobs::view;

/// A text to summarize.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Item {
    /// The text.
    pub(crate) text: String,
    /// The text's reference, if there is one.
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
pub(crate) struct SyncCall {
    state: AppState,
    caller: Caller,
    trace: TraceContext,
    channel: Channel,
    /// The call times out at this time.
    until: Instant,
    model: Option<String>,
    metadata: BTreeMap<String, String>,
    repeat_key: Option<String>,
}

impl SyncCall {
    /// Creates a call. It times out `api.sync_wait_seconds` from now.
    pub(crate) fn new(state: AppState, caller: Caller, trace: TraceContext, channel: Channel) -> Self {
        let timeout = Duration::from_secs(state.api().sync_wait_seconds);
        Self {
            until: Instant::now() + timeout,
            state,
            caller,
            trace,
            channel,
            model: None,
            metadata: BTreeMap::new(),
            repeat_key: None,
        }
    }

    /// Sets the model. `None` selects the default model.
    pub(crate) fn with_model(mut self, model: Option<String>) -> Self {
        self.model = model;
        self
    }

    /// Sets the metadata of every job.
    pub(crate) fn with_metadata(mut self, metadata: BTreeMap<String, String>) -> Self {
        self.metadata = metadata;
        self
    }

    /// Derives the job ids from `key`: a client that repeats the call under the same key waits for the first call's
    /// jobs.
    pub(crate) fn with_repeat_key(mut self, key: Option<String>) -> Self {
        self.repeat_key = key;
        self
    }

    /// Summarizes one text.
    ///
    /// # Errors
    /// If the text is invalid, the queue refuses the job, the job fails, or the call times out. An error after the
    /// submission names the job.
    pub(crate) async fn summarize(&self, item: Item, params: GenerationParams) -> Result<String, ApiError> {
        let request = self.request(0, item, params);
        let submission = submit::prepare(&self.state, &self.caller, request, &self.trace).await?;
        let group = self.submit(vec![submission]).await;
        match group.map_err(|refused| refused.refusal)?.into_jobs().pop() {
            Some(mut job) => self.summary_of(&mut job).await,
            None => Err(ApiError::internal("a submitted group lost its job")),
        }
    }

    /// Summarizes several texts. Returns the summaries in the order of the texts. `field` is the list's name in the
    /// request.
    ///
    /// # Errors
    /// As [`summarize`](Self::summarize). The error names the position of the text. If the queue refuses a text, the
    /// call fails at once and no job remains in the queue.
    pub(crate) async fn summarize_all(
        &self,
        field: &str,
        items: Vec<Item>,
        params: &GenerationParams,
    ) -> Result<Vec<String>, ApiError> {
        let mut group = self.submit_all(field, items, params).await?;
        let results = group.results(&self.state, self.until).await;
        let handles = group.handles();
        let mut summaries = Vec::with_capacity(results.len());
        for (index, (handle, result)) in handles.iter().zip(results).enumerate() {
            match self.summary_in(result) {
                Ok(summary) => summaries.push(summary),
                Err(error) => {
                    return Err(error
                        .at(&position(field, index))
                        .of_job(handle.to_string())
                        .of_jobs(handles.iter().map(ToString::to_string).collect()));
                }
            }
        }
        Ok(summaries)
    }

    /// Submits several texts and returns a stream of their summaries in order. Each comes as soon as it and those
    /// before it are ready.
    ///
    /// # Errors
    /// If a text is invalid or the queue refuses a job. Later errors are part of the stream.
    pub(crate) async fn stream(
        self,
        field: &'static str,
        items: Vec<Item>,
        params: GenerationParams,
    ) -> Result<impl Stream<Item = Result<String, ApiError>> + Send, ApiError> {
        let group = self.submit_all(field, items, &params).await?;
        let jobs = stream::iter(group.into_jobs().into_iter().enumerate());
        Ok(jobs.then(move |(index, mut job)| {
            let call = self.clone();
            async move {
                let summary = call.summary_of(&mut job).await;
                summary.map_err(|error| error.at(&position(field, index)))
            }
        }))
    }

    async fn submit_all(
        &self,
        field: &str,
        items: Vec<Item>,
        params: &GenerationParams,
    ) -> Result<SubmittedGroup, ApiError> {
        let (given, max) = (items.len(), self.state.limits().max_batch_texts);
        if given > max {
            return Err(ApiError::new(
                ErrorCode::InvalidParameter,
                format!("there are {given} texts in {field}; {max} are allowed in one call"),
            ));
        }
        let requests = items
            .into_iter()
            .enumerate()
            .map(|(index, item)| self.request(index, item, params.clone()));
        let submissions = group::prepare(&self.state, &self.caller, field, requests, &self.trace).await?;
        self.submit(submissions)
            .await
            .map_err(|refused| ApiError::from(refused.refusal).at(&position(field, refused.index)))
    }

    async fn submit(&self, submissions: Vec<Submission>) -> Result<SubmittedGroup, GroupRefusal> {
        let mut group = JobGroup::new(&self.state, submissions);
        if self.repeat_key.is_some() {
            group.find_results(&self.state).await?;
        }
        group.submit(&self.state).await
    }

    fn request(&self, index: usize, item: Item, params: GenerationParams) -> JobRequest {
        let id = self
            .repeat_key
            .as_ref()
            // Includes the tenant: a caller must not wait for another tenant's job.
            .map(|key| derived_id(&format!("{}/{key}", self.caller.tenant()), index, &item.text));
        let mut request = JobRequest::of_text(self.channel, item.text, params);
        request.id = id;
        request.body.reference = item.reference;
        request.body.model.clone_from(&self.model);
        request.body.metadata.clone_from(&self.metadata);
        request
    }

    /// Waits for a job and returns its summary.
    async fn summary_of(&self, job: &mut SubmittedJob) -> Result<String, ApiError> {
        let result = job.result(&self.state, self.until).await;
        self.summary_in(result)
            .map_err(|error| error.of_job(job.handle.to_string()))
    }

    /// Returns the summary in a result. `None` is a job that did not end in time.
    fn summary_in(&self, result: Option<JobResult>) -> Result<String, ApiError> {
        let Some(result) = result else {
            return Err(ApiError::new(ErrorCode::WaitTimeout, self.timeout_message()));
        };
        match view::refusal_of(&result) {
            Some(refusal) => Err(refusal.into()),
            None => Ok(result.summary.unwrap_or_default()),
        }
    }

    fn timeout_message(&self) -> String {
        if self.state.stop().is_cancelled() {
            let job = match self.state.queue().is_durable() {
                true => "the job continues",
                false => "the job ends with it",
            };
            format!("this server is shutting down; {job}")
        } else {
            let seconds = self.state.api().sync_wait_seconds;
            format!("the summary was not ready within {seconds} seconds; the job continues")
        }
    }
}

/// A position in a request's list, for error messages.
fn position(field: &str, index: usize) -> String {
    format!("{field}[{index}]")
}

/// The id of a job that a repeated call submits again.
fn derived_id(key: &str, index: usize, text: &str) -> JobId {
    let digest = Sha256::new()
        .chain_update(key)
        .chain_update([0])
        .chain_update(index.to_be_bytes())
        .chain_update(text)
        .finalize();
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    // 32 hexadecimal digits are a valid id.
    hex.parse().unwrap_or_else(|_| JobId::generate())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_call_derives_the_same_ids() {
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
