//! Tables as CSV, as pandas' `read_csv` reads them.

use std::borrow::Cow;
use std::io::Read as _;

use csv::StringRecord;
use encoding_rs::{Encoding, UTF_8};

use super::error::MlflowError;
use super::table::{COLUMN, Table, python_list};
use crate::compat::legacy_params;

/// A last record. A quote that is never closed swallows it.
const END: &str = "end";

/// Parses a CSV body with a header, in this character set if it isn't UTF-8.
pub(crate) fn from_csv(body: &[u8], charset: Option<&'static Encoding>) -> Result<Table, MlflowError> {
    let text = decode(body, charset)?;
    let rest = format!("\n{END}");
    let records: Vec<StringRecord> = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes().chain(rest.as_bytes()))
        .records()
        .collect::<Result<_, _>>()
        .map_err(|error| failed(&error.to_string()))?;
    if records.last().is_none_or(|last| last != [END][..]) {
        return Err(failed("EOF inside a quoted string"));
    }
    let start_of = |record: &StringRecord| record.position().map_or(0, |at| at.byte() as usize);
    let starts: Vec<usize> = records.iter().map(start_of).collect();
    // A line of spaces and tabs is a blank line, unless they are in quotes.
    let is_blank = |index: usize| {
        let written = text.get(starts[index]..starts[index + 1].min(text.len()));
        written.is_some_and(|line| line.bytes().all(|byte| b" \t\r\n".contains(&byte)))
    };
    // Without the last record.
    let records = records.iter().zip(0..starts.len() - 1);
    let mut records = records
        .filter(|(_, index)| !is_blank(*index))
        .map(|(record, _)| record);
    let Some(header) = records.next() else {
        return Err(failed("No columns to parse from file"));
    };
    let Some(column) = header.iter().position(|name| name == COLUMN) else {
        return Err(MlflowError::missing_column(&python_list(header.iter())));
    };
    let mut articles = Vec::new();
    let mut index = None;
    for record in records {
        // `DataFrame.to_csv(index_label=False)` leaves out the names of the index.
        let index = *index.get_or_insert(record.len().saturating_sub(header.len()));
        let expected = header.len() + index;
        let is_index = |cell: &str| cell.parse::<i64>().is_ok();
        if record.len() > expected || !record.iter().take(index).all(is_index) {
            let line = record.position().map_or(0, csv::Position::line);
            let (given, named) = (record.len(), header.len());
            return Err(failed(&format!(
                "Expected {named} fields in line {line}, saw {given}"
            )));
        }
        // A missing cell is empty.
        articles.push(record.get(column + index).unwrap_or_default().to_owned());
    }
    Ok(Table {
        articles,
        params: legacy_params::defaults(),
    })
}

fn decode<'a>(body: &'a [u8], charset: Option<&'static Encoding>) -> Result<Cow<'a, str>, MlflowError> {
    // A byte order mark beats the declared character set.
    let (charset, mark) = Encoding::for_bom(body).unwrap_or((charset.unwrap_or(UTF_8), 0));
    let text = charset.decode_without_bom_handling_and_without_replacement(&body[mark..]);
    text.ok_or_else(|| {
        MlflowError::bad_request(format!(
            "Invalid input. Ensure that input is a valid {} encoded string.",
            charset.name()
        ))
    })
}

fn failed(problem: &str) -> MlflowError {
    MlflowError::bad_request(format!(
        "Failed to parse input as a Pandas DataFrame. Ensure that the input is a valid CSV-formatted Pandas DataFrame \
         produced using the `pandas.DataFrame.to_csv()` method. Error: '{problem}'"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn articles(text: &str) -> Vec<String> {
        from_csv(text.as_bytes(), None).unwrap().articles
    }

    fn message(body: &[u8]) -> String {
        match from_csv(body, None) {
            Err(MlflowError::Json(body)) => body.message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn rows_are_read_as_pandas_reads_them() {
        for text in [
            "x,article\r\n1,Rain.\r\n2,\"Snow.\"\r\n",
            "article\rRain.\rSnow.",
            "\u{feff}\"article\"\nRain.\nSnow.\n",
            // Blank lines, and lines of spaces.
            "\n \narticle\n\nRain.\n  \nSnow.\n\n",
            "article\n\t \nRain.\r\n \r\nSnow.\n ",
            // Rows that are shorter than the header.
            "article,x,y\nRain.,1\nSnow.\n",
            // The index of a table, with and without a name.
            ",article\n0,Rain.\n1,Snow.\n",
            "article\n0,Rain.\n1,Snow.\n",
        ] {
            assert_eq!(articles(text), ["Rain.", "Snow."], "{text:?}");
        }
        assert_eq!(
            articles("article\n\"He said \"\"no\"\".\nThen he left.\"\n"),
            ["He said \"no\".\nThen he left."]
        );
        // Other white space, and spaces in quotes, are texts.
        assert_eq!(
            articles("article\nRain.\n\" \"\n\u{a0}\n\"\u{3000}\"\nSnow.\n"),
            ["Rain.", " ", "\u{a0}", "\u{3000}", "Snow."]
        );
        assert!(articles("article\n").is_empty());
        assert_eq!(articles("x,article\n1\n"), [""]);
        assert_eq!(articles("article\n\"\"\n"), [""]);
        // The text of the last record is an ordinary text.
        assert_eq!(articles("article\nend"), ["end"]);
    }

    #[test]
    fn a_quote_that_is_never_closed_refuses_the_table() {
        for text in [
            "article\n\"Rain.\nSnow.\n",
            "article\nRain.\n\"Snow.",
            "article\nRain.\n\"",
            "\"article\nRain.\n",
            "article\n\"Rain.\"\"",
        ] {
            assert!(
                message(text.as_bytes()).contains("EOF inside a quoted string"),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_row_with_more_fields_than_the_header_is_refused() {
        // pandas would take `Rain fell` for the index, and ` then snow.` for the article.
        for text in [
            "article\nRain fell, then snow.\n",
            "article,x\nRain.,1\nSnow.,1,2\n",
            "article\n0,Rain.\nx,Snow.\n",
        ] {
            assert!(message(text.as_bytes()).contains("fields in line "), "{text:?}");
        }
    }

    #[test]
    fn other_errors_have_mlflows_wording() {
        assert!(message(b"text\nRain.\n").contains("extra inputs: ['text']"));
        assert!(message(b"article\n\xff\n").contains("valid UTF-8 encoded string"));
        for body in [&b""[..], b"\n\r\n", b"\xef\xbb\xbf"] {
            assert!(message(body).contains("No columns to parse from file"));
        }
    }

    #[test]
    fn a_declared_character_set_is_decoded() {
        let latin = from_csv(b"article\nCaf\xe9.\n", Some(encoding_rs::WINDOWS_1252));
        assert_eq!(latin.unwrap().articles, ["Café."]);
        let marked = from_csv(
            "\u{feff}article\nCafé.\n".as_bytes(),
            Some(encoding_rs::WINDOWS_1252),
        );
        assert_eq!(marked.unwrap().articles, ["Café."]);
    }
}
