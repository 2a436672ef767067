//! CSV (RFC 4180) with a header. Reads the column `article` and, if there is one, `summ`.
//!
//! A line ends with LF, CR or both. A record with malformed quotes is refused, and reading continues on the line after
//! the one on which the record starts. Until a record follows RFC 4180 strictly, a quote in an unquoted field is refused
//! too: it may be the end of the malformed record.

use std::collections::{BTreeMap, VecDeque};

use precis_schemas::error_code::{ErrorCode, Refusal};

use super::rows::{InputRow, RowContent, RowParser, too_long};

/// A record buffer that grew beyond this many bytes is freed after its record.
const KEPT_BUFFER: usize = 64 << 10;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

#[derive(Debug, Clone, Copy)]
struct Columns {
    article: usize,
    summ: Option<usize>,
    count: usize,
}

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
pub(super) struct CsvParser {
    max_row_bytes: usize,
    /// Bytes of the byte order mark at the start of the file. `None` after the start.
    mark: Option<usize>,
    /// Known once the header is parsed.
    columns: Option<Columns>,
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

impl CsvParser {
    /// Creates a parser of records with at most `max_row_bytes` bytes.
    pub(super) fn new(max_row_bytes: usize) -> Self {
        Self {
            max_row_bytes,
            mark: Some(0),
            columns: None,
            state: State::Between,
            record: Vec::new(),
            record_line: 1,
            line: 1,
            is_after_return: false,
            is_recovering: false,
        }
    }

    fn read(&mut self, bytes: &[u8], rows: &mut VecDeque<InputRow>) -> Result<(), Refusal> {
        for byte in bytes {
            self.read_byte(*byte, rows)?;
        }
        Ok(())
    }

    fn read_byte(&mut self, byte: u8, rows: &mut VecDeque<InputRow>) -> Result<(), Refusal> {
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
            (State::FieldStart | State::Unquoted | State::AfterQuote, b',') => State::FieldStart,
            (State::AfterQuote, b'"') => State::Quoted,
            (State::AfterQuote, _) => {
                return self.refuse("a quoted field continues after its last quote", Some(byte), rows);
            }
            (State::Between, _) => {
                self.record_line = self.line;
                match byte {
                    b'"' => State::Quoted,
                    b',' => State::FieldStart,
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
        rows: &mut VecDeque<InputRow>,
    ) -> Result<(), Refusal> {
        if self.columns.is_none() {
            return Err(no_header(problem));
        }
        let refusal = Refusal::new(ErrorCode::InvalidRequest, format!("malformed quotes: {problem}"));
        self.refuse_with(Err(refusal), next, rows)
    }

    fn refuse_too_long(&mut self, next: u8, rows: &mut VecDeque<InputRow>) -> Result<(), Refusal> {
        if self.columns.is_none() {
            return Err(no_header("the first line is too long"));
        }
        let row = too_long(self.record_line, self.max_row_bytes);
        self.refuse_with(row.content, Some(next), rows)
    }

    /// Refuses the current record. Reads what follows its first line again, and then `next`.
    fn refuse_with(
        &mut self,
        content: Result<RowContent, Refusal>,
        next: Option<u8>,
        rows: &mut VecDeque<InputRow>,
    ) -> Result<(), Refusal> {
        rows.push_back(InputRow {
            line: self.record_line,
            content,
        });
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

    fn end_record(&mut self, rows: &mut VecDeque<InputRow>) -> Result<(), Refusal> {
        let record = std::mem::take(&mut self.record);
        self.state = State::Between;
        self.is_recovering = false;
        let fields = fields_of(&record);
        match self.columns {
            Some(columns) => rows.push_back(InputRow {
                line: self.record_line,
                content: content(columns, &fields),
            }),
            None => self.columns = Some(columns_of(&fields)?),
        }
        if record.capacity() <= KEPT_BUFFER {
            self.record = record;
            self.record.clear();
        }
        Ok(())
    }
}

/// Splits a well-formed record into its fields.
fn fields_of(record: &[u8]) -> Vec<Vec<u8>> {
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
            b',' if !is_quoted => {
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

fn columns_of(fields: &[Vec<u8>]) -> Result<Columns, Refusal> {
    let names: Vec<String> = fields
        .iter()
        .map(|field| String::from_utf8_lossy(field).trim().to_lowercase())
        .collect();
    let named = |aliases: &[&str]| {
        let mut found = (0..names.len()).filter(|index| aliases.contains(&names[*index].as_str()));
        match (found.next(), found.next()) {
            (Some(first), Some(second)) => Err(Refusal::new(
                ErrorCode::InvalidRequest,
                format!(
                    "columns {} (`{}`) and {} (`{}`) of the CSV file mean the same; keep one",
                    first + 1,
                    names[first],
                    second + 1,
                    names[second]
                ),
            )),
            (first, _) => Ok(first),
        }
    };
    let Some(article) = named(&["article", "text"])? else {
        let shown: String = names.join(", ").chars().take(200).collect();
        return Err(no_header(&format!("it names: {shown}")));
    };
    Ok(Columns {
        article,
        summ: named(&["summ", "reference"])?,
        count: names.len(),
    })
}

fn content(columns: Columns, fields: &[Vec<u8>]) -> Result<RowContent, Refusal> {
    if fields.len() != columns.count {
        let (given, expected) = (fields.len(), columns.count);
        return Err(Refusal::new(
            ErrorCode::InvalidRequest,
            format!("the row has {given} fields, but the header has {expected}"),
        ));
    }
    let text = |index: usize| {
        std::str::from_utf8(&fields[index])
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

fn no_header(problem: &str) -> Refusal {
    Refusal::new(
        ErrorCode::InvalidRequest,
        format!("the first line of a CSV file must name its columns, including `article`; {problem}"),
    )
}

impl RowParser for CsvParser {
    fn push(&mut self, chunk: &[u8], rows: &mut VecDeque<InputRow>) -> Result<(), Refusal> {
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

    fn finish(&mut self, rows: &mut VecDeque<InputRow>) -> Result<(), Refusal> {
        while self.state == State::Quoted {
            self.refuse("the quote at the start of a field is never closed", None, rows)?;
        }
        if !matches!(self.state, State::Between | State::Skipped) {
            self.end_record(rows)?;
        }
        if self.columns.is_none() {
            return Err(no_header("the file is empty"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
