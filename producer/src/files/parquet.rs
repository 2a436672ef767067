//! Parquet files. Their columns keep their types in results that are Parquet, too; elsewhere they are texts.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::args::Format;
use super::reader::{FileError, Source};
use super::survey::Survey;
use super::table::{Row, Table};
use super::writer::{Added, cell_text};
use crate::rows::RecordReader as _;
use crate::scores::Figures;

/// Rows to read or write at once.
const BATCH_ROWS: usize = 256;

fn failed(path: &Path) -> impl Fn(&dyn std::fmt::Display) -> FileError + '_ {
    move |error| FileError::refused(path, error.to_string())
}

fn open(path: &Path, file: File) -> Result<(SchemaRef, ParquetRecordBatchReader), FileError> {
    let failed = failed(path);
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| failed(&error))?;
    let schema = builder.schema().clone();
    let reader = builder.with_batch_size(BATCH_ROWS).build();
    Ok((schema, reader.map_err(|error| failed(&error))?))
}

/// The rows of a Parquet file.
pub(super) struct ParquetRows {
    path: PathBuf,
    reader: ParquetRecordBatchReader,
    table: Table,
    /// Rows that are read.
    count: u64,
}

impl ParquetRows {
    /// Opens a file whose columns `table` knows.
    pub(super) fn open(path: &Path, file: File, mut table: Table) -> Result<Self, FileError> {
        let (schema, reader) = open(path, file)?;
        let names: Vec<Vec<u8>> = schema
            .fields()
            .iter()
            .map(|field| field.name().clone().into_bytes())
            .collect();
        table.header(&names).map_err(|refusal| FileError::Refused {
            path: path.to_owned(),
            refusal,
        })?;
        Ok(Self {
            path: path.to_owned(),
            reader,
            table,
            count: 0,
        })
    }

    /// Reads the next rows. Returns `false` at the end.
    pub(super) fn read(&mut self, rows: &mut VecDeque<Row>) -> Result<bool, FileError> {
        let failed = failed(&self.path);
        let Some(batch) = self.reader.next() else {
            return Ok(false);
        };
        let batch = batch.map_err(|error| failed(&error))?;
        let options = FormatOptions::default();
        let columns = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options));
        let columns: Vec<ArrayFormatter<'_>> = columns
            .collect::<Result<_, _>>()
            .map_err(|error| failed(&error))?;
        for index in 0..batch.num_rows() {
            let fields = columns
                .iter()
                .map(|column| column.value(index).to_string().into_bytes());
            self.count += 1;
            rows.push_back(self.table.fields(self.count, fields.collect()));
        }
        Ok(true)
    }
}

/// A value of an added column.
enum Value {
    Text(Option<String>),
    Number(Option<f64>),
}

/// Writes a Parquet file.
pub(super) struct ParquetOut {
    path: PathBuf,
    /// The file of the rows, if it is Parquet.
    source: Option<ParquetRecordBatchReader>,
    writer: ArrowWriter<File>,
    schema: SchemaRef,
    /// Columns of the file, if it is not Parquet, and then the added ones.
    columns: Vec<Vec<Value>>,
    rows: usize,
}

impl ParquetOut {
    /// Starts a file.
    pub(super) fn create(
        path: &Path,
        source: &Source,
        survey: &Survey,
        added: &[&'static str],
        names: &[String],
    ) -> Result<Self, FileError> {
        let failed = failed(path);
        let mut fields: Vec<Arc<Field>> = Vec::new();
        let mut reader = None;
        let text = |name: &str| Arc::new(Field::new(name, DataType::Utf8, true));
        let mut columns = added.len();
        if source.format == Format::Parquet {
            let file = File::open(&source.path).map_err(FileError::io(&source.path))?;
            let (schema, found) = open(&source.path, file)?;
            fields.extend(schema.fields().iter().cloned());
            reader = Some(found);
        } else {
            fields.extend(survey.columns.iter().map(|name| text(name.trim())));
            columns += survey.columns.len();
        }
        for (name, added) in names.iter().zip(added) {
            fields.push(match Figures::NAMES.contains(added) {
                true => Arc::new(Field::new(name, DataType::Float64, true)),
                false => text(name),
            });
        }
        let schema = Arc::new(Schema::new(fields));
        let file = File::create(path).map_err(FileError::io(path))?;
        let writer = ArrowWriter::try_new(file, schema.clone(), None).map_err(|error| failed(&error))?;
        Ok(Self {
            path: path.to_owned(),
            source: reader,
            writer,
            schema,
            columns: (0..columns).map(|_| Vec::new()).collect(),
            rows: 0,
        })
    }

    /// Adds a row.
    pub(super) fn write(
        &mut self,
        row: &Row,
        columns: &[String],
        added: &[Added<'_>],
    ) -> Result<(), FileError> {
        let own = match self.source {
            Some(_) => 0,
            None => columns.len(),
        };
        let first_added = self.schema.fields().len() - added.len();
        for index in 0..own {
            self.columns[index].push(Value::Text(cell_text(row, index, columns)));
        }
        for (index, value) in added.iter().enumerate() {
            let is_number = *self.schema.field(first_added + index).data_type() == DataType::Float64;
            self.columns[own + index].push(match value {
                Added::Text(text) => Value::Text(Some((*text).to_owned())),
                Added::Number(number) => Value::Number(Some(*number)),
                Added::Missing if is_number => Value::Number(None),
                Added::Missing => Value::Text(None),
            });
        }
        self.rows += 1;
        match self.rows == BATCH_ROWS {
            true => self.write_batch(),
            false => Ok(()),
        }
    }

    fn write_batch(&mut self) -> Result<(), FileError> {
        let failed = failed(&self.path);
        if self.rows == 0 {
            return Ok(());
        }
        let mut arrays: Vec<ArrayRef> = Vec::new();
        if let Some(source) = &mut self.source {
            // As many rows as were read at once.
            let batch = source.next().ok_or_else(|| failed(&"the file has changed"))?;
            arrays.extend(batch.map_err(|error| failed(&error))?.columns().iter().cloned());
        }
        for column in &mut self.columns {
            let values = std::mem::take(column);
            arrays.push(match values.first() {
                Some(Value::Number(_)) => {
                    let numbers = values.into_iter().map(|value| match value {
                        Value::Number(number) => number,
                        Value::Text(_) => None,
                    });
                    Arc::new(Float64Array::from_iter(numbers))
                }
                _ => {
                    let texts = values.into_iter().map(|value| match value {
                        Value::Text(text) => text,
                        Value::Number(_) => None,
                    });
                    Arc::new(StringArray::from_iter(texts))
                }
            });
        }
        self.rows = 0;
        let batch = RecordBatch::try_new(self.schema.clone(), arrays).map_err(|error| failed(&error))?;
        self.writer.write(&batch).map_err(|error| failed(&error))
    }

    /// Writes the last rows and the footer.
    pub(super) fn finish(mut self) -> Result<File, FileError> {
        self.write_batch()?;
        let path = self.path;
        self.writer.into_inner().map_err(|error| failed(&path)(&error))
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray as _;
    use arrow_array::types::Int64Type;
    use arrow_array::{Array as _, Int64Array};

    use super::super::{RowWriter, TableArgs, Task, survey};
    use super::*;

    /// More than two batches.
    const ROWS: usize = 2 * BATCH_ROWS + 7;

    fn write(path: &Path) {
        let schema = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("article", DataType::Utf8, true),
        ]));
        let ids = Int64Array::from_iter_values(0..ROWS as i64);
        let articles = (0..ROWS).map(|row| (row != 3).then(|| format!("Rain {row}.")));
        let arrays: Vec<ArrayRef> = vec![Arc::new(ids), Arc::new(StringArray::from_iter(articles))];
        let batch = RecordBatch::try_new(schema.clone(), arrays).unwrap();
        let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), schema, None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }

    fn rewritten(path: &Path, output: &Path) {
        let source = Source::new(path, &TableArgs::default(), Task::Summarize, 1_000).unwrap();
        let survey = survey(&source).unwrap();
        assert_eq!(survey.rows, ROWS as u64);
        let mut writer = RowWriter::create(output, &source, &survey, &["summary", "rouge1"]).unwrap();
        for row in source.open().unwrap() {
            let row = row.unwrap();
            let article = row.texts.as_ref().unwrap().article.clone();
            let added = match article.is_empty() {
                true => [Added::Missing; 2],
                false => [Added::Text(&article), Added::Number(0.5)],
            };
            writer.write(&row, &added).unwrap();
        }
        writer.finish().unwrap();
    }

    #[test]
    fn columns_keep_their_types_and_rows_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let [input, output, lines] = ["a.parquet", "b.parquet", "c.jsonl"].map(|name| dir.path().join(name));
        write(&input);
        rewritten(&input, &output);
        let (schema, reader) = open(&output, File::open(&output).unwrap()).unwrap();
        let types: Vec<DataType> = schema
            .fields()
            .iter()
            .map(|field| field.data_type().clone())
            .collect();
        assert_eq!(
            types,
            [DataType::Int64, DataType::Utf8, DataType::Utf8, DataType::Float64]
        );
        let mut count = 0;
        for batch in reader {
            let batch = batch.unwrap();
            let ids = batch.column(0).as_primitive::<Int64Type>();
            let summaries = batch.column(2).as_string::<i32>();
            for row in 0..batch.num_rows() {
                assert_eq!(ids.value(row), count);
                match count {
                    3 => assert!(summaries.is_null(row)),
                    _ => assert_eq!(summaries.value(row), format!("Rain {count}.")),
                }
                count += 1;
            }
        }
        assert_eq!(count, ROWS as i64);
        rewritten(&input, &lines);
        let text = std::fs::read_to_string(&lines).unwrap();
        assert_eq!(
            text.lines().nth(1),
            Some("{\"id\":\"1\",\"article\":\"Rain 1.\",\"summary\":\"Rain 1.\",\"rouge1\":0.5}")
        );
        let back = dir.path().join("d.parquet");
        rewritten(&lines, &back);
        assert!(open(&back, File::open(&back).unwrap()).is_ok());
    }

    #[test]
    fn a_file_that_is_no_parquet_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.parquet");
        std::fs::write(&path, "article\nRain.\n").unwrap();
        let source = Source::new(&path, &TableArgs::default(), Task::Summarize, 1_000).unwrap();
        let error = survey(&source).unwrap_err().to_string();
        assert!(error.contains("a.parquet"), "{error}");
    }
}
