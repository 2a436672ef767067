//! `precis producer score`: scores the summaries in a file. It needs no server.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use precis_runtime::boot::{CommandError, RoleContext};
use serde_json::json;

use super::{EXIT_FAILED_JOBS, grouped};
use crate::files::{Added, FileError, RowWriter, Source, TableArgs, Task, suffixed, survey};
use crate::scores::{self, Figures, Scorer, Statistics};

const EXAMPLES: &str = "\
Examples:
  precis producer score news.summaries.csv
  precis producer score pairs.jsonl --column reference=gold --stemmed --json

The file needs a column `summary`, and `summ` or `reference`. The scores are the F-measures of ROUGE-1, ROUGE-2, ROUGE-L
and ROUGE-Lsum (0 to 1), and BLEU (0 to 100), as the service computes them. The file of results has them for each row. The
table shows their means with 95 % intervals: percentile bootstrap up to 10,000 rows, the normal approximation above.

Exit code: 0 if every row has scores, 3 if some have none, 1 if the file can't be scored.";

/// Arguments of `score`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct ScoreArgs {
    /// CSV, TSV, JSON Lines, JSON or Parquet file
    file: PathBuf,
    /// File for the rows with their scores [default: <name>.scores.<extension> beside the file]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the results of an earlier run
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    table: TableArgs,
    /// Compare word stems instead of words, as in `rouge-score` with `use_stemmer`
    #[arg(long)]
    stemmed: bool,
    /// Print the means as JSON
    #[arg(long)]
    json: bool,
}

/// What became of the rows.
#[derive(Debug, Default)]
struct Scored {
    rows: u64,
    failed: u64,
    statistics: Statistics,
}

/// Rows without scores to print.
const MAX_PRINTED: u64 = 10;

fn score(source: &Source, output: &std::path::Path, stemmed: bool) -> Result<Scored, FileError> {
    let survey = survey(source)?;
    let mut columns = Figures::NAMES.to_vec();
    columns.push("error");
    let mut writer = RowWriter::create(output, source, &survey, &columns)?;
    let scorer = Scorer::new(stemmed);
    let mut scored = Scored::default();
    for row in source.open()? {
        let row = row?;
        scored.rows += 1;
        let figures = match &row.texts {
            Ok(texts) => match (&texts.reference, &texts.summary) {
                (Some(reference), Some(summary)) => scorer.score(reference, summary),
                (None, _) => Err("the row has no reference".to_owned()),
                (_, None) => Err("the row has no summary".to_owned()),
            },
            Err(refusal) => Err(refusal.message.clone()),
        };
        let mut added: Vec<Added<'_>> = match &figures {
            Ok(figures) => figures.values().map(Added::Number).to_vec(),
            Err(_) => vec![Added::Missing; Figures::NAMES.len()],
        };
        match &figures {
            Ok(figures) => {
                scored.statistics.add(figures);
                added.push(Added::Missing);
            }
            Err(error) => {
                scored.failed += 1;
                if scored.failed <= MAX_PRINTED {
                    eprintln!("line {}: {error}", row.line);
                }
                added.push(Added::Text(error));
            }
        }
        writer.write(&row, &added)?;
    }
    writer.finish()?;
    Ok(scored)
}

/// Scores the rows of a file.
///
/// # Errors
/// If the file can't be read or written, or a row has no scores.
pub(super) async fn run(context: &RoleContext, args: &ScoreArgs) -> anyhow::Result<()> {
    let source = Source::new(
        &args.file,
        &args.table,
        Task::Score,
        context.config.limits.max_row_bytes(),
    )?;
    let output = args
        .output
        .clone()
        .unwrap_or_else(|| suffixed(&args.file, "scores"));
    anyhow::ensure!(
        output != args.file,
        "the results can't replace the file itself: choose another --output"
    );
    anyhow::ensure!(
        args.overwrite || !output.exists(),
        "{} exists already: choose another name with --output, or replace it with --overwrite",
        output.display()
    );
    let scored = {
        let (output, stemmed) = (output.clone(), args.stemmed);
        tokio::task::spawn_blocking(move || score(&source, &output, stemmed))
            .await
            .context("scoring")??
    };
    let means = scored.statistics.means();
    let mut out = std::io::stdout();
    if args.json {
        let report = json!({
            "output": output.display().to_string(),
            "rows": scored.rows,
            "scored": scored.statistics.count(),
            "stemmed": args.stemmed,
            "scores": scores::object(&means),
        });
        writeln!(out, "{report}")?;
    } else {
        let count = grouped(scored.statistics.count());
        writeln!(out, "Scores of {count} summaries:\n{}", scores::table(&means))?;
        writeln!(out, "Results: {}", output.display())?;
    }
    match scored.failed {
        0 => Ok(()),
        failed => Err(CommandError::new(
            EXIT_FAILED_JOBS,
            format!(
                "{} of {} rows have no scores; the column `error` of {} says why",
                grouped(failed),
                grouped(scored.rows),
                output.display()
            ),
        )
        .into()),
    }
}
