//! Reads a file row by row.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use encoding_rs::{Encoding, UTF_8};
use precis_schemas::error_code::{ErrorCode, Refusal};
use sha2::{Digest as _, Sha256};

use super::args::{Format, TableArgs};
use super::columns::{ColumnChoice, Task};
use super::table::{Row, Table};
use crate::rows::{CsvParser, DecodingParser, JsonLinesParser, JsonListParser, RowParser};

/// Bytes to read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// A file that can't be read or written, or is unreadable as a whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// The operating system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The content is not what it should be.
    #[error("{}: {}", path.display(), refusal.message)]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        refusal: Refusal,
    },
}

impl FileError {
    /// Returns a function that adds the file to an error of the operating system.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    /// A file with unusable content.
    pub(crate) fn refused(path: &Path, message: impl Into<String>) -> Self {
        Self::Refused {
            path: path.to_owned(),
            refusal: Refusal::new(ErrorCode::InvalidRequest, message),
        }
    }
}

/// A file, and how to read it.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// The file.
    pub(crate) path: PathBuf,
    /// Its format.
    pub(crate) format: Format,
    /// The byte between two fields.
    pub(crate) delimiter: u8,
    /// The character set, if it is given.
    pub(crate) encoding: Option<&'static Encoding>,
    task: Task,
    columns: Vec<ColumnChoice>,
    max_row_bytes: usize,
}

impl Source {
    /// Combines a path with the options of the command line.
    ///
    /// # Errors
    /// If the format is unknown, or an option does not belong to it.
    pub(crate) fn new(
        path: &Path,
        args: &TableArgs,
        task: Task,
        max_row_bytes: usize,
    ) -> Result<Self, FileError> {
        let format = args.format.or_else(|| Format::of(path)).ok_or_else(|| {
            FileError::refused(path, "the name does not end in .csv, .tsv, .jsonl, .json or .parquet; give the format with --format")
        })?;
        if format == Format::Parquet && !cfg!(feature = "parquet") {
            return Err(FileError::refused(
                path,
                "this build does not read Parquet; build it with `--features parquet`, or convert the file to JSON Lines",
            ));
        }
        if format.delimiter().is_none() {
            let given = [
                ("--delimiter", args.delimiter.is_some()),
                ("--encoding", args.encoding.is_some()),
            ];
            if let Some((option, _)) = given.into_iter().find(|(_, is_given)| *is_given) {
                return Err(FileError::refused(
                    path,
                    format!("{option} is only for CSV and TSV files"),
                ));
            }
        }
        Ok(Self {
            path: path.to_owned(),
            format,
            delimiter: args
                .delimiter
                .map_or(format.delimiter().unwrap_or(b','), |given| given.0),
            encoding: args.encoding.map(|given| given.0),
            task,
            columns: args.columns.clone(),
            max_row_bytes,
        })
    }

    /// Opens the file.
    ///
    /// # Errors
    /// If it can't be opened.
    pub(crate) fn open(&self) -> Result<FileRows, FileError> {
        let file = File::open(&self.path).map_err(FileError::io(&self.path))?;
        let header = Arc::new(OnceLock::new());
        let table = Table::new(self.task, self.columns.clone(), header.clone());
        let max = self.max_row_bytes;
        let content = match self.format {
            Format::Csv | Format::Tsv => {
                let parser = CsvParser::new(max, table).with_delimiter(self.delimiter);
                // A byte order mark beats the character set.
                let parser = DecodingParser::new(self.encoding.unwrap_or(UTF_8), parser);
                Content::Parsed(Box::new(parser))
            }
            Format::Jsonl => Content::Parsed(Box::new(JsonLinesParser::new(max, table))),
            Format::Json => Content::Parsed(Box::new(JsonListParser::new(max, table))),
            #[cfg(feature = "parquet")]
            Format::Parquet => {
                let file = file.try_clone().map_err(FileError::io(&self.path))?;
                Content::Parquet(super::parquet::ParquetRows::open(&self.path, file, table)?)
            }
            #[cfg(not(feature = "parquet"))]
            Format::Parquet => {
                return Err(FileError::refused(&self.path, "this build does not read Parquet"));
            }
        };
        Ok(FileRows {
            path: self.path.clone(),
            file,
            content,
            header,
            ready: VecDeque::new(),
            chunk: vec![0; CHUNK_BYTES],
            digest: None,
            start: Vec::new(),
            is_done: false,
        })
    }
}

/// Where rows come from.
enum Content {
    /// A parser that reads bytes.
    Parsed(Box<dyn RowParser<Row>>),
    #[cfg(feature = "parquet")]
    Parquet(super::parquet::ParquetRows),
}

/// The rows of a file.
pub(crate) struct FileRows {
    path: PathBuf,
    file: File,
    content: Content,
    header: Arc<OnceLock<Vec<String>>>,
    ready: VecDeque<Row>,
    chunk: Vec<u8>,
    digest: Option<Sha256>,
    /// The first bytes of the file.
    start: Vec<u8>,
    is_done: bool,
}

impl FileRows {
    /// Also computes the SHA-256 of the bytes.
    #[must_use]
    pub(super) fn with_digest(self) -> Self {
        Self {
            digest: Some(Sha256::new()),
            ..self
        }
    }

    /// Returns the names of the columns, once the first row is read. JSON files have none.
    pub(crate) fn header(&self) -> &[String] {
        self.header.get().map(Vec::as_slice).unwrap_or_default()
    }

    /// Returns the digest and the first bytes, after the last row.
    pub(super) fn into_digest(mut self) -> io::Result<(String, Vec<u8>)> {
        // A Parquet file is not read from its start to its end.
        #[cfg(feature = "parquet")]
        if let Content::Parquet(_) = self.content {
            use std::io::Seek as _;
            let mut digest = Sha256::new();
            self.file.rewind()?;
            loop {
                let count = self.file.read(&mut self.chunk)?;
                if count == 0 {
                    break;
                }
                digest.update(&self.chunk[..count]);
            }
            self.digest = Some(digest);
        }
        let digest = self.digest.take().unwrap_or_default().finalize();
        let hex = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok((hex, std::mem::take(&mut self.start)))
    }

    /// Reads on until there are rows or the file ends.
    fn read(&mut self) -> Result<(), FileError> {
        #[cfg(feature = "parquet")]
        if let Content::Parquet(rows) = &mut self.content {
            self.is_done = !rows.read(&mut self.ready)?;
            return Ok(());
        }
        #[cfg_attr(
            not(feature = "parquet"),
            expect(
                clippy::infallible_destructuring_match,
                reason = "there is another format with a feature"
            )
        )]
        let parser = match &mut self.content {
            Content::Parsed(parser) => parser,
            #[cfg(feature = "parquet")]
            Content::Parquet(_) => return Ok(()),
        };
        let refused = |refusal| FileError::Refused {
            path: self.path.clone(),
            refusal,
        };
        while self.ready.is_empty() && !self.is_done {
            let count = self
                .file
                .read(&mut self.chunk)
                .map_err(FileError::io(&self.path))?;
            let bytes = &self.chunk[..count];
            if self.start.is_empty() {
                self.start = bytes[..count.min(4096)].to_vec();
            }
            if let Some(digest) = &mut self.digest {
                digest.update(bytes);
            }
            if count == 0 {
                self.is_done = true;
                parser.finish(&mut self.ready).map_err(refused)?;
            } else {
                parser.push(bytes, &mut self.ready).map_err(refused)?;
            }
        }
        Ok(())
    }
}

impl Iterator for FileRows {
    type Item = Result<Row, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty()
            && !self.is_done
            && let Err(error) = self.read()
        {
            self.is_done = true;
            return Some(Err(error));
        }
        self.ready.pop_front().map(Ok)
    }
}
