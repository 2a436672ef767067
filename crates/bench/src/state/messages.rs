//! The messages of the benchmark, and operations on one message.

use anyhow::{Context as _, ensure};
use async_nats::HeaderMap;
use async_nats::jetstream::{self, context::PublishAckFuture};
use bytes::Bytes;
use precis_schemas::subject::{self, JobSubject};
use precis_schemas::topology::{JOBS, RESULTS};
use precis_schemas::{JobId, Lane, Task, Token, headers};

/// Messages of equal size whose subjects differ as those of real jobs do.
pub(super) struct Messages {
    jetstream: jetstream::Context,
    body: Bytes,
    tenants: Vec<Token>,
    model: Token,
}

impl Messages {
    pub(super) fn new(jetstream: jetstream::Context, bytes: usize, tenants: u64) -> anyhow::Result<Self> {
        ensure!(tenants > 0, "--tenants must be at least 1");
        let tenants = (0..tenants).map(|number| Token::new("the tenant", &format!("tenant-{number}")));
        Ok(Self {
            jetstream,
            body: vec![b'x'; bytes].into(),
            tenants: tenants.collect::<Result<_, _>>()?,
            model: Token::new("the model", "bench")?,
        })
    }

    /// Returns the subject of the job with this number: tenants and lanes take turns.
    pub(super) fn job_subject(&self, number: u64) -> String {
        let of = |count: usize| (number % count as u64) as usize;
        let subject = JobSubject {
            model: self.model.clone(),
            lane: Lane::ALL[of(Lane::ALL.len())],
            task: Task::Summarize,
            tenant: self.tenants[of(self.tenants.len())].clone(),
        };
        subject.to_string()
    }

    /// Returns the subject of the result with this number. Ids are as long as generated ones.
    fn result_subject(number: u64) -> anyhow::Result<String> {
        let id: JobId = format!("{number:032x}").parse()?;
        Ok(subject::result_of(&id))
    }

    pub(super) async fn publish_job(&self, number: u64) -> anyhow::Result<()> {
        let mut headers = HeaderMap::new();
        headers.insert(headers::MESSAGE_ID, format!("{number:032x}"));
        let sent = self
            .jetstream
            .publish_with_headers(self.job_subject(number), headers, self.body.clone());
        acknowledged(sent.await?).await
    }

    /// Publishes a result as a worker does: only the first of a job is stored.
    pub(super) async fn publish_result(&self, number: u64) -> anyhow::Result<()> {
        let mut headers = HeaderMap::new();
        headers.insert(headers::EXPECTED_LAST_SUBJECT_SEQUENCE, "0");
        let subject = Self::result_subject(number)?;
        let sent = self
            .jetstream
            .publish_with_headers(subject, headers, self.body.clone());
        acknowledged(sent.await?).await
    }

    /// Reads the job with this sequence, as a gateway does for a job without a result.
    pub(super) async fn read_job(&self, sequence: u64) -> anyhow::Result<()> {
        let stream = self.jetstream.get_stream_no_info(JOBS).await?;
        stream
            .direct_get(sequence)
            .await
            .map(drop)
            .context("reading a job")
    }

    /// Reads the result with this number, as a gateway does when a client polls.
    pub(super) async fn read_result(&self, number: u64) -> anyhow::Result<()> {
        let stream = self.jetstream.get_stream_no_info(RESULTS).await?;
        let subject = Self::result_subject(number)?;
        stream
            .direct_get_last_for_subject(subject)
            .await
            .map(drop)
            .context("reading a result")
    }
}

async fn acknowledged(sent: PublishAckFuture) -> anyhow::Result<()> {
    let ack = sent.await?;
    ensure!(!ack.duplicate, "the server took a message for a duplicate");
    Ok(())
}
