//! Makes rows of the records of a file.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use precis_schemas::error_code::{ErrorCode, Refusal};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::columns::{ColumnChoice, Columns, Role, Task};
use crate::rows::RecordReader;

/// Columns whose values go along with a job, so that its row in the analytics database has them.
const NOTES: [&str; 2] = ["title", "url"];
/// Key under which the id goes along.
const ID_NOTE: &str = "article_id";

/// A row of a file.
#[derive(Debug)]
pub(crate) struct Row {
    /// The line on which it starts, counted from 1. In a Parquet file, the number of the row.
    pub(crate) line: u64,
    /// Its texts, or why it is malformed.
    pub(crate) texts: Result<Texts, Refusal>,
    /// All of its values, to repeat them in the results.
    pub(crate) cells: Cells,
}

/// The texts of a row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Texts {
    /// The text to summarize.
    pub(crate) article: String,
    /// The human summary.
    pub(crate) reference: Option<String>,
    /// The summary to score.
    pub(crate) summary: Option<String>,
    /// What goes along with its job as metadata.
    pub(crate) notes: BTreeMap<String, String>,
}

/// The values of a row.
#[derive(Debug)]
pub(crate) enum Cells {
    /// Those of a record, in the order of the header.
    Fields(Vec<Vec<u8>>),
    /// Those of a JSON object, in its order.
    Object(Vec<(String, Box<RawValue>)>),
    /// The row is malformed.
    None,
}

/// Makes rows of records.
pub(super) struct Table {
    task: Task,
    choices: Vec<ColumnChoice>,
    /// Names of the columns, once the header is read.
    header: Arc<OnceLock<Vec<String>>>,
    columns: Columns,
}

impl Table {
    /// Creates a table. The header of the file will be in `header`.
    pub(super) fn new(task: Task, choices: Vec<ColumnChoice>, header: Arc<OnceLock<Vec<String>>>) -> Self {
        Self {
            task,
            choices,
            header,
            columns: Columns::default(),
        }
    }

    fn names(&self) -> &[String] {
        self.header.get().map(Vec::as_slice).unwrap_or_default()
    }

    fn texts_of_fields(&self, fields: &[Vec<u8>]) -> Result<Texts, Refusal> {
        let names = self.names();
        if fields.len() != names.len() {
            return Err(invalid(format!(
                "the row has {} fields, but the header has {}",
                fields.len(),
                names.len()
            )));
        }
        let text = |index: usize| std::str::from_utf8(&fields[index]).map_err(|_| not_utf8(&names[index]));
        self.texts(names.iter().map(String::as_str), |index| {
            text(index).map(|text| Some(text.to_owned()))
        })
    }

    /// Takes the texts out of a record. `value` returns the value in a column; `None` if it is null.
    fn texts<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
        value: impl Fn(usize) -> Result<Option<String>, Refusal>,
    ) -> Result<Texts, Refusal> {
        let get = |role| match self.columns.get(role) {
            Some(index) => value(index),
            None => Ok(None),
        };
        let mut notes = BTreeMap::new();
        for (index, name) in names.enumerate() {
            let name = name.trim().to_ascii_lowercase();
            // A note that is no text does not stop its row.
            if NOTES.contains(&name.as_str())
                && let Ok(Some(text)) = value(index)
            {
                notes.insert(name, text);
            }
        }
        if let Some(id) = get(Role::Id)? {
            notes.insert(ID_NOTE.to_owned(), id);
        }
        let reference = get(Role::Reference)?;
        Ok(Texts {
            article: get(Role::Article)?.unwrap_or_default(),
            reference: match self.task {
                Task::Summarize => reference.filter(|text| !text.trim().is_empty()),
                Task::Score => reference,
            },
            summary: get(Role::Summary)?,
            notes,
        })
    }

    fn object(&self, text: &[u8]) -> Result<(Texts, Cells), Refusal> {
        if text.starts_with(b"\"") {
            let raw: Box<RawValue> = serde_json::from_slice(text).map_err(|error| not_json(&error))?;
            let texts = Texts {
                article: text_of(&raw)?.unwrap_or_default(),
                ..Texts::default()
            };
            return Ok((texts, Cells::Object(vec![("article".to_owned(), raw)])));
        }
        if !text.starts_with(b"{") {
            return Err(invalid(
                "the row is no JSON object and no text in quotes".to_owned(),
            ));
        }
        let Fields(fields) = serde_json::from_slice(text).map_err(|error| not_json(&error))?;
        let names = || fields.iter().map(|(name, _)| name.as_str());
        let table = Self {
            task: self.task,
            choices: Vec::new(),
            header: self.header.clone(),
            columns: Columns::find(names(), self.task, &self.choices)?,
        };
        let texts = table.texts(names(), |index| {
            let (name, value) = &fields[index];
            text_of(value).map_err(|refusal| invalid(format!("`{name}`: {}", refusal.message)))
        })?;
        Ok((texts, Cells::Object(fields)))
    }
}

/// Returns the text of a JSON value: that of a string, or a number as it is written.
fn text_of(value: &RawValue) -> Result<Option<String>, Refusal> {
    let raw = value.get();
    match raw.as_bytes().first() {
        Some(b'"') => serde_json::from_str(raw)
            .map(Some)
            .map_err(|error| not_json(&error)),
        Some(b'n') => Ok(None),
        Some(b'-' | b'0'..=b'9') => Ok(Some(raw.to_owned())),
        _ => Err(invalid("the value is not a text".to_owned())),
    }
}

/// Returns the refusal of a header whose columns another character separates.
fn other_delimiter(names: &[String]) -> Option<Refusal> {
    let [only] = names else { return None };
    let delimiter = [';', '\t', '|', ',']
        .into_iter()
        .find(|delimiter| only.contains(*delimiter))?;
    let shown: String = only.chars().take(80).collect();
    let option = match delimiter {
        '\t' => "tab".to_owned(),
        other => format!("'{other}'"),
    };
    Some(invalid(format!(
        "the first line, {shown:?}, is one column. If {option} separates the columns, as in files that Excel writes in \
         many countries, read it with --delimiter {option}"
    )))
}

fn invalid(message: String) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, message)
}

fn not_utf8(column: &str) -> Refusal {
    invalid(format!(
        "`{column}` is not UTF-8 text; if the whole file has another character set, give it with --encoding"
    ))
}

fn not_json(error: &serde_json::Error) -> Refusal {
    let message = error.to_string();
    // The line of the file is already known.
    let message = message
        .rsplit_once(" at line ")
        .map_or(message.as_str(), |(text, _)| text);
    let message: String = message.chars().take(200).collect();
    invalid(format!(
        "not valid JSON: {message} (character {})",
        error.column()
    ))
}

/// The fields of an object in their order.
struct Fields(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields: Vec<(String, Box<RawValue>)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    if fields.iter().any(|(other, _)| *other == name) {
                        return Err(serde::de::Error::custom(format!("duplicate field `{name}`")));
                    }
                    fields.push((name, value));
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

impl RecordReader for Table {
    type Row = Row;

    fn header(&mut self, names: &[Vec<u8>]) -> Result<(), Refusal> {
        let names = names
            .iter()
            .map(|name| String::from_utf8_lossy(name).into_owned());
        let names: Vec<String> = names.collect();
        self.columns = Columns::find(names.iter().map(String::as_str), self.task, &self.choices)
            .map_err(|refusal| other_delimiter(&names).unwrap_or(refusal))?;
        // A table reads one file.
        let _first = self.header.set(names);
        Ok(())
    }

    fn fields(&self, line: u64, fields: Vec<Vec<u8>>) -> Row {
        Row {
            line,
            texts: self.texts_of_fields(&fields),
            cells: Cells::Fields(fields),
        }
    }

    fn json(&self, line: u64, text: &[u8]) -> Row {
        match self.object(text) {
            Ok((texts, cells)) => Row {
                line,
                texts: Ok(texts),
                cells,
            },
            Err(refusal) => self.refused(line, refusal),
        }
    }

    fn refused(&self, line: u64, refusal: Refusal) -> Row {
        Row {
            line,
            texts: Err(refusal),
            cells: Cells::None,
        }
    }

    fn no_header(&self, problem: &str) -> Refusal {
        invalid(format!("the first line must name the columns; {problem}"))
    }
}
