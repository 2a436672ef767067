//! Tests of the CSV reader.

use std::collections::VecDeque;

use precis_producer::rows::{CsvParser, RowParser as _};

use super::*;

fn read(file: &[u8], size: usize, max_row_bytes: usize) -> Result<VecDeque<InputRow>, Refusal> {
    read_columns(file, size, max_row_bytes, ColumnOptions::default())
}

fn read_columns(
    file: &[u8],
    size: usize,
    max_row_bytes: usize,
    options: ColumnOptions,
) -> Result<VecDeque<InputRow>, Refusal> {
    let options = ColumnOptions {
        max_kept: 3,
        max_value_bytes: 100,
        ..options
    };
    let mut parser = CsvParser::new(max_row_bytes, UploadRows::new(options));
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

/// What a file's rows are: the line with the text, or `None` for a refused row.
fn outline(file: &[u8]) -> Vec<(u64, Option<String>)> {
    let whole = read(file, file.len().max(1), 1_000).unwrap();
    for size in 1..=file.len().min(40) {
        assert_eq!(read(file, size, 1_000).unwrap(), whole, "chunks of {size}");
    }
    let text = |row: InputRow| (row.line, row.content.ok().map(|content| content.article));
    whole.into_iter().map(text).collect()
}

fn good(line: u64, text: &str) -> (u64, Option<String>) {
    (line, Some(text.to_owned()))
}

#[test]
fn a_quote_that_is_never_closed_refuses_only_its_row() {
    let file = b"article\r\n\"Rain.\r\nSnow.\r\nWind.\r\n";
    assert_eq!(outline(file), [(2, None), good(3, "Snow."), good(4, "Wind.")]);
    let file = b"article\n\"Rain.\n\"Snow, again.\"\nWind.";
    assert_eq!(
        outline(file),
        [(2, None), good(3, "Snow, again."), good(4, "Wind.")]
    );
    let file = b"article\nRain.\n\"Snow";
    assert_eq!(outline(file), [good(2, "Rain."), (3, None)]);
}

#[test]
fn text_after_a_closing_quote_refuses_the_record_with_all_its_lines() {
    // The second line may belong to the malformed record: its quote stands in an unquoted field.
    let file = b"article\n\"He said \"no\", then\nleft.\"\nWind.\nA 5\" pipe.\n";
    assert_eq!(
        outline(file),
        [(2, None), (3, None), good(4, "Wind."), good(5, "A 5\" pipe.")]
    );
}

#[test]
fn a_quote_that_swallows_too_much_is_closed_after_its_line() {
    let file = format!("article\n\"Rain.\nSnow.\n{}\nWind.\n", "x".repeat(3_000));
    let rows = read(file.as_bytes(), 7, 2_000).unwrap();
    assert_eq!(
        parsed(&rows),
        [
            (2, Err(ErrorCode::TextTooLong)),
            (3, Ok(("Snow.", None))),
            (4, Err(ErrorCode::TextTooLong)),
            (5, Ok(("Wind.", None))),
        ]
    );
    assert_eq!(read(file.as_bytes(), 100_000, 2_000).unwrap(), rows);
}

#[test]
fn every_kind_of_line_end_counts() {
    for end in ["\n", "\r", "\r\n"] {
        let file = ["article", "a", "\"b", "c\"", "d", "", "e"].join(end);
        let lines: Vec<u64> = outline(file.as_bytes()).iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [2, 3, 5, 7], "{end:?}");
    }
}

#[test]
fn a_byte_order_mark_before_a_quoted_header_is_skipped_however_it_is_cut() {
    assert_eq!(outline(b"\xef\xbb\xbf\"article\"\na\n"), [good(2, "a")]);
    // Part of a mark is text.
    assert!(read(b"\xef\xbbarticle\na\n", 1, 100).is_err());
}

#[test]
fn two_columns_with_one_meaning_are_refused_by_name() {
    for (header, names) in [
        ("id,text,article,summ", ["`text`", "`article`"]),
        ("article,reference,summ", ["`reference`", "`summ`"]),
        ("article,article", ["`article`", "`article`"]),
    ] {
        let refusal = read(format!("{header}\n").as_bytes(), 100, 100).unwrap_err();
        assert!(
            names.iter().all(|name| refusal.message.contains(name)),
            "{refusal}"
        );
    }
}

#[test]
fn other_columns_become_metadata_of_good_and_bad_rows() {
    let file = b"id,Title,article,,summ\r\n7, A ,Rain.,x,\r\n8,B,,x,\r\n9,C,Rain, snow.,x,\r\n10\r\n";
    let rows = read(file, 5, 1_000).unwrap();
    let metadata: Vec<Vec<(&str, &str)>> = rows
        .iter()
        .map(|row| {
            row.metadata
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect()
        })
        .collect();
    assert_eq!(
        metadata,
        [
            vec![("Title", " A "), ("id", "7")],
            vec![("Title", "B"), ("id", "8")],
            // Six fields: those before the text are in place.
            vec![("Title", "C"), ("id", "9")],
            vec![("id", "10")],
        ]
    );
    let read: Vec<bool> = rows.iter().map(|row| row.content.is_ok()).collect();
    assert_eq!(read, [true, true, false, false]);
    let not_text = read_columns(b"id,article\n\xff,Rain.\n", 9, 100, ColumnOptions::default()).unwrap();
    assert!(not_text[0].content.is_err() && not_text[0].metadata.is_empty());
}

#[test]
fn a_long_value_is_left_out_unless_its_column_was_named() {
    let long = "x".repeat(101);
    let file = format!("note,key,article\n{long},{long},Rain.\n");
    let names = |options: ColumnOptions| {
        let rows = read_columns(file.as_bytes(), 50, 1_000, options).unwrap();
        assert!(rows[0].content.is_ok());
        rows[0].metadata.keys().cloned().collect::<Vec<_>>()
    };
    assert!(names(ColumnOptions::default()).is_empty());
    let with_id = ColumnOptions {
        id: Some("key".to_owned()),
        ..ColumnOptions::default()
    };
    assert_eq!(names(with_id), ["key"]);
    let with_columns = ColumnOptions {
        kept: Some(vec!["note".to_owned()]),
        ..ColumnOptions::default()
    };
    assert_eq!(names(with_columns), ["note"]);
}

#[test]
fn the_query_selects_columns() {
    let names = |header: &str, id: Option<&str>, kept: Option<&[&str]>| {
        let options = ColumnOptions {
            id: id.map(str::to_owned),
            kept: kept.map(|kept| kept.iter().map(|name| (*name).to_owned()).collect()),
            ..ColumnOptions::default()
        };
        let row = "x,".repeat(header.matches(',').count()) + "x";
        let rows = read_columns(format!("{header}\n{row}\n").as_bytes(), 9, 1_000, options)?;
        Ok::<_, Refusal>(rows[0].metadata.keys().cloned().collect::<Vec<_>>())
    };
    let wide = "a,b,c,d,article";
    assert_eq!(names("a,b,article", None, None).unwrap(), ["a", "b"]);
    assert_eq!(names(wide, None, Some(&["b"])).unwrap(), ["b"]);
    assert_eq!(names(wide, Some("d"), Some(&[])).unwrap(), ["d"]);
    assert!(names(wide, None, Some(&[])).unwrap().is_empty());
    // A column that is not kept may occur twice.
    assert_eq!(names("a,a,b,article", None, Some(&["b"])).unwrap(), ["b"]);
    for (header, id, kept, part) in [
        (
            wide,
            None,
            None,
            "has 4 columns in addition to its texts, and the results can repeat 3",
        ),
        (wide, Some("e"), None, "no column `e`"),
        (wide, None, Some(&["article"][..]), "no column `article`"),
        (
            "a,a,article",
            None,
            None,
            "columns 1 and 2 of the CSV file are both named `a`",
        ),
    ] {
        let refusal = names(header, id, kept).unwrap_err();
        assert!(refusal.message.contains(part), "{refusal}");
    }
}

proptest::proptest! {
    #[test]
    fn rows_are_the_same_however_the_bytes_are_cut(
        body in "[a\"\",\r\n\u{feff}]{0,60}", size in 1_usize..9, max in 4_usize..40,
    ) {
        let file = format!("article\n{body}");
        let whole = read(file.as_bytes(), usize::MAX, max.max(7));
        proptest::prop_assert_eq!(read(file.as_bytes(), size, max.max(7)), whole);
    }
}
