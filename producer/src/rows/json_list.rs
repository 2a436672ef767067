//! A JSON list of values, read as a stream: only the current value is in memory.

use std::collections::VecDeque;

use precis_schemas::error_code::{ErrorCode, Refusal};

use super::{RecordReader, RowParser, too_long};

/// The position of the parser in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the bracket that opens the list.
    Start,
    /// Before a value, or the bracket that closes the list.
    Between,
    /// In a value, outside its strings.
    Value,
    /// In a string of a value.
    String,
    /// After a backslash in a string.
    Escape,
    /// After the list.
    End,
}

/// A parser of JSON files with one list. A malformed value is a bad row as long as its brackets and quotes match.
#[derive(Debug)]
pub struct JsonListParser<R> {
    reader: R,
    max_row_bytes: usize,
    state: State,
    /// Brackets and braces of the current value that are open.
    depth: usize,
    line: u64,
    /// The line on which the current value starts.
    value_line: u64,
    /// The current value. Empty if it is too long.
    buffer: Vec<u8>,
    is_too_long: bool,
    /// Bytes at the start of the file that may be a byte order mark.
    mark: usize,
}

impl<R: RecordReader> JsonListParser<R> {
    /// Creates a parser of values with at most `max_row_bytes` bytes.
    pub fn new(max_row_bytes: usize, reader: R) -> Self {
        Self {
            reader,
            max_row_bytes,
            state: State::Start,
            depth: 0,
            line: 1,
            value_line: 1,
            buffer: Vec::new(),
            is_too_long: false,
            mark: 0,
        }
    }

    fn add(&mut self, byte: u8) {
        if self.buffer.len() >= self.max_row_bytes {
            self.is_too_long = true;
            self.buffer = Vec::new();
        }
        if !self.is_too_long {
            self.buffer.push(byte);
        }
    }

    fn end_value(&mut self, rows: &mut VecDeque<R::Row>) {
        let row = match self.is_too_long {
            true => self.reader.refused(self.value_line, too_long(self.max_row_bytes)),
            false => self.reader.json(self.value_line, self.buffer.trim_ascii()),
        };
        rows.push_back(row);
        self.buffer.clear();
        self.is_too_long = false;
    }

    fn read_byte(&mut self, byte: u8, rows: &mut VecDeque<R::Row>) -> Result<(), Refusal> {
        self.line += u64::from(byte == b'\n');
        let is_space = byte.is_ascii_whitespace();
        match self.state {
            State::Start if is_space => {}
            State::Start if byte == b'[' => self.state = State::Between,
            State::Start => return Err(not_a_list("it does not start with `[`")),
            State::End if is_space => {}
            State::End => return Err(not_a_list(&format!("line {} goes on after the list", self.line))),
            State::Between if is_space => {}
            State::Between if byte == b']' => self.state = State::End,
            State::Between => {
                (self.value_line, self.state, self.depth) = (self.line, State::Value, 0);
                return self.read_byte_of_value(byte, rows);
            }
            State::Value => return self.read_byte_of_value(byte, rows),
            State::Escape => {
                self.state = State::String;
                self.add(byte);
            }
            State::String => {
                self.state = match byte {
                    b'"' => State::Value,
                    b'\\' => State::Escape,
                    _ => State::String,
                };
                self.add(byte);
            }
        }
        Ok(())
    }

    fn read_byte_of_value(&mut self, byte: u8, rows: &mut VecDeque<R::Row>) -> Result<(), Refusal> {
        match byte {
            b',' | b']' if self.depth == 0 => {
                self.end_value(rows);
                self.state = match byte {
                    b',' => State::Between,
                    _ => State::End,
                };
                return Ok(());
            }
            b'"' => self.state = State::String,
            b'[' | b'{' => self.depth += 1,
            b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.add(byte);
        Ok(())
    }
}

fn not_a_list(problem: &str) -> Refusal {
    Refusal::new(
        ErrorCode::InvalidRequest,
        format!("a JSON file must be a list of texts or objects; {problem}"),
    )
}

impl<R: RecordReader> RowParser<R::Row> for JsonListParser<R> {
    fn push(&mut self, chunk: &[u8], rows: &mut VecDeque<R::Row>) -> Result<(), Refusal> {
        const MARK: &[u8] = b"\xef\xbb\xbf";
        for byte in chunk {
            if self.state == State::Start && MARK.get(self.mark) == Some(byte) {
                self.mark += 1;
                continue;
            }
            self.read_byte(*byte, rows)?;
        }
        Ok(())
    }

    fn finish(&mut self, _rows: &mut VecDeque<R::Row>) -> Result<(), Refusal> {
        match self.state {
            State::End => Ok(()),
            State::Start => Err(not_a_list("it is empty")),
            State::Between => Err(not_a_list("it ends before the `]` that closes the list")),
            State::Value | State::String | State::Escape => Err(not_a_list(&format!(
                "the value that starts on line {} never ends",
                self.value_line
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Texts;
    use super::*;

    type Rows = VecDeque<(u64, Result<String, ErrorCode>)>;

    fn read(file: &str, size: usize) -> Result<Rows, Refusal> {
        let mut parser = JsonListParser::new(40, Texts);
        let mut rows = VecDeque::new();
        for chunk in file.as_bytes().chunks(size) {
            parser.push(chunk, &mut rows)?;
        }
        parser.finish(&mut rows)?;
        Ok(rows)
    }

    #[test]
    fn values_do_not_depend_on_chunk_sizes() {
        let file = "\u{feff}[\n{\"article\": \"a \\\"],{ b\", \"x\": [{}, [1]]},\n \"c\"\n,nonsense, {\"article\":},\n\"0123456789012345678901234567890123456789\", \"last\"]\n";
        let ok = |text: &str| Ok(text.to_owned());
        for size in 1..=file.len() {
            assert_eq!(
                read(file, size).unwrap(),
                [
                    (2, ok("a \"],{ b")),
                    (3, ok("c")),
                    (4, Err(ErrorCode::InvalidRequest)),
                    (4, Err(ErrorCode::InvalidRequest)),
                    (5, Err(ErrorCode::TextTooLong)),
                    (5, ok("last")),
                ],
                "chunks of {size}"
            );
        }
        assert!(read(" [ ] ", 1).unwrap().is_empty());
    }

    #[test]
    fn a_file_that_is_no_list_is_refused_with_the_reason() {
        for (file, part) in [
            ("", "empty"),
            ("{\"article\": \"a\"}", "does not start with `[`"),
            ("[\"a\"", "line 1 never ends"),
            ("[\"a\",", "before the `]`"),
            ("[\"a\"]\n[\"b\"]", "line 2 goes on"),
        ] {
            let refusal = read(file, 3).unwrap_err();
            assert!(refusal.message.contains(part), "{refusal}");
        }
    }
}
