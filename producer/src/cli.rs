//! The command line `precis-producer`: publishes texts and shows the queue.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};
use precis_runtime::backoff::Backoff;
use precis_runtime::boot::{RoleContext, RunArgs};
use precis_runtime::topology;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::topology::{DEAD, JOBS, RESULTS};
use precis_schemas::{Channel, GenerationParams, Job, JobId, JobSubject, Lane, Task, Token};

use crate::{Producer, Results, Submission};

/// Publishes texts to the queue of Precis
#[derive(Debug, Parser)]
#[command(name = "precis-producer", version)]
pub struct Cli {
    /// Arguments of every role.
    #[command(flatten)]
    pub run: RunArgs,
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Publish one job per file; - is standard input
    Publish(PublishArgs),
    /// Show the number and size of queued messages
    Queue,
}

/// Arguments of `publish`.
#[derive(Debug, Clone, clap::Args)]
pub struct PublishArgs {
    /// Files with one text each; - for standard input
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Name under which the model is served
    #[arg(long, default_value = "default")]
    pub model: String,
    /// high, normal or bulk
    #[arg(long, default_value = "normal")]
    pub lane: Lane,
    /// Tenant of the jobs
    #[arg(long, default_value = "public")]
    pub tenant: String,
    /// Wait this many seconds for the summaries and print them
    #[arg(long, value_name = "SECONDS")]
    pub wait: Option<u64>,
}

/// Runs the command line.
///
/// # Errors
/// If the queue is unreachable or rejects a job, or a file can't be read.
pub async fn run(context: RoleContext, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Publish(args) => publish(&context, &args).await,
        Command::Queue => queue(&context).await,
    }
}

fn read(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin()
            .read_to_string(&mut text)
            .context("standard input")?;
    } else {
        text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    }
    Ok(text)
}

async fn publish(context: &RoleContext, args: &PublishArgs) -> anyhow::Result<()> {
    let subject = JobSubject {
        model: Token::new("--model", &args.model)?,
        lane: args.lane,
        task: Task::Summarize,
        tenant: Token::new("--tenant", &args.tenant)?,
    };
    let queue = context.connect("precis-producer").await?;
    let producer = Producer::new(queue.jetstream.clone());
    let results = Results::open(&queue.jetstream).await?;
    let mut out = std::io::stdout();
    let mut published = Vec::new();
    for file in &args.files {
        let job = Job {
            id: JobId::generate(),
            text: read(file)?,
            reference: None,
            summary: None,
            stemmed: false,
            batch: None,
            params: GenerationParams::default(),
            deadline: None,
            channel: Channel::Batch,
            metadata: Default::default(),
            send_to_arize: None,
            callback: None,
        };
        job.validate(subject.task, &context.config.limits.job())
            .with_context(|| file.display().to_string())?;
        let id = job.id.clone();
        let subject = subject.clone();
        let submission = Submission {
            subject,
            job,
            trace: TraceContext::begin(),
        };
        let accepted = producer.publish(&submission).await?;
        if args.wait.is_none() {
            writeln!(out, "{}\t{}", accepted.handle, file.display())?;
        }
        published.push(id);
    }
    // Publish all jobs before waiting, so that they share decoding batches.
    if let Some(seconds) = args.wait {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(seconds);
        for id in &published {
            let summary = tokio::time::timeout_at(deadline, wait(&results, id)).await;
            writeln!(
                out,
                "{}",
                summary.with_context(|| format!("job {id} has not ended yet"))??
            )?;
        }
    }
    Ok(())
}

async fn wait(results: &Results, id: &JobId) -> anyhow::Result<String> {
    let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(250));
    loop {
        if let Some(stored) = results.get(id).await? {
            return match (stored.result.summary, stored.result.error) {
                (Some(summary), _) => Ok(summary),
                (None, Some(error)) => bail!(error),
                (None, None) => bail!("job {id} ended {} without a summary", stored.result.outcome),
            };
        }
        backoff.sleep().await;
    }
}

async fn queue(context: &RoleContext) -> anyhow::Result<()> {
    let queue = context.connect("precis-producer").await?;
    let mut out = std::io::stdout();
    for name in [JOBS, RESULTS, DEAD] {
        let stream = topology::stream(&queue.jetstream, name).await?;
        let state = &stream.cached_info().state;
        writeln!(
            out,
            "{name:8} {:>8} messages {:>12} bytes",
            state.messages, state.bytes
        )?;
    }
    Ok(())
}
