//! Parses files into rows while they arrive. A malformed row is a row with an error, and reading goes on after it.

mod csv;
mod decode;
mod json_lines;
mod json_list;

use std::collections::VecDeque;

use precis_schemas::error_code::{ErrorCode, Refusal};

pub use self::csv::CsvParser;
pub use self::decode::DecodingParser;
pub use self::json_lines::JsonLinesParser;
pub use self::json_list::JsonListParser;

/// An incremental parser of a file.
pub trait RowParser<Row>: Send {
    /// Parses the next chunk and adds the rows that it completes.
    ///
    /// # Errors
    /// If the whole file is unreadable, for example without its header.
    fn push(&mut self, chunk: &[u8], rows: &mut VecDeque<Row>) -> Result<(), Refusal>;

    /// Adds the row that the end of the file completes.
    ///
    /// # Errors
    /// See [`RowParser::push`].
    fn finish(&mut self, rows: &mut VecDeque<Row>) -> Result<(), Refusal>;
}

impl<Row, P: RowParser<Row> + ?Sized> RowParser<Row> for Box<P> {
    fn push(&mut self, chunk: &[u8], rows: &mut VecDeque<Row>) -> Result<(), Refusal> {
        (**self).push(chunk, rows)
    }

    fn finish(&mut self, rows: &mut VecDeque<Row>) -> Result<(), Refusal> {
        (**self).finish(rows)
    }
}

/// Makes rows of the records of a file.
pub trait RecordReader: Send {
    /// A row.
    type Row: Send;

    /// Reads the header of a CSV file, before any record.
    ///
    /// # Errors
    /// If the file has not the columns that it needs.
    fn header(&mut self, names: &[Vec<u8>]) -> Result<(), Refusal>;

    /// Makes a row of a record of a CSV file.
    fn fields(&self, line: u64, fields: Vec<Vec<u8>>) -> Self::Row;

    /// Makes a row of a JSON value. It may be malformed.
    fn json(&self, line: u64, text: &[u8]) -> Self::Row;

    /// Makes a row of a malformed record.
    fn refused(&self, line: u64, refusal: Refusal) -> Self::Row;

    /// Returns the refusal of a CSV file whose header can't be read.
    fn no_header(&self, problem: &str) -> Refusal;
}

/// Returns the refusal of a row with more than `max_row_bytes` bytes.
fn too_long(max_row_bytes: usize) -> Refusal {
    let message = format!("the row has more than {max_row_bytes} bytes");
    Refusal::new(ErrorCode::TextTooLong, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the first field of a record, and a JSON string or its `article`.
    pub(super) struct Texts;

    impl RecordReader for Texts {
        type Row = (u64, Result<String, ErrorCode>);

        fn header(&mut self, _names: &[Vec<u8>]) -> Result<(), Refusal> {
            Ok(())
        }

        fn fields(&self, line: u64, fields: Vec<Vec<u8>>) -> Self::Row {
            let text = fields.into_iter().next().map(String::from_utf8);
            match text {
                Some(Ok(text)) => (line, Ok(text)),
                _ => (line, Err(ErrorCode::InvalidRequest)),
            }
        }

        fn json(&self, line: u64, text: &[u8]) -> Self::Row {
            let value: serde_json::Value = serde_json::from_slice(text).unwrap_or_default();
            let text = value.as_str().or_else(|| value.get("article")?.as_str());
            (line, text.map(str::to_owned).ok_or(ErrorCode::InvalidRequest))
        }

        fn refused(&self, line: u64, refusal: Refusal) -> Self::Row {
            (line, Err(refusal.code))
        }

        fn no_header(&self, problem: &str) -> Refusal {
            Refusal::new(ErrorCode::InvalidRequest, problem)
        }
    }
}
