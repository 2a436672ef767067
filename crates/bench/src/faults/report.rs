//! The results of runs, and the file that keeps them.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::ops::Range;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct RunRecord {
    pub(super) seed: u64,
    pub(super) run: u64,
    pub(super) shipped_defaults: bool,
    /// The faults of the run.
    pub(super) faults: Vec<String>,
    /// Accepted jobs.
    pub(super) jobs: u64,
    /// Accepted jobs without a result or a row.
    pub(super) lost: u64,
    /// Jobs with several rows, and submissions with several jobs.
    pub(super) doubled: u64,
    /// Messages that were never finished.
    pub(super) stranded: u64,
    /// Webhooks that were neither delivered nor buried.
    pub(super) webhooks_lost: u64,
    /// Submissions that no gateway accepted.
    pub(super) refused: u64,
    /// Roles that keep files open.
    pub(super) leaking: u64,
    /// Seconds from the end of the last fault until everything was finished.
    pub(super) recovery_s: f64,
    /// Processes that were started again.
    pub(super) restarts: u64,
    /// The most open files of a role after the run.
    pub(super) open_files: u64,
    /// What is wrong.
    pub(super) problems: Vec<String>,
}

impl RunRecord {
    /// Returns whether every promise was kept.
    pub(super) fn is_clean(&self) -> bool {
        self.lost + self.doubled + self.stranded + self.webhooks_lost + self.refused + self.leaking == 0
    }
}

impl fmt::Display for RunRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            jobs,
            lost,
            doubled,
            stranded,
            webhooks_lost,
            refused,
            leaking,
            recovery_s,
            restarts,
            ..
        } = self;
        writeln!(
            f,
            "run {}: {jobs} jobs, {lost} lost, {doubled} doubled, {stranded} stranded, {webhooks_lost} webhooks lost, \
             {refused} refused, {leaking} leaking; {restarts} restarts, finished after {recovery_s} s",
            self.run
        )?;
        for problem in &self.problems {
            writeln!(f, "  {problem}")?;
        }
        Ok(())
    }
}

/// The records of a seed, kept in a file.
pub(super) struct Records {
    runs: BTreeMap<u64, RunRecord>,
    file: Option<File>,
}

impl Records {
    /// Reads the file, if there is one.
    pub(super) fn open(path: Option<&Path>, seed: u64, shipped_defaults: bool) -> anyhow::Result<Self> {
        let mut runs = BTreeMap::new();
        let Some(path) = path else {
            return Ok(Self { runs, file: None });
        };
        let what = || path.display().to_string();
        let file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .with_context(what)?;
        for line in std::fs::read_to_string(path).with_context(what)?.lines() {
            let record: RunRecord = serde_json::from_str(line).with_context(what)?;
            if record.seed == seed && record.shipped_defaults == shipped_defaults {
                runs.insert(record.run, record);
            }
        }
        Ok(Self {
            runs,
            file: Some(file),
        })
    }

    /// Returns whether a run has a record.
    pub(super) fn contains(&self, run: u64) -> bool {
        self.runs.contains_key(&run)
    }

    /// Adds a record and writes it to the file.
    pub(super) fn add(&mut self, record: RunRecord) -> anyhow::Result<()> {
        if let Some(file) = &mut self.file {
            // One write, so that an interrupted program leaves no half line.
            file.write_all(format!("{}\n", serde_json::to_string(&record)?).as_bytes())?;
        }
        self.runs.insert(record.run, record);
        Ok(())
    }

    /// Returns the records of these runs.
    pub(super) fn runs(&self, runs: Range<u64>) -> impl Iterator<Item = &RunRecord> {
        self.runs.range(runs).map(|(_, record)| record)
    }
}

/// The results of one kind of fault: of all runs that had it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
struct OfKind {
    runs: u64,
    jobs: u64,
    lost: u64,
    doubled: u64,
    longest_recovery_s: f64,
}

/// The results of all runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Summary {
    runs: u64,
    jobs: u64,
    lost: u64,
    doubled: u64,
    stranded: u64,
    webhooks_lost: u64,
    refused: u64,
    leaking: u64,
    longest_recovery_s: f64,
    by_fault: BTreeMap<String, OfKind>,
}

impl Summary {
    /// Sums up runs.
    pub(super) fn of<'a>(runs: impl Iterator<Item = &'a RunRecord>) -> Self {
        let mut all = Self::default();
        for record in runs {
            all.runs += 1;
            all.jobs += record.jobs;
            all.lost += record.lost;
            all.doubled += record.doubled;
            all.stranded += record.stranded;
            all.webhooks_lost += record.webhooks_lost;
            all.refused += record.refused;
            all.leaking += record.leaking;
            all.longest_recovery_s = all.longest_recovery_s.max(record.recovery_s);
            let kinds: HashSet<String> = record.faults.iter().map(|fault| kind_of(fault)).collect();
            for kind in kinds {
                let of_kind = all.by_fault.entry(kind).or_default();
                of_kind.runs += 1;
                of_kind.jobs += record.jobs;
                of_kind.lost += record.lost;
                of_kind.doubled += record.doubled;
                of_kind.longest_recovery_s = of_kind.longest_recovery_s.max(record.recovery_s);
            }
        }
        all
    }

    /// Returns whether every promise was kept.
    pub(super) fn is_clean(&self) -> bool {
        self.lost + self.doubled + self.stranded + self.webhooks_lost + self.refused + self.leaking == 0
    }
}

/// Returns what a fault does and to which role: `kill api`.
fn kind_of(fault: &str) -> String {
    let mut words = fault.split(' ');
    let (what, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let role = target.split('-').next().unwrap_or_default();
    format!("{what} {role}")
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| fault | runs | jobs | lost | doubled | longest recovery |")?;
        writeln!(f, "| --- | --- | --- | --- | --- | --- |")?;
        for (kind, of) in &self.by_fault {
            writeln!(
                f,
                "| {kind} | {} | {} | {} | {} | {} s |",
                of.runs, of.jobs, of.lost, of.doubled, of.longest_recovery_s
            )?;
        }
        writeln!(
            f,
            "{} runs, {} jobs: {} lost, {} doubled, {} stranded, {} webhooks lost, {} refused, {} leaking; \
             longest recovery {} s",
            self.runs,
            self.jobs,
            self.lost,
            self.doubled,
            self.stranded,
            self.webhooks_lost,
            self.refused,
            self.leaking,
            self.longest_recovery_s
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(run: u64, faults: &[&str], lost: u64, recovery_s: f64) -> RunRecord {
        RunRecord {
            seed: 1,
            run,
            shipped_defaults: false,
            faults: faults.iter().map(|fault| (*fault).to_owned()).collect(),
            jobs: 10,
            lost,
            doubled: 0,
            stranded: 0,
            webhooks_lost: 0,
            refused: 0,
            leaking: 0,
            recovery_s,
            restarts: 1,
            open_files: 20,
            problems: Vec::new(),
        }
    }

    #[test]
    fn a_run_counts_once_for_each_kind_of_its_faults() {
        let runs = [
            record(0, &["kill api-0", "kill api-1", "slow monitor by 20 ms"], 0, 1.5),
            record(1, &["kill api-1"], 1, 0.5),
        ];
        let summary = Summary::of(runs.iter());
        assert_eq!((summary.runs, summary.jobs, summary.lost), (2, 20, 1));
        assert!(!summary.is_clean());
        let kinds: Vec<_> = summary
            .by_fault
            .iter()
            .map(|(kind, of)| (kind.as_str(), of.runs))
            .collect();
        assert_eq!(kinds, [("kill api", 2), ("slow monitor", 1)]);
        assert!((summary.longest_recovery_s - 1.5).abs() < 1e-9);
    }

    #[test]
    fn finished_runs_of_the_same_seed_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs.jsonl");
        let mut records = Records::open(Some(&path), 1, false).unwrap();
        records.add(record(3, &["kill api-0"], 0, 1.0)).unwrap();
        let read = Records::open(Some(&path), 1, false).unwrap();
        assert!(read.contains(3) && !read.contains(2));
        assert_eq!(read.runs(0..10).count(), 1);
        assert!(!Records::open(Some(&path), 2, false).unwrap().contains(3));
        assert!(!Records::open(Some(&path), 1, true).unwrap().contains(3));
    }
}
