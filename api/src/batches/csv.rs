//! CSV (RFC 4180) with a header. Reads the column `article` and, if there is one, `summ`.

use std::collections::{BTreeMap, VecDeque};

use csv_core::{ReadRecordResult, Reader};
use precis_schemas::error_code::{ErrorCode, Refusal};

use super::rows::{InputRow, RowContent, RowParser, too_long};

/// Initial size of the record buffer, in bytes. It grows up to the longest record that is allowed.
const INITIAL_BUFFER: usize = 4 << 10;
/// Most columns of a record.
const MAX_COLUMNS: usize = 256;

#[derive(Debug, Clone, Copy)]
struct Columns {
    article: usize,
    summ: Option<usize>,
    count: usize,
}

/// A parser of CSV files.
pub(super) struct CsvParser {
    reader: Reader,
    max_row_bytes: usize,
    /// Known once the header is parsed.
    columns: Option<Columns>,
    /// The fields of the current record, one after another.
    fields: Vec<u8>,
    field_bytes: usize,
    /// Where each field ends in `fields`.
    ends: Vec<usize>,
    field_count: usize,
    /// The line on which the current record starts.
    line: u64,
    is_too_long: bool,
    /// Whether the current position is between two records.
    is_between: bool,
    newlines: u64,
    last_byte: u8,
}

impl CsvParser {
    /// Creates a parser of records with at most `max_row_bytes` bytes.
    pub(super) fn new(max_row_bytes: usize) -> Self {
        Self {
            reader: Reader::new(),
            max_row_bytes,
            columns: None,
            fields: vec![0; INITIAL_BUFFER.min(max_row_bytes)],
            field_bytes: 0,
            ends: vec![0; MAX_COLUMNS],
            field_count: 0,
            line: 1,
            is_too_long: false,
            is_between: true,
            newlines: 0,
            last_byte: 0,
        }
    }

    /// Parses the next chunk. An empty chunk ends the file.
    fn read(&mut self, mut chunk: &[u8], rows: &mut VecDeque<InputRow>) -> Result<(), Refusal> {
        loop {
            if self.is_between && !chunk.is_empty() {
                chunk = self.skip_blank(chunk);
                if chunk.is_empty() {
                    return Ok(());
                }
                self.is_between = false;
            }
            let (result, read, written, ended) = self.reader.read_record(
                chunk,
                &mut self.fields[self.field_bytes..],
                &mut self.ends[self.field_count..],
            );
            let (parsed, rest) = chunk.split_at(read);
            chunk = rest;
            self.newlines += parsed.iter().filter(|byte| **byte == b'\n').count() as u64;
            self.last_byte = parsed.last().copied().unwrap_or(self.last_byte);
            self.field_bytes += written;
            self.field_count += ended;
            match result {
                ReadRecordResult::InputEmpty => return Ok(()),
                ReadRecordResult::OutputFull => self.grow_buffer(),
                ReadRecordResult::OutputEndsFull => {
                    // With this many columns the file is not CSV, or a quote is missing.
                    self.is_too_long = true;
                    self.field_count = 0;
                }
                ReadRecordResult::Record => {
                    self.end_record(rows)?;
                    if chunk.is_empty() {
                        return Ok(());
                    }
                }
                ReadRecordResult::End => return Ok(()),
            }
        }
    }

    /// Skips blank lines, as the reader does, so that `line` is the line on which the record starts.
    fn skip_blank<'a>(&mut self, chunk: &'a [u8]) -> &'a [u8] {
        let is_line_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
        let blank = chunk.iter().take_while(|byte| is_line_end(byte)).count();
        let (blank, rest) = chunk.split_at(blank);
        if let Some(last) = blank.last() {
            self.newlines += blank.iter().filter(|byte| **byte == b'\n').count() as u64;
            self.last_byte = *last;
            self.line = 1 + self.newlines;
        }
        rest
    }

    fn grow_buffer(&mut self) {
        if self.fields.len() >= self.max_row_bytes {
            // Discard the record, up to its end.
            self.is_too_long = true;
            self.field_bytes = 0;
        } else {
            let larger = (self.fields.len() * 2).min(self.max_row_bytes);
            self.fields.resize(larger, 0);
        }
    }

    fn end_record(&mut self, rows: &mut VecDeque<InputRow>) -> Result<(), Refusal> {
        let line = self.line;
        self.is_between = true;
        // The reader ends a record at its carriage return and leaves the line feed to the next one.
        self.line = 1 + self.newlines + u64::from(self.last_byte == b'\r');
        let is_too_long = std::mem::take(&mut self.is_too_long);
        let field_count = std::mem::take(&mut self.field_count);
        let field_bytes = std::mem::take(&mut self.field_bytes);
        let row = match self.columns {
            _ if is_too_long => too_long(line, self.max_row_bytes),
            Some(columns) => InputRow {
                line,
                content: self.content(columns, field_count),
            },
            None => {
                self.columns = Some(self.header(field_count)?);
                return Ok(());
            }
        };
        if self.columns.is_none() {
            return Err(no_header("the first line is too long"));
        }
        rows.push_back(row);
        // Free the memory of a single long record.
        if field_bytes < INITIAL_BUFFER && self.fields.len() > 16 * INITIAL_BUFFER {
            self.fields.truncate(INITIAL_BUFFER);
            self.fields.shrink_to_fit();
        }
        Ok(())
    }

    fn field(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.fields[start..self.ends[index]]
    }

    fn header(&self, field_count: usize) -> Result<Columns, Refusal> {
        let names: Vec<String> = (0..field_count)
            .map(|index| {
                let name = String::from_utf8_lossy(self.field(index));
                // The file may start with a byte order mark.
                name.trim_start_matches('\u{feff}').trim().to_lowercase()
            })
            .collect();
        let named = |aliases: &[&str]| names.iter().position(|name| aliases.contains(&name.as_str()));
        let Some(article) = named(&["article", "text"]) else {
            let shown: String = names.join(", ").chars().take(200).collect();
            return Err(no_header(&format!("it names: {shown}")));
        };
        Ok(Columns {
            article,
            summ: named(&["summ", "reference"]),
            count: field_count,
        })
    }

    fn content(&self, columns: Columns, field_count: usize) -> Result<RowContent, Refusal> {
        if field_count != columns.count {
            let expected = columns.count;
            return Err(Refusal::new(
                ErrorCode::InvalidRequest,
                format!("the row has {field_count} fields, but the header has {expected}"),
            ));
        }
        let text = |index: usize| {
            std::str::from_utf8(self.field(index))
                .map(str::to_owned)
                .map_err(|_| Refusal::new(ErrorCode::InvalidRequest, "the row is not UTF-8"))
        };
        let summ = columns.summ.map(text).transpose()?;
        Ok(RowContent {
            article: text(columns.article)?,
            summ: summ.filter(|summ| !summ.trim().is_empty()),
            metadata: BTreeMap::new(),
        })
    }
}

fn no_header(problem: &str) -> Refusal {
    Refusal::new(
        ErrorCode::InvalidRequest,
        format!("the first line of a CSV file must name its columns, including `article`; {problem}"),
    )
}

impl RowParser for CsvParser {
    fn push(&mut self, chunk: &[u8], rows: &mut VecDeque<InputRow>) -> Result<(), Refusal> {
        if chunk.is_empty() {
            return Ok(());
        }
        self.read(chunk, rows)
    }

    fn finish(&mut self, rows: &mut VecDeque<InputRow>) -> Result<(), Refusal> {
        self.read(&[], rows)?;
        if self.columns.is_none() {
            return Err(no_header("the file is empty"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &[u8], size: usize, max_row_bytes: usize) -> Result<VecDeque<InputRow>, Refusal> {
        let mut parser = CsvParser::new(max_row_bytes);
        let mut rows = VecDeque::new();
        for chunk in file.chunks(size) {
            parser.push(chunk, &mut rows)?;
        }
        parser.finish(&mut rows)?;
        Ok(rows)
    }

    type Parsed<'a> = (u64, Result<(&'a str, Option<&'a str>), ErrorCode>);

    fn parsed(rows: &VecDeque<InputRow>) -> Vec<Parsed<'_>> {
        rows.iter()
            .map(|row| match &row.content {
                Ok(content) => (row.line, Ok((content.article.as_str(), content.summ.as_deref()))),
                Err(refusal) => (row.line, Err(refusal.code)),
            })
            .collect()
    }

    #[test]
    fn rows_do_not_depend_on_chunk_sizes() {
        let file = b"id,Article,summ\r\n1,\"two\nlines, \"\"quoted\"\"\",short\r\n2,plain,\r\n3,too,many,fields\n4,\xff,x\n5,last,one";
        let rows = read(file, 1_000, 1_000).unwrap();
        assert_eq!(
            parsed(&rows),
            [
                (2, Ok(("two\nlines, \"quoted\"", Some("short")))),
                (4, Ok(("plain", None))),
                (5, Err(ErrorCode::InvalidRequest)),
                (6, Err(ErrorCode::InvalidRequest)),
                (7, Ok(("last", Some("one")))),
            ]
        );
        for size in [1, 2, 5, 13] {
            assert_eq!(read(file, size, 1_000).unwrap(), rows, "chunks of {size}");
        }
    }

    #[test]
    fn blank_lines_count_as_lines() {
        let file = b"\narticle\r\n\r\nfirst\n\n\n\"second\n\nis long\"\r\n\r\n\r\nthird\n\n";
        for size in [1, 2, 3, 100] {
            let rows = read(file, size, 1_000).unwrap();
            let lines: Vec<u64> = rows.iter().map(|row| row.line).collect();
            assert_eq!(lines, [4, 7, 12], "chunks of {size}");
        }
    }

    #[test]
    fn a_record_that_is_too_long_is_one_bad_row() {
        let file = format!("article\n{}\nshort\n", "x".repeat(10_000));
        for size in [7, 100_000] {
            let rows = read(file.as_bytes(), size, 5_000).unwrap();
            assert_eq!(
                parsed(&rows),
                [(2, Err(ErrorCode::TextTooLong)), (3, Ok(("short", None)))]
            );
        }
        // Longer than the initial buffer, but allowed.
        assert!(read(file.as_bytes(), 512, 20_000).unwrap()[0].content.is_ok());
    }

    #[test]
    fn a_file_without_a_header_is_refused() {
        for file in [&b""[..], b"\xef\xbb\xbf", b"title,body\na,b\n"] {
            let refusal = read(file, 100, 100).unwrap_err();
            assert!(refusal.message.contains("`article`"), "{refusal}");
        }
        // A byte order mark is not part of the first name.
        assert_eq!(read(b"\xef\xbb\xbfarticle\na\n", 100, 100).unwrap().len(), 1);
    }
}
