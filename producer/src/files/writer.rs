//! Writes the rows of a file with more columns.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use super::args::{Format, extended};
use super::reader::{FileError, Source};
use super::survey::Survey;
use super::table::{Cells, Row};

/// The value of an added column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Added<'a> {
    /// A text.
    Text(&'a str),
    /// A number.
    Number(f64),
    /// No value.
    Missing,
}

/// Writes rows to a file. The file has its name only once it is complete.
pub(crate) struct RowWriter {
    path: PathBuf,
    partial: PathBuf,
    names: Vec<String>,
    columns: Vec<String>,
    out: Out,
}

enum Out {
    Csv(Box<csv::Writer<BufWriter<File>>>),
    Lines(BufWriter<File>),
    /// A list, and whether it has a value.
    List(BufWriter<File>, bool),
    #[cfg(feature = "parquet")]
    Parquet(Box<super::parquet::ParquetOut>),
}

/// Returns the names of added columns. One that the file has already gets a prefix.
fn free_names(columns: &[String], added: &[&str]) -> Vec<String> {
    let is_taken = |name: &str| {
        columns
            .iter()
            .any(|column| column.trim().eq_ignore_ascii_case(name))
    };
    let name = |name: &&str| match is_taken(name) {
        true => format!("precis_{name}"),
        false => (*name).to_owned(),
    };
    added.iter().map(name).collect()
}

impl RowWriter {
    /// Starts a file with the columns of `source` and those in `added`.
    ///
    /// # Errors
    /// If the file can't be created, or has an unknown format.
    pub(crate) fn create(
        path: &Path,
        source: &Source,
        survey: &Survey,
        added: &[&'static str],
    ) -> Result<Self, FileError> {
        let format = Self::format(path, source)?;
        let names = free_names(&survey.columns, added);
        let partial = extended(path, "partial");
        let create = || {
            File::create(&partial)
                .map(BufWriter::new)
                .map_err(FileError::io(&partial))
        };
        let failed = |error| FileError::io(&partial)(error);
        let out = match format {
            Format::Csv | Format::Tsv => {
                let mut file = create()?;
                if survey.needs_mark {
                    file.write_all(b"\xef\xbb\xbf").map_err(failed)?;
                }
                let same = format == source.format;
                let delimiter = match same {
                    true => source.delimiter,
                    false => format.delimiter().unwrap_or(b','),
                };
                let terminator = match survey.has_crlf || !same {
                    true => csv::Terminator::CRLF,
                    false => csv::Terminator::Any(b'\n'),
                };
                let mut writer = csv::WriterBuilder::new()
                    .delimiter(delimiter)
                    .terminator(terminator)
                    .from_writer(file);
                writer
                    .write_record(survey.columns.iter().chain(&names))
                    .map_err(|error| failed(error.into()))?;
                Out::Csv(Box::new(writer))
            }
            Format::Jsonl => Out::Lines(create()?),
            Format::Json => {
                let mut file = create()?;
                file.write_all(b"[").map_err(failed)?;
                Out::List(file, false)
            }
            #[cfg(feature = "parquet")]
            Format::Parquet => Out::Parquet(Box::new(super::parquet::ParquetOut::create(
                &partial, source, survey, added, &names,
            )?)),
            #[cfg(not(feature = "parquet"))]
            Format::Parquet => return Err(FileError::refused(path, "this build does not write Parquet")),
        };
        Ok(Self {
            path: path.to_owned(),
            partial,
            names,
            columns: survey.columns.clone(),
            out,
        })
    }

    /// Returns the format of a file of results: that of its extension, or of its source.
    ///
    /// # Errors
    /// If this build can't write it.
    pub(crate) fn format(path: &Path, source: &Source) -> Result<Format, FileError> {
        let format = Format::of(path).unwrap_or(source.format);
        if format == Format::Parquet && !cfg!(feature = "parquet") {
            return Err(FileError::refused(
                path,
                "this build does not write Parquet; build it with `--features parquet`, or choose a name that ends in .jsonl",
            ));
        }
        Ok(format)
    }

    /// Writes a row with its added values.
    ///
    /// # Errors
    /// If the file can't be written.
    pub(crate) fn write(&mut self, row: &Row, added: &[Added<'_>]) -> Result<(), FileError> {
        let written = match &mut self.out {
            Out::Csv(writer) => write_record(writer, row, &self.columns, added),
            Out::Lines(file) => write_object(file, row, &self.columns, &self.names, added)
                .and_then(|()| file.write_all(b"\n")),
            Out::List(file, has_value) => {
                let before: &[u8] = if *has_value { b",\n" } else { b"\n" };
                *has_value = true;
                file.write_all(before)
                    .and_then(|()| write_object(file, row, &self.columns, &self.names, added))
            }
            #[cfg(feature = "parquet")]
            Out::Parquet(out) => return out.write(row, &self.columns, added),
        };
        written.map_err(FileError::io(&self.partial))
    }

    /// Completes the file and gives it its name.
    ///
    /// # Errors
    /// If the file can't be written.
    pub(crate) fn finish(self) -> Result<(), FileError> {
        let Self {
            path, partial, out, ..
        } = self;
        let failed = |error| FileError::io(&partial)(error);
        let file = match out {
            Out::Csv(writer) => writer.into_inner().map_err(|error| {
                let cause = error.error();
                failed(io::Error::new(cause.kind(), cause.to_string()))
            })?,
            Out::Lines(file) => file,
            Out::List(mut file, _) => {
                file.write_all(b"\n]\n").map_err(failed)?;
                file
            }
            #[cfg(feature = "parquet")]
            Out::Parquet(out) => BufWriter::new(out.finish()?),
        };
        let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
        std::fs::rename(&partial, &path).map_err(FileError::io(&path))
    }
}

/// Returns a value of a row as text.
pub(super) fn cell_text(row: &Row, index: usize, columns: &[String]) -> Option<String> {
    match &row.cells {
        Cells::Fields(fields) if fields.len() == columns.len() => {
            Some(String::from_utf8_lossy(&fields[index]).into_owned())
        }
        Cells::Object(fields) => {
            let (_, value) = fields.iter().find(|(name, _)| *name == columns[index])?;
            match serde_json::from_str::<String>(value.get()) {
                Ok(text) => Some(text),
                Err(_) => Some(value.get().to_owned()).filter(|raw| raw != "null"),
            }
        }
        // Which value belongs to which column is unknown.
        Cells::Fields(_) | Cells::None => None,
    }
}

fn write_record(
    writer: &mut csv::Writer<BufWriter<File>>,
    row: &Row,
    columns: &[String],
    added: &[Added<'_>],
) -> io::Result<()> {
    for index in 0..columns.len() {
        writer.write_field(cell_text(row, index, columns).unwrap_or_default())?;
    }
    for value in added {
        match value {
            Added::Text(text) => writer.write_field(text)?,
            Added::Number(number) => writer.write_field(number.to_string())?,
            Added::Missing => writer.write_field("")?,
        }
    }
    writer.write_record(None::<&[u8]>)?;
    Ok(())
}

/// Removes the white space between the parts of a JSON value if it has several lines.
fn on_one_line(raw: &str) -> Cow<'_, str> {
    if !raw.contains(['\n', '\r']) {
        return raw.into();
    }
    let (mut is_string, mut is_escaped) = (false, false);
    let keeps = |c: &char| {
        let keeps = is_string || !c.is_ascii_whitespace();
        is_string ^= *c == '"' && !is_escaped;
        is_escaped = is_string && *c == '\\' && !is_escaped;
        keeps
    };
    raw.chars().filter(keeps).collect::<String>().into()
}

fn write_object(
    file: &mut BufWriter<File>,
    row: &Row,
    columns: &[String],
    names: &[String],
    added: &[Added<'_>],
) -> io::Result<()> {
    let mut separator = "{";
    let mut write = |name: &str, value: &str| {
        let written = write!(file, "{separator}{}:{value}", serde_json::Value::from(name));
        separator = ",";
        written
    };
    match &row.cells {
        Cells::Object(fields) => {
            for (name, value) in fields {
                write(name, &on_one_line(value.get()))?;
            }
        }
        Cells::Fields(_) => {
            for (index, name) in columns.iter().enumerate() {
                if let Some(text) = cell_text(row, index, columns) {
                    write(name.trim(), &serde_json::Value::from(text).to_string())?;
                }
            }
        }
        Cells::None => {}
    }
    for (name, value) in names.iter().zip(added) {
        let value = match value {
            Added::Text(text) => serde_json::Value::from(*text),
            Added::Number(number) => serde_json::Value::from(*number),
            Added::Missing => serde_json::Value::Null,
        };
        write(name, &value.to_string())?;
    }
    file.write_all(b"}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_with_several_lines_becomes_one_line() {
        let raw = "{\n  \"a b\": [1, \"x \\\" \\\\\",\r\n 2 ]}";
        assert_eq!(on_one_line(raw), "{\"a b\":[1,\"x \\\" \\\\\",2]}");
        assert_eq!(on_one_line("[1, 2]"), "[1, 2]");
    }

    #[test]
    fn an_added_column_never_hides_one_of_the_file() {
        let columns = ["id".to_owned(), " Summary".to_owned()];
        assert_eq!(
            free_names(&columns, &["summary", "status"]),
            ["precis_summary", "status"]
        );
    }
}
