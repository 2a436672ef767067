//! The journal of a batch: a line per row that is done, in their order, and lines with the rows whose jobs are published.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io::{self, BufRead as _, BufReader, BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use precis_schemas::{GenerationParams, JobId, Outcome};
use serde::{Deserialize, Serialize};

use crate::files::FileError;
use crate::scores::Figures;

/// Version of the journal's format.
pub(super) const VERSION: u32 = 1;
/// Published rows per line.
const MAX_PUBLISHED: usize = 200;

/// The first line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct JournalHead {
    /// [`VERSION`].
    pub(super) version: u32,
    /// The batch, from which the ids of its jobs follow.
    pub(super) batch: JobId,
    /// Name of the file.
    pub(super) file: String,
    /// SHA-256 of the file.
    pub(super) digest: String,
    /// Number of its rows.
    pub(super) rows: u64,
    /// Subject of the jobs.
    pub(super) subject: String,
    /// Their parameters.
    pub(super) params: GenerationParams,
}

impl JournalHead {
    /// Returns why a run with the head `wanted` can't go on from here.
    fn difference(&self, wanted: &Self) -> Option<&'static str> {
        if self.version != wanted.version {
            Some("another version of Precis wrote it")
        } else if self.digest != wanted.digest {
            Some("the file has changed since")
        } else if self.rows != wanted.rows {
            Some("the file was read with other options (--format, --column, --delimiter or --encoding)")
        } else if self.subject != wanted.subject {
            Some("it has another --model, --lane or --tenant")
        } else if self.params != wanted.params {
            Some("it has other parameters (--param)")
        } else {
            None
        }
    }
}

/// How a row ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct RowOutcome {
    /// The row, from 0.
    pub(super) row: u64,
    /// The line on which it starts.
    pub(super) line: u64,
    /// How it ended. A malformed row failed.
    pub(super) status: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) summary: Option<String>,
    /// Why it has no summary: `code: message`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    /// Scores of the summary against the reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) scores: Option<Figures>,
}

/// A line after the first.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Entry {
    Outcome(RowOutcome),
    Published {
        /// Rows whose jobs are in the queue.
        published: Vec<u64>,
        /// Every one of these jobs has ended by then.
        until: Timestamp,
    },
}

/// What a journal says is done.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Resumed {
    /// Number of rows with an outcome.
    pub(super) done: u64,
    /// Those without a summary.
    pub(super) failed: u64,
    /// Later rows whose jobs were published, and when those jobs have ended.
    pub(super) published: HashMap<u64, Timestamp>,
}

/// The journal of a running batch. No other process can open it meanwhile.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    head: JournalHead,
    out: BufWriter<File>,
    published: Vec<u64>,
    until: Timestamp,
}

impl Journal {
    /// Opens the journal of an earlier run, or starts one.
    ///
    /// # Errors
    /// If it can't be read, belongs to another batch, or another process has it open.
    pub(super) fn open(path: &Path, wanted: &JournalHead) -> Result<(Self, Resumed), FileError> {
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).map_err(FileError::io(path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(FileError::refused(
                    path,
                    "another process works on this batch right now",
                ));
            }
            Err(TryLockError::Error(error)) => return Err(FileError::io(path)(error)),
        }
        let (head, resumed, end) = read(&mut file, path)?;
        if let Some(head) = &head
            && let Some(difference) = head.difference(wanted)
        {
            return Err(FileError::refused(
                path,
                format!(
                    "this is the journal of an earlier run that was stopped, but {difference}; start over with --overwrite, \
                     or choose another --output"
                ),
            ));
        }
        // A line that was cut off is written again.
        file.set_len(end).map_err(FileError::io(path))?;
        file.seek(SeekFrom::Start(end)).map_err(FileError::io(path))?;
        let is_new = head.is_none();
        let mut journal = Self {
            path: path.to_owned(),
            head: head.unwrap_or_else(|| wanted.clone()),
            out: BufWriter::new(file),
            published: Vec::new(),
            until: Timestamp::MIN,
        };
        if is_new {
            let head = journal.head.clone();
            journal.write_line(&head)?;
            // The ids of the jobs follow from it, so it must survive whatever happens after the first one.
            journal.sync()?;
        }
        Ok((journal, resumed))
    }

    /// Returns the batch.
    pub(super) fn batch(&self) -> &JobId {
        &self.head.batch
    }

    /// Adds the outcome of the next row.
    ///
    /// # Errors
    /// If it can't be written.
    pub(super) fn add(&mut self, outcome: RowOutcome) -> Result<(), FileError> {
        self.write_line(&Entry::Outcome(outcome))
    }

    /// Notes that the job of a row is in the queue and has ended by `until`.
    ///
    /// # Errors
    /// If it can't be written.
    pub(super) fn add_published(&mut self, row: u64, until: Timestamp) -> Result<(), FileError> {
        self.published.push(row);
        self.until = self.until.max(until);
        match self.published.len() >= MAX_PUBLISHED {
            true => self.write_published(),
            false => Ok(()),
        }
    }

    fn write_published(&mut self) -> Result<(), FileError> {
        let (published, until) = (std::mem::take(&mut self.published), self.until);
        match published.is_empty() {
            true => Ok(()),
            false => self.write_line(&Entry::Published { published, until }),
        }
    }

    fn write_line(&mut self, line: &impl Serialize) -> Result<(), FileError> {
        let written = serde_json::to_writer(&mut self.out, line)
            .map_err(io::Error::from)
            .and_then(|()| self.out.write_all(b"\n"));
        written.map_err(FileError::io(&self.path))
    }

    /// Hands everything to the operating system, so that it survives the end of this process.
    ///
    /// # Errors
    /// If it can't be written.
    pub(super) fn flush(&mut self) -> Result<(), FileError> {
        self.write_published()?;
        self.out.flush().map_err(FileError::io(&self.path))
    }

    /// Writes everything to the disk, so that it survives a loss of power.
    ///
    /// # Errors
    /// If it can't be written.
    pub(super) fn sync(&mut self) -> Result<(), FileError> {
        self.flush()?;
        self.out.get_ref().sync_data().map_err(FileError::io(&self.path))
    }
}

/// Reads a journal. Returns the length of its whole lines, too.
fn read(file: &mut File, path: &Path) -> Result<(Option<JournalHead>, Resumed, u64), FileError> {
    let mut reader = BufReader::new(file);
    let (mut line, mut end, mut resumed) = (Vec::new(), 0, Resumed::default());
    let mut head = None;
    loop {
        line.clear();
        let count = reader.read_until(b'\n', &mut line).map_err(FileError::io(path))?;
        if !line.ends_with(b"\n") {
            return Ok((head, resumed, end));
        }
        let foreign = || FileError::refused(path, "this file is not the journal of a batch; move it away");
        if head.is_none() {
            head = Some(serde_json::from_slice(&line).map_err(|_| foreign())?);
        } else {
            match serde_json::from_slice(&line).map_err(|_| foreign())? {
                Entry::Outcome(outcome) if outcome.row == resumed.done => {
                    resumed.done += 1;
                    resumed.failed += u64::from(outcome.status != Outcome::Succeeded);
                    resumed.published.remove(&outcome.row);
                }
                Entry::Outcome(_) => return Err(foreign()),
                Entry::Published { published, until } => {
                    let later = published.into_iter().filter(|row| *row >= resumed.done);
                    resumed.published.extend(later.map(|row| (row, until)));
                }
            }
        }
        end += count as u64;
    }
}

/// Reads the outcomes of a complete journal.
///
/// # Errors
/// If it can't be opened.
pub(super) fn outcomes(
    path: &Path,
) -> Result<impl Iterator<Item = Result<RowOutcome, FileError>>, FileError> {
    let file = File::open(path).map_err(FileError::io(path))?;
    let path = path.to_owned();
    let lines = BufReader::new(file).lines().skip(1);
    Ok(lines.filter_map(move |line| {
        let entry = line.and_then(|line| serde_json::from_str(&line).map_err(io::Error::from));
        match entry {
            Ok(Entry::Outcome(outcome)) => Some(Ok(outcome)),
            Ok(Entry::Published { .. }) => None,
            Err(error) => Some(Err(FileError::io(&path)(error))),
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> JournalHead {
        JournalHead {
            version: VERSION,
            batch: "b".parse().unwrap(),
            file: "news.csv".into(),
            digest: "00".into(),
            rows: 4,
            subject: "jobs.v1.default.bulk.summarize.public".into(),
            params: GenerationParams::default(),
        }
    }

    fn outcome(row: u64, status: Outcome) -> RowOutcome {
        RowOutcome {
            row,
            line: row + 2,
            status,
            summary: None,
            error: None,
            scores: None,
        }
    }

    #[test]
    fn a_run_goes_on_after_the_last_whole_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let until: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let (mut journal, resumed) = Journal::open(&path, &head()).unwrap();
        assert_eq!(resumed, Resumed::default());
        for row in [1, 0, 3] {
            journal.add_published(row, until).unwrap();
        }
        journal.add(outcome(0, Outcome::Succeeded)).unwrap();
        journal.add(outcome(1, Outcome::Failed)).unwrap();
        journal.sync().unwrap();
        // Only one process at a time.
        let busy = Journal::open(&path, &head()).unwrap_err().to_string();
        assert!(busy.contains("another process"), "{busy}");
        drop(journal);
        let mut torn = File::options().append(true).open(&path).unwrap();
        torn.write_all(b"{\"row\":2,\"li").unwrap();
        let again = JournalHead {
            batch: "c".parse().unwrap(),
            ..head()
        };
        let (mut journal, resumed) = Journal::open(&path, &again).unwrap();
        assert_eq!(
            resumed,
            Resumed {
                done: 2,
                failed: 1,
                published: HashMap::from([(3, until)]),
            }
        );
        // The ids of the jobs stay the same.
        assert_eq!(journal.batch().as_str(), "b");
        journal.add(outcome(2, Outcome::Expired)).unwrap();
        journal.sync().unwrap();
        let rows: Vec<u64> = outcomes(&path)
            .unwrap()
            .map(|outcome| outcome.unwrap().row)
            .collect();
        assert_eq!(rows, [0, 1, 2]);
    }

    #[test]
    fn a_journal_of_another_batch_is_refused_with_the_difference() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        drop(Journal::open(&path, &head()).unwrap());
        let refused = |wanted: &JournalHead| Journal::open(&path, wanted).unwrap_err().to_string();
        let changed = JournalHead {
            digest: "01".into(),
            ..head()
        };
        assert!(refused(&changed).contains("the file has changed"));
        let other = JournalHead {
            subject: "jobs.v1.other.bulk.summarize.public".into(),
            ..head()
        };
        assert!(refused(&other).contains("--model"));
        std::fs::write(&path, "a,b\n1,2\n").unwrap();
        assert!(refused(&head()).contains("not the journal"));
    }
}
