//! `precis producer batch`: summarizes the rows of a file.
//!
//! The rows become jobs with the ids `<batch>-<row>`. Their outcomes go to a journal in the order of the rows, and when
//! all are there, the journal and the file become the results. A run that was stopped in any way goes on from its
//! journal: the outcomes in it are done, and a job that was published is waited for and not published again.
//!
//! | file | purpose |
//! | --- | --- |
//! | `journal.rs` | what is already done |
//! | `window.rs` | the rows between the first that is not done and the last that was read |
//! | `pipeline.rs` | publishes rows and collects their results |
//! | `progress.rs` | shows how far it is |
//! | `results.rs` | writes the results |

mod journal;
mod pipeline;
mod progress;
mod results;
mod window;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use precis_runtime::boot::{CommandError, RoleContext};
use precis_runtime::trace_context::TraceContext;
use precis_schemas::{JobId, JobSubject, Lane};

use self::journal::{Journal, JournalHead};
use self::pipeline::{Pipeline, PipelineOutcome};
use self::progress::Progress;
use crate::cli::job::JobArgs;
use crate::cli::{EXIT_FAILED_JOBS, grouped};
use crate::files::{FileError, RowWriter, Source, TableArgs, Task, extended, suffixed, survey};
use crate::{Producer, Results};

const EXAMPLES: &str = "\
Examples:
  precis producer batch news.csv
  precis producer batch news.csv --column article=body --output summaries.jsonl
  precis producer batch from-excel.csv --delimiter ';' --encoding windows-1252
  precis producer batch news.jsonl --param num_beams=4 --lane normal

The file needs a column `article` or `text`. With `summ` or `reference`, summaries are scored. The columns `id`, `title`
and `url` go along with the jobs. The results have all columns of the file and `summary`, `status` and `error`, in the
order of the file. Run the same command again after it was stopped: it goes on where it was.

Exit code: 0 if every row has a summary, 3 if some rows have none, 1 if the batch can't be run, 130 if it was stopped.";

/// Arguments of `batch`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct BatchArgs {
    /// CSV, TSV, JSON Lines, JSON or Parquet file
    pub(crate) file: PathBuf,
    /// File for the results; its extension says the format [default: <name>.summaries.<extension> beside the file]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Start over although there are results, or a run that was stopped
    #[arg(long)]
    pub(crate) overwrite: bool,
    #[command(flatten)]
    pub(crate) table: TableArgs,
    #[command(flatten)]
    pub(crate) job: JobArgs,
    /// Priority: high, normal or bulk
    #[arg(long, default_value = "bulk")]
    pub(crate) lane: Lane,
    /// Seconds after which a row that has waited in the queue expires [default: batches.default_ttl_seconds]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) ttl: Option<u64>,
    /// Most jobs of the batch in the queue at a time
    #[arg(long, value_name = "JOBS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) in_flight: u64,
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Show no progress
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// Runs blocking work where it doesn't hold up the connection.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> anyhow::Result<T> {
    Ok(tokio::task::spawn_blocking(work)
        .await
        .context("reading the file")??)
}

/// Where a batch reads and writes.
#[derive(Debug, Clone)]
struct Paths {
    output: PathBuf,
    journal: PathBuf,
}

impl Paths {
    fn new(args: &BatchArgs) -> anyhow::Result<Self> {
        let output = args
            .output
            .clone()
            .unwrap_or_else(|| suffixed(&args.file, "summaries"));
        let journal = extended(&output, "journal");
        anyhow::ensure!(
            output != args.file,
            "the results can't replace the file itself: choose another --output"
        );
        Ok(Self { output, journal })
    }

    /// Refuses to overwrite results, unless that is asked for.
    fn prepare(&self, overwrite: bool) -> anyhow::Result<()> {
        if overwrite {
            for path in [&self.output, &self.journal] {
                match std::fs::remove_file(path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(FileError::io(path)(error).into());
                    }
                    _ => {}
                }
            }
        }
        anyhow::ensure!(
            !self.output.exists() || self.journal.exists(),
            "{} exists already: choose another name with --output, or replace it with --overwrite",
            self.output.display()
        );
        Ok(())
    }
}

/// Summarizes the rows of a file.
///
/// # Errors
/// If the file can't be read, the queue can't be reached, a signal stops the command, or a row has no summary.
pub(crate) async fn run(context: RoleContext, args: BatchArgs) -> anyhow::Result<()> {
    let limits = &context.config.limits;
    let source = Source::new(&args.file, &args.table, Task::Summarize, limits.max_row_bytes())?;
    let paths = Paths::new(&args)?;
    RowWriter::format(&paths.output, &source)?;
    let subject: JobSubject = args.job.subject(args.lane, precis_schemas::Task::Summarize)?;
    let params = args.job.params()?;
    paths.prepare(args.overwrite)?;
    let surveyed = {
        let source = source.clone();
        blocking(move || survey(&source))
    };
    let survey = tokio::select! {
        surveyed = surveyed => surveyed?,
        () = context.stop.cancelled() => return Err(CommandError::interrupted().into()),
    };
    let head = JournalHead {
        version: journal::VERSION,
        batch: JobId::generate(),
        file: args
            .file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        digest: survey.digest.clone(),
        rows: survey.rows,
        subject: subject.to_string(),
        params: params.clone(),
    };
    let (mut journal, resumed) = Journal::open(&paths.journal, &head)?;
    let batch = journal.batch().clone();
    let progress = Progress::start(survey.rows, resumed.done, resumed.failed, args.quiet);
    if resumed.done > 0 {
        progress.print(&format!(
            "{} of {} rows are already done: going on after them",
            grouped(resumed.done),
            grouped(survey.rows)
        ));
    }
    if resumed.done < survey.rows {
        let queue = context.connect("precis-producer").await?;
        let ttl = Duration::from_secs(args.ttl.unwrap_or(context.config.batches.default_ttl_seconds));
        let pipeline = Pipeline {
            producer: Producer::new(queue.jetstream.clone()),
            results: Results::open(&queue.jetstream).await?,
            subject,
            params,
            limits: limits.job(),
            batch: batch.clone(),
            rows: survey.rows,
            ttl,
            trace: TraceContext::begin(),
            in_flight: usize::try_from(args.in_flight).unwrap_or(usize::MAX),
            stop: context.stop.clone(),
        };
        let outcome = Box::pin(pipeline.run(&source, &mut journal, resumed, &progress)).await;
        journal.sync()?;
        progress.end();
        match outcome? {
            PipelineOutcome::Complete => {}
            PipelineOutcome::Interrupted { done } => {
                return Err(interrupted(done, survey.rows, &paths.journal).into());
            }
        }
    }
    progress.end();
    let report = {
        let paths = paths.clone();
        blocking(move || results::write(&source, &survey, &paths.journal, &paths.output)).await?
    };
    drop(journal);
    std::fs::remove_file(&paths.journal).map_err(FileError::io(&paths.journal))?;
    report.print(&batch, &paths.output, args.json)?;
    match report.without_summary() {
        0 => Ok(()),
        count => Err(CommandError::new(
            EXIT_FAILED_JOBS,
            format!(
                "{} of {} rows have no summary; the columns `status` and `error` of {} say why",
                grouped(count),
                grouped(report.rows()),
                paths.output.display()
            ),
        )
        .into()),
    }
}

fn interrupted(done: u64, rows: u64, journal: &Path) -> CommandError {
    CommandError {
        message: format!(
            "stopped after {} of {} rows, which are kept in {}; run the same command again to go on",
            grouped(done),
            grouped(rows),
            journal.display()
        ),
        ..CommandError::interrupted()
    }
}
