//! The columns of a CSV file, from its header: `article` and, if there is one, `summ`. The others become metadata.

use std::collections::BTreeMap;

use precis_producer::rows::RecordReader;
use precis_schemas::error_code::{ErrorCode, Refusal};

use super::rows::{InputRow, RowContent, row_of};

/// The columns that a client wants in addition to the texts.
#[derive(Debug, Clone, Default)]
pub(super) struct ColumnOptions {
    /// Name of the column that identifies a row.
    pub(super) id: Option<String>,
    /// Names of the columns to keep. If `None`, all of them.
    pub(super) kept: Option<Vec<String>>,
    /// Most columns that can be kept.
    pub(super) max_kept: usize,
    /// Largest value that can be kept, in bytes. Longer ones are left out, unless the client named their column.
    pub(super) max_value_bytes: usize,
}

/// Reads the rows of an upload.
pub(super) struct UploadRows {
    options: ColumnOptions,
    /// Known once the header of a CSV file is parsed.
    columns: Option<Columns>,
}

impl UploadRows {
    /// Creates a reader that keeps these columns.
    pub(super) fn new(options: ColumnOptions) -> Self {
        Self {
            options,
            columns: None,
        }
    }
}

impl RecordReader for UploadRows {
    type Row = InputRow;

    fn header(&mut self, names: &[Vec<u8>]) -> Result<(), Refusal> {
        self.columns = Some(Columns::of(names, &self.options)?);
        Ok(())
    }

    fn fields(&self, line: u64, fields: Vec<Vec<u8>>) -> InputRow {
        match &self.columns {
            Some(columns) => columns.row(line, &fields),
            None => InputRow::refused(line, self.no_header("it is missing")),
        }
    }

    fn json(&self, line: u64, text: &[u8]) -> InputRow {
        row_of(line, text)
    }

    fn refused(&self, line: u64, refusal: Refusal) -> InputRow {
        InputRow::refused(line, refusal)
    }

    fn no_header(&self, problem: &str) -> Refusal {
        no_header(problem)
    }
}

/// The columns of a file.
#[derive(Debug, Clone)]
struct Columns {
    article: usize,
    summ: Option<usize>,
    /// Names and positions of the columns that become metadata.
    kept: Vec<(String, usize)>,
    /// Largest value that becomes metadata, in bytes, of a column that the client did not name.
    max_value_bytes: usize,
    id: Option<String>,
    count: usize,
}

fn invalid(message: String) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, message)
}

/// The refusal of a file without a usable header.
fn no_header(problem: &str) -> Refusal {
    invalid(format!(
        "the first line of a CSV file must name its columns, including `article`; {problem}"
    ))
}

impl Columns {
    /// Reads a header.
    ///
    /// # Errors
    /// If a column is missing, occurs twice, or if more columns are to be kept than can be.
    fn of(header: &[Vec<u8>], options: &ColumnOptions) -> Result<Self, Refusal> {
        let names: Vec<String> = header
            .iter()
            .map(|field| String::from_utf8_lossy(field).trim().to_owned())
            .collect();
        let Some(article) = one_of(&names, &["article", "text"])? else {
            let shown: String = names.join(", ").chars().take(200).collect();
            return Err(no_header(&format!("it names: {shown}")));
        };
        let summ = one_of(&names, &["summ", "reference"])?;
        let others = names
            .iter()
            .enumerate()
            .filter(|(index, name)| *index != article && Some(*index) != summ && !name.is_empty());
        let others: Vec<(String, usize)> = others.map(|(index, name)| (name.clone(), index)).collect();
        Ok(Self {
            article,
            summ,
            kept: kept(others, options)?,
            max_value_bytes: match options.kept {
                Some(_) => usize::MAX,
                None => options.max_value_bytes,
            },
            id: options.id.clone(),
            count: names.len(),
        })
    }

    /// Reads a row.
    fn row(&self, line: u64, fields: &[Vec<u8>]) -> InputRow {
        let is_complete = fields.len() == self.count;
        // In a row with too many fields, those from the text on may be out of place: its commas lack quotes.
        let first_text = self.summ.map_or(self.article, |summ| summ.min(self.article));
        let kept = self
            .kept
            .iter()
            .filter(|(_, index)| is_complete || *index < first_text);
        let values = kept.filter_map(|(name, index)| Some((name, fields.get(*index)?)));
        let mut is_text = true;
        let mut metadata = BTreeMap::new();
        for (name, value) in values {
            match std::str::from_utf8(value) {
                Ok(value) if value.len() <= self.max_value_bytes || self.id.as_ref() == Some(name) => {
                    metadata.insert(name.clone(), value.to_owned());
                }
                Ok(_) => {}
                Err(_) => is_text = false,
            }
        }
        InputRow {
            line,
            metadata,
            content: match is_complete {
                true => self.content(fields, is_text),
                false => Err(invalid(format!(
                    "the row has {} fields, but the header has {}",
                    fields.len(),
                    self.count
                ))),
            },
        }
    }

    fn content(&self, fields: &[Vec<u8>], is_text: bool) -> Result<RowContent, Refusal> {
        let text = |index: usize| std::str::from_utf8(&fields[index]).map(str::to_owned);
        let read = || {
            let summ = self.summ.map(text).transpose()?;
            Ok::<_, std::str::Utf8Error>((text(self.article)?, summ))
        };
        match read() {
            Ok((article, summ)) if is_text => Ok(RowContent {
                article,
                summ: summ.filter(|summ| !summ.trim().is_empty()),
            }),
            _ => Err(invalid(
                "the row is not valid in the character set of the file, which is UTF-8 unless it declares another"
                    .to_owned(),
            )),
        }
    }
}

/// Returns the position of the column with one of these names, in any case.
fn one_of(names: &[String], aliases: &[&str]) -> Result<Option<usize>, Refusal> {
    let is_alias = |index: &usize| aliases.contains(&names[*index].to_lowercase().as_str());
    let mut found = (0..names.len()).filter(is_alias);
    match (found.next(), found.next()) {
        (Some(first), Some(second)) => Err(invalid(format!(
            "columns {} (`{}`) and {} (`{}`) of the CSV file mean the same; keep one",
            first + 1,
            names[first],
            second + 1,
            names[second]
        ))),
        (first, _) => Ok(first),
    }
}

/// Selects the columns to keep.
fn kept(others: Vec<(String, usize)>, options: &ColumnOptions) -> Result<Vec<(String, usize)>, Refusal> {
    let wanted = options.kept.iter().flatten().chain(&options.id);
    for name in wanted {
        if !others.iter().any(|(other, _)| other == name) {
            return Err(invalid(format!(
                "the query names the column `{name}`, but the CSV file has no column `{name}` in addition to its texts"
            )));
        }
    }
    let is_kept = |(name, _): &(String, usize)| {
        options.id.as_ref() == Some(name) || options.kept.as_ref().is_none_or(|kept| kept.contains(name))
    };
    let kept: Vec<(String, usize)> = others.into_iter().filter(is_kept).collect();
    for (position, (name, index)) in kept.iter().enumerate() {
        if let Some((_, second)) = kept[position + 1..].iter().find(|(other, _)| other == name) {
            return Err(invalid(format!(
                "columns {} and {} of the CSV file are both named `{name}`; rename one",
                index + 1,
                second + 1
            )));
        }
    }
    let max = options.max_kept;
    match kept.len() {
        count if count > max => Err(invalid(format!(
            "the CSV file has {count} columns in addition to its texts, and the results can repeat {max}; name those to keep \
             in the query (`?columns=a,b`, or `?columns=` for none)"
        ))),
        _ => Ok(kept),
    }
}

#[cfg(test)]
mod tests;
