//! Files in UTF-8, in UTF-16 with a byte order mark, or in a declared character set.

use std::collections::VecDeque;

use encoding_rs::{Decoder, DecoderResult, Encoding};
use precis_schemas::error_code::Refusal;

use super::RowParser;

/// Bytes of text to decode at once.
const BUFFER_BYTES: usize = 8 << 10;

/// Decodes a file for a parser that reads UTF-8. A byte order mark beats the declared character set.
pub struct DecodingParser<P> {
    decoder: Decoder,
    parser: P,
}

impl<P> DecodingParser<P> {
    /// Decodes from `charset` for `parser`.
    pub fn new(charset: &'static Encoding, parser: P) -> Self {
        Self {
            decoder: charset.new_decoder(),
            parser,
        }
    }

    fn decode<Row>(
        &mut self,
        mut bytes: &[u8],
        is_last: bool,
        rows: &mut VecDeque<Row>,
    ) -> Result<(), Refusal>
    where
        P: RowParser<Row>,
    {
        let mut text = [0; BUFFER_BYTES];
        loop {
            let (result, read, written) = self
                .decoder
                .decode_to_utf8_without_replacement(bytes, &mut text, is_last);
            self.parser.push(&text[..written], rows)?;
            bytes = &bytes[read..];
            match result {
                DecoderResult::InputEmpty => return Ok(()),
                DecoderResult::OutputFull => {}
                // No text has this byte, so the parser refuses the row.
                DecoderResult::Malformed(..) => self.parser.push(b"\xff", rows)?,
            }
        }
    }
}

impl<Row, P: RowParser<Row>> RowParser<Row> for DecodingParser<P> {
    fn push(&mut self, chunk: &[u8], rows: &mut VecDeque<Row>) -> Result<(), Refusal> {
        self.decode(chunk, false, rows)
    }

    fn finish(&mut self, rows: &mut VecDeque<Row>) -> Result<(), Refusal> {
        self.decode(&[], true, rows)?;
        self.parser.finish(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::super::CsvParser;
    use super::super::tests::Texts;
    use super::*;

    fn read(charset: &str, file: &[u8], size: usize) -> Vec<(u64, Option<String>)> {
        let charset = Encoding::for_label(charset.as_bytes()).unwrap();
        let mut parser = DecodingParser::new(charset, CsvParser::new(1_000, Texts));
        let mut rows = VecDeque::new();
        for chunk in file.chunks(size) {
            parser.push(chunk, &mut rows).unwrap();
        }
        parser.finish(&mut rows).unwrap();
        rows.into_iter().map(|(line, text)| (line, text.ok())).collect()
    }

    fn utf_16(text: &str, bytes_of: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes_of).collect()
    }

    #[test]
    fn a_declared_character_set_is_decoded_however_the_bytes_are_cut() {
        let text = "article\r\n\"Café – \u{1f327}\"\r\nSnow.\r\n";
        let rows = vec![
            (2, Some("Café – \u{1f327}".to_owned())),
            (3, Some("Snow.".to_owned())),
        ];
        let marked = format!("\u{feff}{text}");
        for (charset, file) in [
            ("utf-16le", utf_16(text, u16::to_le_bytes)),
            ("utf-16be", utf_16(text, u16::to_be_bytes)),
            ("utf-16", utf_16(&marked, u16::to_le_bytes)),
            // The mark says which byte comes first.
            ("utf-16", utf_16(&marked, u16::to_be_bytes)),
            ("utf-8", utf_16(&marked, u16::to_le_bytes)),
            ("utf-8", utf_16(&marked, u16::to_be_bytes)),
            ("utf-8", text.as_bytes().to_vec()),
            ("latin1", marked.into_bytes()),
            ("gb18030", encoding_rs::GB18030.encode(text).0.into_owned()),
        ] {
            for size in 1..=file.len() {
                assert_eq!(read(charset, &file, size), rows, "{charset}, chunks of {size}");
            }
        }
        let latin = b"article\nCaf\xe9 \x96 10 \x80\n";
        assert_eq!(
            read("iso-8859-1", latin, 1),
            [(2, Some("Café – 10 €".to_owned()))]
        );
    }

    #[test]
    fn bytes_that_are_not_text_refuse_only_their_row() {
        let mut file = utf_16("article\nRain.\nx", u16::to_le_bytes);
        file.extend([0x00, 0xd8]);
        file.extend(utf_16("\nSnow.\n", u16::to_le_bytes));
        for size in 1..=file.len() {
            assert_eq!(
                read("utf-16le", &file, size),
                [
                    (2, Some("Rain.".to_owned())),
                    (3, None),
                    (4, Some("Snow.".to_owned()))
                ]
            );
        }
        // Half a unit at the end.
        let file = [&utf_16("article\nRain.", u16::to_le_bytes)[..], b"x"].concat();
        assert_eq!(read("utf-16le", &file, 3), [(2, None)]);
    }
}
