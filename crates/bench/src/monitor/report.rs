//! What was measured, as tables and as JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::super::clock::median;
use super::queries::Timed;
use super::storage::{Bytes, Codecs};

/// Rows per second of a round.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Round {
    /// Results out of the stream through the monitor.
    pub(super) monitored: f64,
    /// Rows that are ready, in a plain loop.
    pub(super) plain: f64,
    /// Results that lie in memory, in a plain loop that reads and scores them.
    pub(super) scoring: f64,
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub(super) struct Report {
    rounds: Vec<Round>,
    /// Predictions that the queries were asked about.
    pub(super) rows: u64,
    /// Seconds until the figures were complete.
    pub(super) figures_seconds: f64,
    /// Seconds until drift was computed for the first time, with the start of the monitor.
    pub(super) drift_seconds: Option<f64>,
    pub(super) queries: BTreeMap<&'static str, BTreeMap<&'static str, Timed>>,
    pub(super) storage: BTreeMap<&'static str, Bytes>,
    pub(super) codecs: Codecs,
}

/// What it comes to.
#[derive(Debug, Serialize)]
pub(super) struct Summary<'a> {
    rounds: &'a [Round],
    monitored_rows_per_second: f64,
    plain_rows_per_second: f64,
    scoring_rows_per_second: f64,
    /// Median of the rounds' ratios to the plain loop.
    ratio: f64,
    /// The same to the loop that reads, scores and inserts one block after another; the monitor does these side by side, so
    /// that it may be above 1.
    ratio_to_scoring: f64,
    rows: u64,
    figures_seconds: f64,
    drift_seconds: Option<f64>,
    queries: &'a BTreeMap<&'static str, BTreeMap<&'static str, Timed>>,
    bytes_per_row: &'a BTreeMap<&'static str, Bytes>,
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
            figures_seconds: self.figures_seconds,
            drift_seconds: self.drift_seconds,
            queries: &self.queries,
            bytes_per_row: &self.storage,
            codecs: &self.codecs,
        }
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "results from the stream into ClickHouse, rows per second")?;
        for (what, figure, digits) in [
            ("monitor", self.monitored_rows_per_second, 0),
            ("plain insert loop", self.plain_rows_per_second, 0),
            ("  monitor against it", self.ratio, 3),
            ("loop that scores first", self.scoring_rows_per_second, 0),
            ("  monitor against it", self.ratio_to_scoring, 3),
        ] {
            writeln!(f, "  {what:24} {figure:10.digits$}")?;
        }

        writeln!(f, "\nbytes of a row, of results from the stream")?;
        writeln!(f, "  {:24} {:>10} {:>10}", "", "on disk", "in memory")?;
        let mut all = Bytes::default();
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

        writeln!(f, "\ncodecs: bytes of a value, nanoseconds to read one")?;
        for (column, codecs) in self.codecs {
            for (codec, tried) in codecs {
                writeln!(
                    f,
                    "  {column:16} {codec:24} {:10.2} {:10.2}",
                    tried.bytes, tried.read_ns
                )?;
            }
        }

        writeln!(f, "\nnamed queries at {} predictions, milliseconds", self.rows)?;
        writeln!(
            f,
            "  {:20} {:>8} {:>10} {:>10} {:>10}",
            "", "window", "p50", "max", "bytes"
        )?;
        for (name, windows) in self.queries {
            for (window, timed) in windows {
                let Timed {
                    p50_ms,
                    max_ms,
                    bytes,
                } = timed;
                writeln!(
                    f,
                    "  {name:20} {window:>8} {p50_ms:10.1} {max_ms:10.1} {bytes:10}"
                )?;
            }
        }
        writeln!(
            f,
            "\nfigures complete {:.1} s after the last insert",
            self.figures_seconds
        )?;
        match self.drift_seconds {
            Some(seconds) => writeln!(f, "drift computed {seconds:.1} s after the monitor's start"),
            None => writeln!(f, "drift not computed: too few days"),
        }
    }
}
