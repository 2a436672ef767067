//! `precis producer publish`: a job for each text.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::StreamExt;
use jiff::SignedDuration;
use precis_runtime::boot::{CommandError, RoleContext};
use precis_runtime::clock;
use precis_runtime::results::{MAX_AT_ONCE, ResultError};
use precis_runtime::trace_context::TraceContext;
use precis_schemas::{Channel, Job, JobHandle, JobId, JobResult, Lane, Outcome, Task};
use serde_json::json;
use tokio::time::Instant;

use super::job::JobArgs;
use super::{EXIT_FAILED_JOBS, EXIT_NOT_ENDED};
use crate::polling::{ResultPoller, ended};
use crate::{Producer, Results, Submission};

/// Jobs to publish at once.
const MAX_PUBLISHING: usize = 64;

const EXAMPLES: &str = "\
Examples:
  precis producer publish article.txt --wait
  precis producer publish 'The harbour bridge will close for repairs on Monday, the city said.' --wait
  pdftotext report.pdf - | precis producer publish - --wait=300 --param num_beams=8
  precis producer publish articles/*.txt --lane bulk --json

Without --wait, it prints the handle of each job; GET /v1/jobs/HANDLE then returns its result.

Exit code: 0 if every job was accepted and, with --wait, has a summary; 3 if a text was refused or a job has no summary;
4 if a job has not ended in time; 1 if the queue can't be reached.";

/// Arguments of `publish`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct PublishArgs {
    /// Files with one text each, texts of several words, or - for standard input
    #[arg(required = true, value_name = "TEXT|FILE|-")]
    texts: Vec<String>,
    #[command(flatten)]
    job: JobArgs,
    /// Priority: high, normal or bulk
    #[arg(long, default_value = "normal")]
    lane: Lane,
    /// Seconds after which a job that has waited in the queue expires [default: none]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    ttl: Option<u64>,
    /// Wait for the summaries and print them, for a minute or the given number of seconds
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "60"
    )]
    wait: Option<u64>,
    /// Print summaries in the order of the texts instead of as they arrive
    #[arg(long, requires = "wait")]
    in_order: bool,
    /// Print a JSON object per job
    #[arg(long)]
    json: bool,
}

/// A text to summarize.
struct Input {
    /// What the command line calls it.
    name: String,
    text: anyhow::Result<String>,
}

/// Characters of a text in its name.
const NAME_CHARS: usize = 40;

fn read_bytes(bytes: Vec<u8>, name: &str) -> anyhow::Result<String> {
    String::from_utf8(bytes).with_context(|| format!("{name} is not UTF-8 text"))
}

/// Reads an argument: standard input, a file, or the text itself if it can't be the name of a file.
fn read(argument: &str) -> Input {
    if argument == "-" {
        let mut bytes = Vec::new();
        let read = std::io::stdin().read_to_end(&mut bytes);
        return Input {
            name: "standard input".to_owned(),
            text: read
                .context("standard input")
                .and_then(|_| read_bytes(bytes, "standard input")),
        };
    }
    let path = Path::new(argument);
    if path.exists() || !argument.trim().contains(char::is_whitespace) {
        return Input {
            name: argument.to_owned(),
            text: read_file(path, argument),
        };
    }
    let shortened: String = argument.chars().take(NAME_CHARS).collect();
    Input {
        name: match shortened.len() < argument.len() {
            true => format!("{}…", shortened.trim_end()),
            false => shortened,
        },
        text: Ok(argument.to_owned()),
    }
}

fn read_file(path: &Path, argument: &str) -> anyhow::Result<String> {
    anyhow::ensure!(!argument.trim().is_empty(), "a text is empty");
    match std::fs::read(path) {
        Ok(bytes) => read_bytes(bytes, argument),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let advice = match argument.parse::<u64>() {
                Ok(_) => format!("; if it is the time to wait, write --wait={argument}"),
                Err(_) => "; to summarize these words themselves, pipe them into `precis producer publish -`"
                    .to_owned(),
            };
            bail!("there is no file {argument}{advice}")
        }
        Err(error) => Err(error).with_context(|| argument.to_owned()),
    }
}

/// Publishes the texts, and waits for their summaries.
///
/// # Errors
/// If an option is wrong, the queue can't be reached, or a text has no job or no summary.
pub(super) async fn run(context: &RoleContext, args: &PublishArgs) -> anyhow::Result<()> {
    let subject = args.job.subject(args.lane, Task::Summarize)?;
    let params = args.job.params()?;
    let arguments = args.texts.clone();
    // Standard input may stay open forever, so it is read where it can be abandoned.
    let reading =
        tokio::task::spawn_blocking(move || arguments.iter().map(|text| read(text)).collect::<Vec<_>>());
    let inputs = reading.await?;
    let limits = context.config.limits.job();
    let deadline = args.ttl.and_then(|ttl| {
        let ttl = SignedDuration::from_secs(i64::try_from(ttl).ok()?);
        clock::now().checked_add(ttl).ok()
    });
    let mut refused = 0;
    let mut jobs = Vec::new();
    for input in inputs {
        let job = input.text.and_then(|text| {
            let job = Job {
                id: JobId::generate(),
                text,
                reference: None,
                summary: None,
                stemmed: false,
                batch: None,
                params: params.clone(),
                deadline,
                channel: Channel::Batch,
                metadata: Default::default(),
                send_to_arize: None,
                callback: None,
            };
            job.validate(Task::Summarize, &limits)
                .with_context(|| input.name.clone())?;
            Ok(job)
        });
        match job {
            Ok(job) => jobs.push((input.name, job)),
            // The other texts are as good as without it.
            Err(error) => {
                refused += 1;
                eprintln!("error: {error:#}");
            }
        }
    }
    let count = refused + jobs.len();
    let mut failed = 0;
    if !jobs.is_empty() {
        let queue = context.connect("precis-producer").await?;
        let producer = Producer::new(queue.jetstream.clone());
        let results = Results::open(&queue.jetstream).await?;
        let published = futures::stream::iter(jobs)
            .map(|(name, job)| {
                let submission = Submission {
                    subject: subject.clone(),
                    job,
                    trace: TraceContext::begin(),
                };
                let producer = &producer;
                async move {
                    let accepted = producer.publish(&submission).await;
                    let accepted = accepted.with_context(|| name.clone())?;
                    anyhow::Ok((name, accepted.handle))
                }
            })
            .buffered(MAX_PUBLISHING);
        let mut published = std::pin::pin!(published);
        let mut accepted = Vec::new();
        while let Some(published) = published.next().await {
            let (name, handle) = published?;
            if args.wait.is_none() {
                print_handle(&name, &handle, args.json)?;
            }
            accepted.push((name, handle));
        }
        if let Some(seconds) = args.wait {
            let printer = Printer {
                names: count > 1,
                json: args.json,
            };
            failed = wait(
                results,
                accepted,
                Duration::from_secs(seconds),
                args.in_order,
                &printer,
            )
            .await?;
        }
    }
    match failed + refused {
        0 => Ok(()),
        without => {
            let message = match (count, args.wait) {
                (1, None) => "the text was refused".to_owned(),
                (1, Some(_)) => "there is no summary".to_owned(),
                (_, None) => format!("{without} of {count} texts were refused"),
                (_, Some(_)) => format!("{without} of {count} texts have no summary"),
            };
            Err(CommandError::new(EXIT_FAILED_JOBS, message).into())
        }
    }
}

fn print_handle(name: &str, handle: &JobHandle, as_json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    match as_json {
        true => writeln!(out, "{}", json!({"text": name, "id": handle.to_string()})),
        false => writeln!(out, "{handle}\t{name}"),
    }
}

/// Prints results.
struct Printer {
    /// Whether to print the names of the texts.
    names: bool,
    json: bool,
}

impl Printer {
    /// Prints a result. Returns whether it has a summary.
    fn print(
        &self,
        name: &str,
        handle: &JobHandle,
        result: Result<JobResult, String>,
    ) -> std::io::Result<bool> {
        let mut out = std::io::stdout();
        let (outcome, summary, error) = ended(result);
        if self.json {
            let line = json!({
                "text": name,
                "id": handle.to_string(),
                "status": outcome,
                "summary": summary,
                "error": error,
            });
            writeln!(out, "{line}")?;
            return Ok(outcome == Outcome::Succeeded);
        }
        match (summary, error) {
            (Some(summary), _) if self.names => {
                writeln!(out, "{name}\t{}", summary.replace(['\t', '\n', '\r'], " "))?;
            }
            (Some(summary), _) => writeln!(out, "{summary}")?,
            (None, error) => eprintln!("error: {name}: {}", error.unwrap_or_default()),
        }
        Ok(outcome == Outcome::Succeeded)
    }
}

/// Waits for results and prints them. Returns the number of jobs without a summary.
///
/// # Errors
/// If the results can't be read, or some have not ended in time.
async fn wait(
    results: Results,
    accepted: Vec<(String, JobHandle)>,
    patience: Duration,
    in_order: bool,
    printer: &Printer,
) -> anyhow::Result<usize> {
    let deadline = Instant::now() + patience;
    let mut waiting = accepted;
    let mut ready: HashMap<JobId, Result<JobResult, String>> = HashMap::new();
    let mut poller = ResultPoller::new(results);
    let mut failed = 0;
    let mut trouble = None;
    while !waiting.is_empty() {
        let unknown = waiting
            .iter()
            .filter(|(_, handle)| !ready.contains_key(&handle.id));
        let ids: Vec<JobId> = unknown
            .map(|(_, handle)| handle.id.clone())
            .take(MAX_AT_ONCE)
            .collect();
        let Ok(answer) = tokio::time::timeout_at(deadline, poller.poll(ids)).await else {
            return Err(not_ended(&waiting, patience, trouble).into());
        };
        poller.polled(&answer);
        match answer {
            Ok(found) => ready.extend(found),
            // The connection may come back in time.
            Err(error) => trouble = Some(error),
        }
        let mut rest = Vec::new();
        for (name, handle) in waiting {
            let is_next = !in_order || rest.is_empty();
            match ready.remove(&handle.id) {
                Some(result) if is_next => failed += usize::from(!printer.print(&name, &handle, result)?),
                Some(result) => {
                    ready.insert(handle.id.clone(), result);
                    rest.push((name, handle));
                }
                None => rest.push((name, handle)),
            }
        }
        waiting = rest;
    }
    Ok(failed)
}

fn not_ended(
    waiting: &[(String, JobHandle)],
    patience: Duration,
    trouble: Option<ResultError>,
) -> CommandError {
    const MAX_SHOWN: usize = 5;
    let shown: Vec<String> = waiting
        .iter()
        .take(MAX_SHOWN)
        .map(|(_, handle)| handle.to_string())
        .collect();
    let more = match waiting.len() > MAX_SHOWN {
        true => ", …",
        false => "",
    };
    let trouble = trouble.map(|error| format!(" ({error})")).unwrap_or_default();
    CommandError::new(
        EXIT_NOT_ENDED,
        format!(
            "no summary after {} s of {} (jobs {}{more}); they stay in the queue: wait longer with --wait=SECONDS, and see \
             `precis status` for workers{trouble}",
            patience.as_secs(),
            match waiting.len() {
                1 => "a text".to_owned(),
                count => format!("{count} texts"),
            },
            shown.join(", "),
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_is_a_file_unless_it_can_only_be_a_text() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("with spaces.txt");
        std::fs::write(&file, "Rain fell.").unwrap();
        assert_eq!(read(file.to_str().unwrap()).text.unwrap(), "Rain fell.");
        let text = "Rain fell on the harbour all day, and the ferries stayed in port.";
        let input = read(text);
        assert_eq!(
            (input.text.unwrap().as_str(), input.name.as_str()),
            (text, "Rain fell on the harbour all day, and th…")
        );
        for (argument, part) in [
            ("", "a text is empty"),
            ("artcle.txt", "no file artcle.txt"),
            ("30", "--wait=30"),
        ] {
            let error = read(argument).text.unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let binary = dir.path().join("binary");
        std::fs::write(&binary, b"\xff\xfe").unwrap();
        let error = read(binary.to_str().unwrap()).text.unwrap_err().to_string();
        assert!(error.contains("not UTF-8"), "{error}");
    }
}
