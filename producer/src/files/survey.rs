//! Reads a file once before the work begins, so that a file that can't be read as a whole starts nothing.

use encoding_rs::Encoding;

use super::reader::{FileError, Source};
use super::table::{Cells, Row};

/// Most columns of a table that is made of JSON objects.
const MAX_COLUMNS: usize = 1_000;

/// What a file is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Survey {
    /// Number of rows, with the malformed ones.
    pub(crate) rows: u64,
    /// SHA-256 of the file, in hexadecimal.
    pub(crate) digest: String,
    /// Names of the columns: those of the header, or of all objects.
    pub(crate) columns: Vec<String>,
    /// Whether a row has a reference.
    pub(crate) has_references: bool,
    /// Whether a line ends in CR and LF.
    pub(crate) has_crlf: bool,
    /// Whether the results need a byte order mark, so that Excel reads them as UTF-8.
    pub(crate) needs_mark: bool,
}

/// Reads the whole file.
///
/// # Errors
/// If it is unreadable as a whole: without its header, with no rows, or with text in another character set.
pub(crate) fn survey(source: &Source) -> Result<Survey, FileError> {
    let mut rows = source.open()?.with_digest();
    let (mut count, mut columns, mut has_references) = (0, Vec::new(), false);
    let mut encoding = EncodingCheck::default();
    for row in rows.by_ref() {
        let row = row?;
        count += 1;
        encoding.add(&row);
        has_references |= row.texts.as_ref().is_ok_and(|texts| texts.reference.is_some());
        if let Cells::Object(fields) = &row.cells {
            for (name, _) in fields {
                if columns.len() < MAX_COLUMNS && !columns.contains(name) {
                    columns.push(name.clone());
                }
            }
        }
    }
    if !rows.header().is_empty() {
        columns = rows.header().to_vec();
    }
    let (digest, start) = rows.into_digest().map_err(FileError::io(&source.path))?;
    if count == 0 {
        return Err(FileError::refused(&source.path, "there are no rows in the file"));
    }
    if source.encoding.is_none()
        && let Some(line) = encoding.foreign()
    {
        return Err(FileError::refused(
            &source.path,
            format!(
                "the text is not UTF-8 (first in line {line}). Excel writes CSV in the character set of its country: read \
                 it with --encoding windows-1252, or with --encoding utf-8 to get an error for each of these rows"
            ),
        ));
    }
    Ok(Survey {
        rows: count,
        digest,
        columns,
        has_references,
        has_crlf: start.windows(2).any(|pair| pair == b"\r\n"),
        needs_mark: Encoding::for_bom(&start).is_some()
            || source
                .encoding
                .is_some_and(|encoding| encoding != encoding_rs::UTF_8),
    })
}

/// Whether a file has another character set than UTF-8: most of its rows with other characters than ASCII are not
/// UTF-8. A few broken rows among many others are only broken rows.
#[derive(Debug, Default)]
struct EncodingCheck {
    utf8: u64,
    other: u64,
    first: Option<u64>,
}

impl EncodingCheck {
    fn add(&mut self, row: &Row) {
        let Cells::Fields(fields) = &row.cells else { return };
        if fields.iter().all(|field| field.is_ascii()) {
            return;
        }
        if fields.iter().all(|field| std::str::from_utf8(field).is_ok()) {
            self.utf8 += 1;
        } else {
            self.other += 1;
            self.first.get_or_insert(row.line);
        }
    }

    /// Returns the first line in another character set, if the file has one.
    fn foreign(&self) -> Option<u64> {
        self.first.filter(|_| self.other > self.utf8)
    }
}
