//! Tests of reading a file and writing it with more columns.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;

const MAX_ROW_BYTES: usize = 1_000;

fn file(dir: &TempDir, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// The options of a command line.
fn args(options: &[&str]) -> TableArgs {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        table: TableArgs,
    }
    let line: Line = clap::Parser::try_parse_from(std::iter::once(&"test").chain(options)).unwrap();
    line.table
}

fn source(path: &Path, options: &[&str]) -> Result<Source, FileError> {
    Source::new(path, &args(options), Task::Summarize, MAX_ROW_BYTES)
}

/// Reads a file, and writes it with a number per row and the article in capitals.
fn rewritten(input: &Path, output: &str, options: &[&str]) -> Result<Vec<u8>, FileError> {
    let source = source(input, options)?;
    let survey = survey(&source)?;
    let output = input.with_file_name(output);
    let mut writer = RowWriter::create(&output, &source, &survey, &["loud", "rouge1"])?;
    for (index, row) in source.open()?.enumerate() {
        let row = row?;
        let loud = row.texts.as_ref().map(|texts| texts.article.to_uppercase());
        let loud = match &loud {
            Ok(text) => Added::Text(text),
            Err(_) => Added::Missing,
        };
        writer.write(&row, &[loud, Added::Number(index as f64 + 0.5)])?;
    }
    writer.finish()?;
    Ok(std::fs::read(output).unwrap())
}

fn text(input: &Path, output: &str, options: &[&str]) -> String {
    String::from_utf8(rewritten(input, output, options).unwrap()).unwrap()
}

#[test]
fn a_table_keeps_its_columns_and_its_bad_rows() {
    let dir = tempfile::tempdir().unwrap();
    let csv = file(&dir, "a.csv", "id,article\n7,\"Rain, again\"\n8,Snow,x\n9,\"\"\n");
    assert_eq!(
        text(&csv, "out.csv", &[]),
        "id,article,loud,rouge1\n7,\"Rain, again\",\"RAIN, AGAIN\",0.5\n,,,1.5\n9,,,2.5\n"
    );
    assert_eq!(
        text(&csv, "out.jsonl", &[]),
        "{\"id\":\"7\",\"article\":\"Rain, again\",\"loud\":\"RAIN, AGAIN\",\"rouge1\":0.5}\n\
         {\"loud\":null,\"rouge1\":1.5}\n{\"id\":\"9\",\"article\":\"\",\"loud\":\"\",\"rouge1\":2.5}\n"
    );
    let tsv = file(&dir, "a.tsv", "article\tnote\r\nRain\t1,5\r\n");
    assert_eq!(
        text(&tsv, "out.tsv", &[]),
        "article\tnote\tloud\trouge1\r\nRain\t1,5\tRAIN\t0.5\r\n"
    );
    assert_eq!(
        text(&tsv, "out.csv", &[]),
        "article,note,loud,rouge1\r\nRain,\"1,5\",RAIN,0.5\r\n"
    );
}

#[test]
fn json_values_keep_their_types() {
    let dir = tempfile::tempdir().unwrap();
    let lines = "{\"id\": 1.50, \"text\": \"Rain\", \"tags\": [\"a\"]}\n\"Snow\"\n{\"text\": 7}\nnonsense\n";
    let jsonl = file(&dir, "a.jsonl", lines);
    assert_eq!(
        text(&jsonl, "out.jsonl", &[]),
        "{\"id\":1.50,\"text\":\"Rain\",\"tags\":[\"a\"],\"loud\":\"RAIN\",\"rouge1\":0.5}\n\
         {\"article\":\"Snow\",\"loud\":\"SNOW\",\"rouge1\":1.5}\n\
         {\"text\":7,\"loud\":\"7\",\"rouge1\":2.5}\n{\"loud\":null,\"rouge1\":3.5}\n"
    );
    let json = file(
        &dir,
        "a.json",
        "[{\"article\": \"Rain\", \"m\": {\"x\":\n 1}},\n \"Snow\"]",
    );
    let list: serde_json::Value =
        serde_json::from_slice(&rewritten(&json, "out.json", &[]).unwrap()).unwrap();
    assert_eq!(list[0]["m"]["x"], 1);
    assert_eq!(list[1]["loud"], "SNOW");
    assert_eq!(text(&json, "out.jsonl", &[]).lines().count(), 2);
    // Columns are those of all objects.
    assert_eq!(
        text(&json, "out.csv", &[]),
        "article,m,loud,rouge1\r\nRain,\"{\"\"x\"\":\n 1}\",RAIN,0.5\r\nSnow,,SNOW,1.5\r\n"
    );
}

#[test]
fn a_file_that_excel_wrote_is_read_with_options_and_refused_by_name_without() {
    let dir = tempfile::tempdir().unwrap();
    let refused =
        |path: &Path, options: &[&str]| rewritten(path, "out.csv", options).unwrap_err().to_string();
    let excel = b"id;article\r\n1;\"Caf\xe9 \x96 10 \x80; mehr\"\r\n2;Regen\r\n";
    let csv = file(&dir, "excel.csv", excel);
    let error = refused(&csv, &[]);
    assert!(
        error.contains("excel.csv") && error.contains("--delimiter ';'"),
        "{error}"
    );
    let error = refused(&csv, &["--delimiter", ";"]);
    assert!(
        error.contains("line 2") && error.contains("--encoding windows-1252"),
        "{error}"
    );
    assert!(!dir.path().join("out.csv").exists());
    // Excel reads UTF-8 if the file has a byte order mark.
    let read = text(
        &csv,
        "out.csv",
        &["--delimiter", ";", "--encoding", "windows-1252"],
    );
    assert_eq!(
        read,
        "\u{feff}id;article;loud;rouge1\r\n1;\"Café – 10 €; mehr\";\"CAFÉ – 10 €; MEHR\";0.5\r\n2;Regen;REGEN;1.5\r\n"
    );
    let marked = file(&dir, "marked.csv", "\u{feff}article\r\nCafé\r\n");
    assert_eq!(
        text(&marked, "out.csv", &[]),
        "\u{feff}article,loud,rouge1\r\nCafé,CAFÉ,0.5\r\n"
    );
    let utf_16: Vec<u8> = "\u{feff}article\nCafé\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let utf_16 = file(&dir, "utf16.csv", utf_16);
    assert!(text(&utf_16, "out.csv", &[]).contains("Café,CAFÉ"));
}

#[test]
fn a_few_broken_bytes_are_bad_rows_and_no_other_character_set() {
    let dir = tempfile::tempdir().unwrap();
    let csv = file(
        &dir,
        "a.csv",
        b"article\nCaf\xc3\xa9\nna\xc3\xafve\nbroken \xff\n",
    );
    let source = source(&csv, &[]).unwrap();
    survey(&source).unwrap();
    let rows: Vec<bool> = source
        .open()
        .unwrap()
        .map(|row| row.unwrap().texts.is_ok())
        .collect();
    assert_eq!(rows, [true, true, false]);
    let only_broken = file(&dir, "b.csv", b"article\nRain\nbroken \xff\n");
    assert!(rewritten(&only_broken, "out.csv", &[]).is_err());
    assert!(rewritten(&only_broken, "out.csv", &["--encoding", "utf-8"]).is_ok());
}

#[test]
fn a_file_that_can_not_be_read_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    for (name, content, options, part) in [
        ("a.txt", "article\nRain\n", &[][..], "--format"),
        ("a.csv", "title,body\na,b\n", &[], "--column article=NAME"),
        ("b.csv", "article\n", &[], "no rows"),
        ("c.csv", "", &[], "must name the columns"),
        ("d.json", "{\"article\": \"a\"}", &[], "must be a list"),
        (
            "e.jsonl",
            "\"a\"\n",
            &["--delimiter", ";"],
            "--delimiter is only for CSV",
        ),
    ] {
        let path = file(&dir, name, content);
        let error = rewritten(&path, "out.csv", options).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(part), "{error}");
    }
    let missing = rewritten(&dir.path().join("none.csv"), "out.csv", &[]).unwrap_err();
    assert!(missing.to_string().contains("none.csv"), "{missing}");
    assert!(!dir.path().join("out.csv").exists());
}

#[test]
fn notes_go_along_with_a_job() {
    let dir = tempfile::tempdir().unwrap();
    let csv = file(
        &dir,
        "a.csv",
        "ID,article,Title,summ,other\n7,Rain,T,Wet.,x\n8,Snow,,,\n",
    );
    let source = source(&csv, &[]).unwrap();
    let rows: Vec<Texts> = source
        .open()
        .unwrap()
        .map(|row| row.unwrap().texts.unwrap())
        .collect();
    let notes: Vec<(&str, &str)> = rows[0]
        .notes
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    assert_eq!(notes, [("article_id", "7"), ("title", "T")]);
    assert_eq!(
        (rows[0].reference.as_deref(), rows[1].reference.as_deref()),
        (Some("Wet."), None)
    );
}
