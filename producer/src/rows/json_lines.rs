//! JSON Lines: a JSON value per line. Blank lines are skipped.

use std::collections::VecDeque;

use precis_schemas::error_code::Refusal;

use super::{RecordReader, RowParser, too_long};

/// A parser of JSON Lines files.
#[derive(Debug)]
pub struct JsonLinesParser<R> {
    reader: R,
    max_row_bytes: usize,
    line: u64,
    /// The current line. Empty if the line is too long.
    buffer: Vec<u8>,
    is_too_long: bool,
}

impl<R: RecordReader> JsonLinesParser<R> {
    /// Creates a parser of lines with at most `max_row_bytes` bytes.
    pub fn new(max_row_bytes: usize, reader: R) -> Self {
        Self {
            reader,
            max_row_bytes,
            line: 1,
            buffer: Vec::new(),
            is_too_long: false,
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        if self.buffer.len() + bytes.len() > self.max_row_bytes {
            self.is_too_long = true;
            self.buffer = Vec::new();
        }
        if !self.is_too_long {
            self.buffer.extend_from_slice(bytes);
        }
    }

    fn end_line(&mut self, rows: &mut VecDeque<R::Row>) {
        if self.is_too_long {
            rows.push_back(self.reader.refused(self.line, too_long(self.max_row_bytes)));
        } else {
            let start = match self.line {
                1 => self.buffer.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.buffer),
                _ => &self.buffer,
            };
            let bytes = start.trim_ascii();
            if !bytes.is_empty() {
                rows.push_back(self.reader.json(self.line, bytes));
            }
        }
        self.buffer.clear();
        self.is_too_long = false;
        self.line += 1;
    }
}

impl<R: RecordReader> RowParser<R::Row> for JsonLinesParser<R> {
    fn push(&mut self, chunk: &[u8], rows: &mut VecDeque<R::Row>) -> Result<(), Refusal> {
        let mut lines = chunk.split(|byte| *byte == b'\n');
        if let Some(rest) = lines.next() {
            self.add(rest);
        }
        for line in lines {
            self.end_line(rows);
            self.add(line);
        }
        Ok(())
    }

    fn finish(&mut self, rows: &mut VecDeque<R::Row>) -> Result<(), Refusal> {
        if self.is_too_long || !self.buffer.is_empty() {
            self.end_line(rows);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use precis_schemas::ErrorCode;

    use super::super::tests::Texts;
    use super::*;

    #[test]
    fn rows_do_not_depend_on_chunk_sizes() {
        let file = "\u{feff}{\"article\": \"é\"}\r\n\n\"b\"\nnonsense\n\"0123456789012345678901234567\"\n[\n\"last\"";
        let read = |size: usize| {
            let mut parser = JsonLinesParser::new(24, Texts);
            let mut rows = VecDeque::new();
            for chunk in file.as_bytes().chunks(size) {
                parser.push(chunk, &mut rows).unwrap();
            }
            parser.finish(&mut rows).unwrap();
            rows
        };
        let rows = read(1);
        let ok = |text: &str| Ok(text.to_owned());
        assert_eq!(
            rows,
            [
                (1, ok("é")),
                (3, ok("b")),
                (4, Err(ErrorCode::InvalidRequest)),
                (5, Err(ErrorCode::TextTooLong)),
                (6, Err(ErrorCode::InvalidRequest)),
                (7, ok("last")),
            ]
        );
        for size in 2..=file.len() {
            assert_eq!(read(size), rows, "chunks of {size}");
        }
    }

    proptest::proptest! {
        #[test]
        fn rows_are_the_same_however_the_bytes_are_cut(
            file in "[\u{feff}a\"{}:\\\\ \r\n]{0,60}",
            cuts in proptest::collection::vec(1_usize..9, 1..20),
            max in 4_usize..40,
        ) {
            let read = |sizes: &mut dyn Iterator<Item = usize>| {
                let mut parser = JsonLinesParser::new(max, Texts);
                let (mut rows, mut rest) = (VecDeque::new(), file.as_bytes());
                while !rest.is_empty() {
                    let (chunk, after) = rest.split_at(sizes.next().unwrap_or(usize::MAX).min(rest.len()));
                    parser.push(chunk, &mut rows).unwrap();
                    rest = after;
                }
                parser.finish(&mut rows).unwrap();
                rows
            };
            let whole = read(&mut std::iter::empty());
            proptest::prop_assert_eq!(read(&mut cuts.iter().copied().cycle()), whole);
        }
    }
}
