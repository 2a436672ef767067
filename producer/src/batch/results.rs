//! Writes the results of a batch from its file and its journal.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use precis_schemas::{JobId, Outcome};
use serde_json::json;

use super::journal;
use crate::cli::grouped;
use crate::files::{Added, FileError, RowWriter, Source, Survey};
use crate::scores::{self, Figures, Statistics};

/// Columns of every result.
const COLUMNS: [&str; 3] = ["summary", "status", "error"];

/// How the rows of a batch ended.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Rows by their end.
    counts: BTreeMap<&'static str, u64>,
    scores: Statistics,
}

impl Report {
    /// Returns the number of rows.
    pub(super) fn rows(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Returns the number of rows that have no summary.
    pub(super) fn without_summary(&self) -> u64 {
        self.rows()
            - self
                .counts
                .get(Outcome::Succeeded.as_str())
                .copied()
                .unwrap_or_default()
    }

    /// Prints the report.
    ///
    /// # Errors
    /// If standard output is closed.
    pub(super) fn print(&self, batch: &JobId, output: &Path, as_json: bool) -> anyhow::Result<()> {
        let mut out = std::io::stdout();
        let means = self.scores.means();
        if as_json {
            let report = json!({
                "batch": batch,
                "output": output.display().to_string(),
                "rows": self.rows(),
                "outcomes": self.counts,
                "scored": self.scores.count(),
                "scores": scores::object(&means),
            });
            writeln!(out, "{report}")?;
            return Ok(());
        }
        let counts: Vec<String> = self
            .counts
            .iter()
            .map(|(outcome, count)| format!("{} {outcome}", grouped(*count)))
            .collect();
        writeln!(out, "{} rows: {}", grouped(self.rows()), counts.join(", "))?;
        if !means.is_empty() {
            write!(
                out,
                "\nScores of {} summaries:\n{}\n",
                grouped(self.scores.count()),
                scores::table(&means)
            )?;
        }
        writeln!(out, "Results: {}", output.display())?;
        Ok(())
    }
}

/// Writes the results.
///
/// # Errors
/// If a file can't be read or written, or the file has changed since its rows were read.
pub(super) fn write(
    source: &Source,
    survey: &Survey,
    journal: &Path,
    output: &Path,
) -> Result<Report, FileError> {
    let mut columns = COLUMNS.to_vec();
    if survey.has_references {
        columns.extend(Figures::NAMES);
    }
    let mut writer = RowWriter::create(output, source, survey, &columns)?;
    let mut report = Report::default();
    let mut outcomes = journal::outcomes(journal)?;
    for row in source.open()? {
        let row = row?;
        let changed = || FileError::refused(&source.path, "the file has changed while the batch ran");
        let outcome = outcomes.next().ok_or_else(changed)??;
        if outcome.line != row.line {
            return Err(changed());
        }
        *report.counts.entry(outcome.status.as_str()).or_default() += 1;
        let mut added = vec![
            outcome.summary.as_deref().map_or(Added::Missing, Added::Text),
            Added::Text(outcome.status.as_str()),
            outcome.error.as_deref().map_or(Added::Missing, Added::Text),
        ];
        if survey.has_references {
            match &outcome.scores {
                Some(figures) => added.extend(figures.values().map(Added::Number)),
                None => added.extend([Added::Missing; 5]),
            }
        }
        if let Some(figures) = &outcome.scores {
            report.scores.add(figures);
        }
        writer.write(&row, &added)?;
    }
    if outcomes.next().is_some() {
        return Err(FileError::refused(
            &source.path,
            "the file has changed while the batch ran",
        ));
    }
    writer.finish()?;
    Ok(report)
}
