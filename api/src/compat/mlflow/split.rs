//! The format `dataframe_split`: `{"columns": […], "index": […], "data": [[…], …]}`.

use serde_json::{Map, Value};

use super::error::MlflowError;
use super::table::{COLUMN, column, python_kind, python_list, records};

/// Extracts the cells of the input column. Only the length of the index counts.
pub(super) fn split(data: Value) -> Result<Vec<Value>, MlflowError> {
    let Value::Object(mut parts) = data else {
        return Err(MlflowError::bad_request(format!(
            "Invalid input. Dataframe split format must be a dictionary. Got {}.",
            match data {
                Value::Array(_) => "list".to_owned(),
                other => format!("type <class '{}'>", python_kind(&other)),
            }
        )));
    };
    let is_known = |name: &String| ["columns", "data", "index"].contains(&name.as_str());
    if !parts.contains_key("data") || !parts.keys().all(is_known) {
        let given = python_list(parts.keys().map(String::as_str));
        return Err(MlflowError::bad_request(format!(
            "Invalid input. Dataframe split format must have 'data' field and optionally 'columns' and 'index' fields. \
             Got {given}."
        )));
    }
    let names = optional_list(&mut parts, "columns")?;
    let index = optional_list(&mut parts, "index")?;
    let cells = match parts.remove("data").unwrap_or_default() {
        Value::Array(rows) => split_rows(rows, names.as_deref())?,
        Value::Object(columns) => {
            named(names.as_deref())?;
            column(columns)?
        }
        Value::Null => {
            named(names.as_deref())?;
            Vec::new()
        }
        _ => return Err(invalid_split("data must be a list of rows")),
    };
    match index.map(|index| index.len()) {
        Some(length) if length != cells.len() => Err(invalid_split(&format!(
            "Length of values ({}) does not match length of index ({length})",
            cells.len()
        ))),
        _ => Ok(cells),
    }
}

fn invalid_split(problem: &str) -> MlflowError {
    MlflowError::bad_request(format!(
        "Invalid input. Provided dataframe_split field is not a valid dataframe representation in 'split' format. \
         Error: '{problem}'"
    ))
}

/// Removes a list that may be missing or null.
fn optional_list(parts: &mut Map<String, Value>, field: &str) -> Result<Option<Vec<Value>>, MlflowError> {
    match parts.remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(items)) => Ok(Some(items)),
        Some(_) => Err(invalid_split(&format!("{field} must be a list"))),
    }
}

/// Returns the position of the input column. Without names, columns have numbers.
fn named(names: Option<&[Value]>) -> Result<usize, MlflowError> {
    let names = names.unwrap_or_default();
    let mut found = (0..names.len()).filter(|index| names[*index] == COLUMN);
    match (found.next(), found.next()) {
        (Some(index), None) => Ok(index),
        (Some(_), Some(_)) => Err(MlflowError::bad_request(
            "Invalid input. Data is not compatible with model signature. There are several columns 'article'.",
        )),
        (None, _) => Err(MlflowError::missing_column(&python_list(
            names.iter().filter_map(Value::as_str),
        ))),
    }
}

/// Extracts the cells of rows that are lists, objects, or the cells of a single column. The first row says which, as in
/// pandas.
fn split_rows(rows: Vec<Value>, names: Option<&[Value]>) -> Result<Vec<Value>, MlflowError> {
    let columns = names.map(<[Value]>::len);
    match rows.first() {
        None => named(names).map(|_| Vec::new()),
        Some(Value::Object(_)) => {
            if columns.is_some() {
                named(names)?;
            }
            records(rows)
        }
        Some(Value::Array(_)) => {
            let lists = rows.into_iter().map(|row| match row {
                Value::Array(cells) => Ok(cells),
                _ => Err(invalid_split("data must be a list of rows")),
            });
            let lists: Vec<Vec<Value>> = lists.collect::<Result<_, _>>()?;
            // A row that is shorter than the longest one has empty cells.
            let width = lists.iter().map(Vec::len).max().unwrap_or(0);
            if let Some(columns) = columns
                && columns != width
            {
                return Err(invalid_split(&format!(
                    "{columns} columns passed, passed data had {width} columns"
                )));
            }
            let index = named(names)?;
            let cell = |mut cells: Vec<Value>| match index < cells.len() {
                true => cells.swap_remove(index),
                false => Value::Null,
            };
            Ok(lists.into_iter().map(cell).collect())
        }
        Some(_) if columns.is_none_or(|columns| columns == 1) => named(names).map(|_| rows),
        Some(_) => Err(invalid_split(&format!(
            "{} columns passed, passed data had 1 column",
            columns.unwrap_or(0)
        ))),
    }
}
