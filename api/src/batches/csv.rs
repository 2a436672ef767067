//! CSV (RFC 4180) with a header: the column `article`, perhaps `summ`; others are passed over.

use std::collections::{BTreeMap, VecDeque};

use csv_core::{ReadRecordResult, Reader};
use precis_schemas::error_code::{ErrorCode, Refusal};

use super::rows::{Content, Row, Splitter, too_long};

/// Room for a record at first; it grows up to the longest that is allowed.
const FIRST_ROOM: usize = 4 << 10;
/// Most columns that are read.
const MAX_COLUMNS: usize = 256;

#[derive(Debug, Clone, Copy)]
struct Columns {
    article: usize,
    summ: Option<usize>,
    count: usize,
}

/// A CSV file.
pub(super) struct Csv {
    reader: Reader,
    max_row_bytes: usize,
    columns: Option<Columns>,
    fields: Vec<u8>,
    field_bytes: usize,
    ends: Vec<usize>,
    field_count: usize,
    /// Line on which the record that is being read began.
    line: u64,
    is_too_long: bool,
    /// Whether the next byte may be before a record.
    is_between: bool,
    newlines: u64,
    last_byte: u8,
}

impl Csv {
    /// A file whose records have at most so many bytes.
    pub(super) fn new(max_row_bytes: usize) -> Self {
        Self {
            reader: Reader::new(),
            max_row_bytes,
            columns: None,
            fields: vec![0; FIRST_ROOM.min(max_row_bytes)],
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

    /// Reads on; an empty piece is the end of the file.
    fn read(&mut self, mut piece: &[u8], rows: &mut VecDeque<Row>) -> Result<(), Refusal> {
        loop {
            if self.is_between && !piece.is_empty() {
                piece = self.skip_blank(piece);
                if piece.is_empty() {
                    return Ok(());
                }
                self.is_between = false;
            }
            let (result, read, written, ended) = self.reader.read_record(
                piece,
                &mut self.fields[self.field_bytes..],
                &mut self.ends[self.field_count..],
            );
            let (taken, rest) = piece.split_at(read);
            piece = rest;
            self.newlines += taken.iter().filter(|byte| **byte == b'\n').count() as u64;
            self.last_byte = taken.last().copied().unwrap_or(self.last_byte);
            self.field_bytes += written;
            self.field_count += ended;
            match result {
                ReadRecordResult::InputEmpty => return Ok(()),
                ReadRecordResult::OutputFull => self.make_room(),
                ReadRecordResult::OutputEndsFull => {
                    // Nobody means that many columns: it is no CSV, or a quote is missing.
                    self.is_too_long = true;
                    self.field_count = 0;
                }
                ReadRecordResult::Record => {
                    self.end_record(rows)?;
                    if piece.is_empty() {
                        return Ok(());
                    }
                }
                ReadRecordResult::End => return Ok(()),
            }
        }
    }

    /// Passes over the ends of lines before a record, as its reader would: the record begins after them.
    fn skip_blank<'a>(&mut self, piece: &'a [u8]) -> &'a [u8] {
        let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
        let blank = piece.iter().take_while(|byte| is_end(byte)).count();
        let (blank, rest) = piece.split_at(blank);
        if let Some(last) = blank.last() {
            self.newlines += blank.iter().filter(|byte| **byte == b'\n').count() as u64;
            self.last_byte = *last;
            self.line = 1 + self.newlines;
        }
        rest
    }

    fn make_room(&mut self) {
        if self.fields.len() >= self.max_row_bytes {
            // Read on and throw away, up to the end of the record.
            self.is_too_long = true;
            self.field_bytes = 0;
        } else {
            let larger = (self.fields.len() * 2).min(self.max_row_bytes);
            self.fields.resize(larger, 0);
        }
    }

    fn end_record(&mut self, rows: &mut VecDeque<Row>) -> Result<(), Refusal> {
        let line = self.line;
        self.is_between = true;
        // A record ends at its carriage return; the line feed after it is read with the next.
        self.line = 1 + self.newlines + u64::from(self.last_byte == b'\r');
        let is_too_long = std::mem::take(&mut self.is_too_long);
        let field_count = std::mem::take(&mut self.field_count);
        let field_bytes = std::mem::take(&mut self.field_bytes);
        let row = match self.columns {
            _ if is_too_long => too_long(line, self.max_row_bytes),
            Some(columns) => Row {
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
        // What one long record has taken is given back.
        if field_bytes < FIRST_ROOM && self.fields.len() > 16 * FIRST_ROOM {
            self.fields.truncate(FIRST_ROOM);
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
                // The first may have a mark of the byte order before it.
                name.trim_start_matches('\u{feff}').trim().to_lowercase()
            })
            .collect();
        let named = |wanted: &[&str]| names.iter().position(|name| wanted.contains(&name.as_str()));
        let Some(article) = named(&["article", "text"]) else {
            let shown: String = names.join(", ").chars().take(200).collect();
            return Err(no_header(&format!("it is: {shown}")));
        };
        Ok(Columns {
            article,
            summ: named(&["summ", "reference"]),
            count: field_count,
        })
    }

    fn content(&self, columns: Columns, field_count: usize) -> Result<Content, Refusal> {
        if field_count != columns.count {
            let wanted = columns.count;
            return Err(Refusal::new(
                ErrorCode::InvalidRequest,
                format!("the row has {field_count} fields, and the header has {wanted}"),
            ));
        }
        let text = |index: usize| {
            std::str::from_utf8(self.field(index))
                .map(str::to_owned)
                .map_err(|_| Refusal::new(ErrorCode::InvalidRequest, "the row is not UTF-8"))
        };
        let summ = columns.summ.map(text).transpose()?;
        Ok(Content {
            article: text(columns.article)?,
            summ: summ.filter(|summ| !summ.trim().is_empty()),
            metadata: BTreeMap::new(),
        })
    }
}

fn no_header(found: &str) -> Refusal {
    Refusal::new(
        ErrorCode::InvalidRequest,
        format!("the first line of a CSV file names the columns, `article` among them; {found}"),
    )
}

impl Splitter for Csv {
    fn push(&mut self, piece: &[u8], rows: &mut VecDeque<Row>) -> Result<(), Refusal> {
        if piece.is_empty() {
            return Ok(());
        }
        self.read(piece, rows)
    }

    fn finish(&mut self, rows: &mut VecDeque<Row>) -> Result<(), Refusal> {
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

    fn read(file: &[u8], size: usize, max_row_bytes: usize) -> Result<VecDeque<Row>, Refusal> {
        let mut splitter = Csv::new(max_row_bytes);
        let mut rows = VecDeque::new();
        for piece in file.chunks(size) {
            splitter.push(piece, &mut rows)?;
        }
        splitter.finish(&mut rows)?;
        Ok(rows)
    }

    type Seen<'a> = (u64, Result<(&'a str, Option<&'a str>), ErrorCode>);

    fn seen(rows: &VecDeque<Row>) -> Vec<Seen<'_>> {
        rows.iter()
            .map(|row| match &row.content {
                Ok(content) => (row.line, Ok((content.article.as_str(), content.summ.as_deref()))),
                Err(refusal) => (row.line, Err(refusal.code)),
            })
            .collect()
    }

    #[test]
    fn records_are_rows_however_they_are_cut() {
        let file = b"id,Article,summ\r\n1,\"two\nlines, \"\"quoted\"\"\",short\r\n2,plain,\r\n3,too,many,fields\n4,\xff,x\n5,last,one";
        let rows = read(file, 1_000, 1_000).unwrap();
        assert_eq!(
            seen(&rows),
            [
                (2, Ok(("two\nlines, \"quoted\"", Some("short")))),
                (4, Ok(("plain", None))),
                (5, Err(ErrorCode::InvalidRequest)),
                (6, Err(ErrorCode::InvalidRequest)),
                (7, Ok(("last", Some("one")))),
            ]
        );
        for size in [1, 2, 5, 13] {
            assert_eq!(read(file, size, 1_000).unwrap(), rows, "pieces of {size}");
        }
    }

    #[test]
    fn lines_are_counted_over_blank_ones() {
        let file = b"\narticle\r\n\r\nfirst\n\n\n\"second\n\nis long\"\r\n\r\n\r\nthird\n\n";
        for size in [1, 2, 3, 100] {
            let rows = read(file, size, 1_000).unwrap();
            let lines: Vec<u64> = rows.iter().map(|row| row.line).collect();
            assert_eq!(lines, [4, 7, 12], "pieces of {size}");
        }
    }

    #[test]
    fn a_long_record_is_one_bad_row_and_the_next_is_read() {
        let file = format!("article\n{}\nshort\n", "x".repeat(10_000));
        for size in [7, 100_000] {
            let rows = read(file.as_bytes(), size, 5_000).unwrap();
            assert_eq!(
                seen(&rows),
                [(2, Err(ErrorCode::TextTooLong)), (3, Ok(("short", None)))]
            );
        }
        // Longer than the first room, and not too long.
        assert!(read(file.as_bytes(), 512, 20_000).unwrap()[0].content.is_ok());
    }

    #[test]
    fn without_its_header_a_file_is_refused() {
        for file in [&b""[..], b"\xef\xbb\xbf", b"title,body\na,b\n"] {
            let refusal = read(file, 100, 100).unwrap_err();
            assert!(refusal.message.contains("`article`"), "{refusal}");
        }
        // A mark of the byte order is no part of the name.
        assert_eq!(read(b"\xef\xbb\xbfarticle\na\n", 100, 100).unwrap().len(), 1);
    }
}
