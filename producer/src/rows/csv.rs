//! CSV (RFC 4180) with a header, or the same with another delimiter.
//!
//! A line ends with LF, CR or both. A record with malformed quotes is refused, and reading continues on the line after
//! the one on which the record starts. Until a record follows RFC 4180 strictly, a quote in an unquoted field is refused
//! too: it may be the end of the malformed record.

use std::collections::VecDeque;

use precis_schemas::error_code::{ErrorCode, Refusal};

use super::{RecordReader, RowParser, too_long};

/// A record buffer that grew beyond this many bytes is freed after its record.
const KEPT_BUFFER: usize = 64 << 10;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The position of the parser in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between two records.
    Between,
    /// Before the first byte of a field.
    FieldStart,
    /// In a field without quotes.
    Unquoted,
    /// Between the quotes of a field.
    Quoted,
    /// After a quote in a quoted field: it ends the field, or is the first of two.
    AfterQuote,
    /// In a line that is refused.
    Skipped,
}

/// A parser of CSV files.
#[derive(Debug)]
pub struct CsvParser<R> {
    reader: R,
    max_row_bytes: usize,
    delimiter: u8,
    /// Bytes of the byte order mark at the start of the file. `None` after the start.
    mark: Option<usize>,
    /// Whether the header is parsed.
    has_header: bool,
    state: State,
    /// The bytes of the current record.
    record: Vec<u8>,
    /// The line on which the current record starts.
    record_line: u64,
    /// The current line.
    line: u64,
    /// Whether the last byte was a carriage return: a line feed then belongs to the same line end.
    is_after_return: bool,
    /// Whether the record before was malformed.
    is_recovering: bool,
}

impl<R: RecordReader> CsvParser<R> {
    /// Creates a parser of records with at most `max_row_bytes` bytes, whose fields a comma separates.
    pub fn new(max_row_bytes: usize, reader: R) -> Self {
        Self {
            reader,
            max_row_bytes,
            delimiter: b',',
            mark: Some(0),
            has_header: false,
            state: State::Between,
            record: Vec::new(),
            record_line: 1,
            line: 1,
            is_after_return: false,
            is_recovering: false,
        }
    }

    /// Separates fields by another ASCII character than a comma.
    #[must_use]
    pub fn with_delimiter(self, delimiter: u8) -> Self {
        Self { delimiter, ..self }
    }

    fn read(&mut self, bytes: &[u8], rows: &mut VecDeque<R::Row>) -> Result<(), Refusal> {
        for byte in bytes {
            self.read_byte(*byte, rows)?;
        }
        Ok(())
    }

    fn read_byte(&mut self, byte: u8, rows: &mut VecDeque<R::Row>) -> Result<(), Refusal> {
        let is_line_end = matches!(byte, b'\n' | b'\r');
        if is_line_end && !(byte == b'\n' && self.is_after_return) {
            self.line += 1;
        }
        self.is_after_return = byte == b'\r';
        let next = match (self.state, byte) {
            (State::Between, _) if is_line_end => return Ok(()),
            (State::Skipped, _) if is_line_end => State::Between,
            (State::Skipped, _) => return Ok(()),
            (State::Quoted, b'"') => State::AfterQuote,
            (State::Quoted, _) => State::Quoted,
            (State::FieldStart | State::Unquoted | State::AfterQuote, _) if is_line_end => {
                return self.end_record(rows);
            }
            (State::FieldStart | State::Unquoted | State::AfterQuote, _) if byte == self.delimiter => {
                State::FieldStart
            }
            (State::AfterQuote, b'"') => State::Quoted,
            (State::AfterQuote, _) => {
                return self.refuse("a quoted field continues after its last quote", Some(byte), rows);
            }
            (State::Between, _) => {
                self.record_line = self.line;
                match byte {
                    b'"' => State::Quoted,
                    _ if byte == self.delimiter => State::FieldStart,
                    _ => State::Unquoted,
                }
            }
            (State::FieldStart, b'"') => State::Quoted,
            (State::Unquoted, b'"') if self.is_recovering => {
                return self.refuse("a quote stands in an unquoted field", Some(byte), rows);
            }
            (State::FieldStart | State::Unquoted, _) => State::Unquoted,
        };
        self.state = next;
        if next == State::Between {
            return Ok(());
        }
        if self.record.len() >= self.max_row_bytes {
            return self.refuse_too_long(byte, rows);
        }
        self.record.push(byte);
        Ok(())
    }

    /// Refuses the current record because of its quotes, which `next` shows: the byte after it, or none at the end.
    fn refuse(
        &mut self,
        problem: &str,
        next: Option<u8>,
        rows: &mut VecDeque<R::Row>,
    ) -> Result<(), Refusal> {
        if !self.has_header {
            return Err(self.reader.no_header(problem));
        }
        let refusal = Refusal::new(ErrorCode::InvalidRequest, format!("malformed quotes: {problem}"));
        self.refuse_with(self.reader.refused(self.record_line, refusal), next, rows)
    }

    fn refuse_too_long(&mut self, next: u8, rows: &mut VecDeque<R::Row>) -> Result<(), Refusal> {
        if !self.has_header {
            return Err(self.reader.no_header("the first line is too long"));
        }
        let row = self
            .reader
            .refused(self.record_line, too_long(self.max_row_bytes));
        self.refuse_with(row, Some(next), rows)
    }

    /// Refuses the current record. Reads what follows its first line again, and then `next`.
    fn refuse_with(
        &mut self,
        row: R::Row,
        next: Option<u8>,
        rows: &mut VecDeque<R::Row>,
    ) -> Result<(), Refusal> {
        rows.push_back(row);
        self.is_recovering = true;
        let record = std::mem::take(&mut self.record);
        match record.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            // The record has one line so far. The rest of the line belongs to it.
            None => {
                self.state = State::Skipped;
                self.line = self.record_line;
                self.is_after_return = false;
            }
            Some(end) => {
                let end = end + if record[end..].starts_with(b"\r\n") { 2 } else { 1 };
                self.state = State::Between;
                self.line = self.record_line + 1;
                self.is_after_return = record[end - 1] == b'\r';
                self.read(&record[end..], rows)?;
            }
        }
        next.map_or(Ok(()), |byte| self.read_byte(byte, rows))
    }

    fn end_record(&mut self, rows: &mut VecDeque<R::Row>) -> Result<(), Refusal> {
        let record = std::mem::take(&mut self.record);
        self.state = State::Between;
        self.is_recovering = false;
        let fields = fields_of(&record, self.delimiter);
        if self.has_header {
            rows.push_back(self.reader.fields(self.record_line, fields));
        } else {
            self.reader.header(&fields)?;
            self.has_header = true;
        }
        if record.capacity() <= KEPT_BUFFER {
            self.record = record;
            self.record.clear();
        }
        Ok(())
    }
}

/// Splits a well-formed record into its fields.
fn fields_of(record: &[u8], delimiter: u8) -> Vec<Vec<u8>> {
    let mut fields = vec![Vec::new()];
    let (mut is_quoted, mut is_start) = (false, true);
    let mut bytes = record.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' if is_quoted && bytes.peek() == Some(&b'"') => {
                bytes.next();
            }
            b'"' if is_quoted => {
                is_quoted = false;
                continue;
            }
            b'"' if is_start => {
                (is_quoted, is_start) = (true, false);
                continue;
            }
            _ if byte == delimiter && !is_quoted => {
                fields.push(Vec::new());
                is_start = true;
                continue;
            }
            _ => {}
        }
        is_start = false;
        if let Some(field) = fields.last_mut() {
            field.push(byte);
        }
    }
    fields
}

impl<R: RecordReader> RowParser<R::Row> for CsvParser<R> {
    fn push(&mut self, chunk: &[u8], rows: &mut VecDeque<R::Row>) -> Result<(), Refusal> {
        let mut rest = chunk;
        while let (Some(matched), Some((byte, after))) = (self.mark, rest.split_first()) {
            if BYTE_ORDER_MARK.get(matched) == Some(byte) {
                self.mark = Some(matched + 1);
                rest = after;
            } else {
                self.mark = None;
                if matched < BYTE_ORDER_MARK.len() {
                    self.read(&BYTE_ORDER_MARK[..matched], rows)?;
                }
            }
        }
        self.read(rest, rows)
    }

    fn finish(&mut self, rows: &mut VecDeque<R::Row>) -> Result<(), Refusal> {
        while self.state == State::Quoted {
            self.refuse("the quote at the start of a field is never closed", None, rows)?;
        }
        if !matches!(self.state, State::Between | State::Skipped) {
            self.end_record(rows)?;
        }
        if !self.has_header {
            return Err(self.reader.no_header("the file is empty"));
        }
        Ok(())
    }
}
