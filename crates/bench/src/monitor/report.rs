//! The tables of `precis bench monitor`.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::queries::QueryFigures;
use super::storage::{BytesPerRow, Codecs};
use crate::stats::median;

/// Rows per second in one round.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Round {
    /// Results from the stream, through the monitor.
    pub(super) monitored: f64,
    /// Finished rows, in a plain insert loop.
    pub(super) plain: f64,
    /// Results in memory, in a plain loop that parses, scores and inserts them.
    pub(super) scoring: f64,
}

/// All measurements.
#[derive(Debug, Default)]
pub(super) struct Report {
    rounds: Vec<Round>,
    /// Predictions that the named queries ran on.
    pub(super) rows: u64,
    /// Seconds until the rollups were complete.
    pub(super) rollup_seconds: f64,
    /// Seconds from the monitor's start until it had computed drift.
    pub(super) drift_seconds: Option<f64>,
    pub(super) queries: BTreeMap<&'static str, BTreeMap<&'static str, QueryFigures>>,
    pub(super) storage: BTreeMap<&'static str, BytesPerRow>,
    pub(super) codecs: Codecs,
}

/// Medians over the rounds, and the other measurements.
#[derive(Debug, Serialize)]
pub(super) struct Summary<'a> {
    rounds: &'a [Round],
    monitored_rows_per_second: f64,
    plain_rows_per_second: f64,
    scoring_rows_per_second: f64,
    /// The monitor's throughput relative to the plain insert loop.
    ratio: f64,
    /// The monitor's throughput relative to the loop that parses and scores too.
    ///
    /// The loop handles one block after another. The monitor overlaps these steps, so the ratio may exceed 1.
    ratio_to_scoring: f64,
    rows: u64,
    #[serde(rename = "figures_seconds")]
    rollup_seconds: f64,
    drift_seconds: Option<f64>,
    queries: &'a BTreeMap<&'static str, BTreeMap<&'static str, QueryFigures>>,
    bytes_per_row: &'a BTreeMap<&'static str, BytesPerRow>,
    codecs: &'a Codecs,
}

impl Report {
    pub(super) fn add(&mut self, round: Round) {
        self.rounds.push(round);
    }

    pub(super) fn summary(&self) -> Summary<'_> {
        let of = |part: fn(&Round) -> f64| median(self.rounds.iter().map(part).collect());
        Summary {
            rounds: &self.rounds,
            monitored_rows_per_second: of(|round| round.monitored),
            plain_rows_per_second: of(|round| round.plain),
            scoring_rows_per_second: of(|round| round.scoring),
            ratio: of(|round| round.monitored / round.plain),
            ratio_to_scoring: of(|round| round.monitored / round.scoring),
            rows: self.rows,
            rollup_seconds: self.rollup_seconds,
            drift_seconds: self.drift_seconds,
            queries: &self.queries,
            bytes_per_row: &self.storage,
            codecs: &self.codecs,
        }
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "results stored in ClickHouse per second")?;
        for (what, figure, digits) in [
            ("monitor", self.monitored_rows_per_second, 0),
            ("plain insert loop", self.plain_rows_per_second, 0),
            ("  monitor / this", self.ratio, 3),
            ("loop with scoring", self.scoring_rows_per_second, 0),
            ("  monitor / this", self.ratio_to_scoring, 3),
        ] {
            writeln!(f, "  {what:24} {figure:10.digits$}")?;
        }

        writeln!(f, "\nbytes per row, results from the stream")?;
        writeln!(f, "  {:24} {:>10} {:>10}", "", "on disk", "in memory")?;
        let mut all = BytesPerRow::default();
        for (group, bytes) in self.bytes_per_row {
            all.compressed += bytes.compressed;
            all.uncompressed += bytes.uncompressed;
            writeln!(
                f,
                "  {group:24} {:10.1} {:10.1}",
                bytes.compressed, bytes.uncompressed
            )?;
        }
        writeln!(
            f,
            "  {:24} {:10.1} {:10.1}",
            "all", all.compressed, all.uncompressed
        )?;

        writeln!(f, "\ncodecs: bytes per value, nanoseconds to read a value")?;
        for (column, codecs) in self.codecs {
            for (codec, figures) in codecs {
                writeln!(
                    f,
                    "  {column:16} {codec:24} {:10.2} {:10.2}",
                    figures.bytes, figures.read_ns
                )?;
            }
        }

        writeln!(f, "\nnamed queries on {} predictions, milliseconds", self.rows)?;
        writeln!(
            f,
            "  {:20} {:>8} {:>10} {:>10} {:>10}",
            "", "window", "p50", "max", "bytes"
        )?;
        for (name, windows) in self.queries {
            for (window, query) in windows {
                let QueryFigures {
                    p50_ms,
                    max_ms,
                    bytes,
                } = query;
                writeln!(
                    f,
                    "  {name:20} {window:>8} {p50_ms:10.1} {max_ms:10.1} {bytes:10}"
                )?;
            }
        }
        writeln!(
            f,
            "\nrollups complete {:.1} s after the last insert",
            self.rollup_seconds
        )?;
        match self.drift_seconds {
            Some(seconds) => writeln!(f, "drift computed {seconds:.1} s after the monitor started"),
            None => writeln!(f, "drift not computed: the predictions cover too few days"),
        }
    }
}
