//! JSON bodies of MLflow's clients: a table with the column `article`, in one of four formats.

use precis_schemas::decode_error::explain_field;
use precis_schemas::{GenerationParams, strict_json};
use serde_json::{Map, Value};

use super::error::MlflowError;
use super::python_json;
use super::split::split;
use crate::compat::legacy_params;

/// The input column.
pub(super) const COLUMN: &str = "article";
/// A JSON body has exactly one of these fields.
const FIELDS: [&str; 4] = ["dataframe_records", "dataframe_split", "inputs", "instances"];
/// Longest quote of an invalid body, in bytes.
const MAX_QUOTED_BYTES: usize = 200;

/// A parsed table.
#[derive(Debug, PartialEq)]
pub(crate) struct Table {
    /// The column `article`.
    pub(crate) articles: Vec<String>,
    /// The generation parameters.
    pub(crate) params: GenerationParams,
}

/// Whether a JSON object has a field of a table.
pub(crate) fn is_table(object: &Map<String, Value>) -> bool {
    FIELDS.iter().any(|field| object.contains_key(*field))
}

/// Parses a JSON body.
pub(crate) fn parse_json(body: &[u8]) -> Result<Value, MlflowError> {
    python_json::parse(body).map_err(|error| {
        let quoted = String::from_utf8_lossy(&body[..body.len().min(MAX_QUOTED_BYTES)]).into_owned();
        MlflowError::bad_request(format!(
            "Invalid input. Ensure that input is a valid JSON formatted string. Error: '{error}'\nInput: \n{quoted}\n"
        ))
    })
}

/// Extracts the table from a JSON body.
pub(crate) fn from_json(body: Value) -> Result<Table, MlflowError> {
    let mut object = match body {
        Value::Object(object) => object,
        other => return Err(MlflowError::no_dictionary(python_kind(&other))),
    };
    let received: Vec<&str> = FIELDS
        .into_iter()
        .filter(|field| object.contains_key(*field))
        .collect();
    let [field] = received[..] else {
        return Err(MlflowError::formats(&python_list(received.iter().copied())));
    };
    let params = params(object.remove("params"))?;
    let data = object.remove(field).unwrap_or_default();
    let cells = match (field, data) {
        ("dataframe_split", data) => split(data)?,
        ("dataframe_records", Value::Array(rows)) => records(rows)?,
        ("dataframe_records", other) => {
            return Err(MlflowError::bad_request(format!(
                "Invalid input. Dataframe records format must be a list of records. Got {}.",
                match other {
                    Value::Object(_) => "dictionary".to_owned(),
                    other => format!("type <class '{}'>", python_kind(&other)),
                }
            )));
        }
        (_, Value::Array(rows)) if rows.iter().any(Value::is_object) => records(rows)?,
        // Without names there is one column: the model's.
        (_, Value::Array(cells)) => cells,
        (_, Value::Object(columns)) => column(columns)?,
        _ => return Err(MlflowError::missing_column("[]")),
    };
    Ok(Table {
        articles: texts(cells)?,
        params,
    })
}

/// Extracts the cells of a list with an object for each row. A row may lack the column if another one has it.
pub(super) fn records(rows: Vec<Value>) -> Result<Vec<Value>, MlflowError> {
    let mut extra = Vec::new();
    if rows.first().is_none_or(Value::is_object) {
        let has_column = rows.iter().any(|row| row.get(COLUMN).is_some());
        let cell = |row: Value| match row {
            Value::Object(mut fields) if has_column => Ok(fields.remove(COLUMN).unwrap_or_default()),
            Value::Object(fields) => {
                extra.extend(fields.into_iter().map(|(name, _)| name));
                Ok(Value::Null)
            }
            other => Err(MlflowError::bad_request(format!(
                "Invalid input. Provided dataframe_records field is not a valid dataframe representation in 'records' \
                 format. Error: 'every row must be a dictionary, and one is of type {}'",
                python_kind(&other)
            ))),
        };
        let cells: Vec<Value> = rows.into_iter().map(cell).collect::<Result<_, _>>()?;
        if has_column {
            return Ok(cells);
        }
    }
    extra.dedup();
    Err(MlflowError::missing_column(&python_list(
        extra.iter().map(String::as_str),
    )))
}

/// Extracts the cells of an object with an array for each column.
pub(super) fn column(mut columns: Map<String, Value>) -> Result<Vec<Value>, MlflowError> {
    let cells = match columns.remove(COLUMN) {
        Some(Value::Array(cells)) => cells,
        Some(cell) => vec![cell],
        None => {
            return Err(MlflowError::missing_column(&python_list(
                columns.keys().map(String::as_str),
            )));
        }
    };
    let mut others = columns.values().filter_map(Value::as_array);
    match others.all(|other| other.len() == cells.len()) {
        true => Ok(cells),
        false => Err(MlflowError::schema("All arrays must be of the same length")),
    }
}

fn texts(cells: Vec<Value>) -> Result<Vec<String>, MlflowError> {
    let text = |(index, cell): (usize, Value)| match cell {
        Value::String(text) => Ok(text),
        other => Err(MlflowError::model_failed(&format!(
            "Row {index}: an article is a text, and this is of type {}.",
            python_kind(&other)
        ))),
    };
    cells.into_iter().enumerate().map(text).collect()
}

/// Parses `params`. Ignores unknown parameters, as MLflow does.
fn params(given: Option<Value>) -> Result<GenerationParams, MlflowError> {
    let mut given = match given {
        None | Some(Value::Null) => return Ok(legacy_params::defaults()),
        Some(Value::Object(given)) => given,
        Some(other) => {
            return Err(MlflowError::bad_request(format!(
                "Invalid params. Params must be a dictionary. Got type <class '{}'>.",
                python_kind(&other)
            )));
        }
    };
    if let Some(beams) = given.remove("num_beans") {
        given.entry("num_beams").or_insert(beams);
    }
    given.retain(|name, value| GenerationParams::NAMES.contains(&name.as_str()) && !value.is_null());
    let text = Value::Object(given).to_string();
    let wanted: GenerationParams = strict_json::from_str(&text).map_err(|error| {
        let problem = explain_field::<GenerationParams>(text.as_bytes(), &error);
        MlflowError::bad_request(format!("Invalid params: {problem}"))
    })?;
    Ok(legacy_params::with_defaults(&wanted))
}

/// The name of the Python type of a JSON value.
pub(super) fn python_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}

/// Formats names as a Python list. Long names are cut.
pub(super) fn python_list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names
        .take(20)
        .map(|name| format!("'{}'", name.chars().take(80).collect::<String>()))
        .collect();
    format!("[{}]", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(table: Result<Table, MlflowError>) -> String {
        match table {
            Err(MlflowError::Json(body)) => body.message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_format_yields_the_same_table() {
        let rows = ["Rain.", "Snow."];
        for body in [
            json!({"dataframe_split": {"columns": ["x", "article"], "index": [3, 9], "data": [[1, "Rain."], [2, "Snow."]]}}),
            json!({"dataframe_split": {"columns": ["article"], "index": [3, 9], "data": ["Rain.", "Snow."]}}),
            json!({"dataframe_split": {"columns": ["article", "x"], "data": [["Rain.", 1], ["Snow."]]}}),
            json!({"dataframe_split": {"columns": ["article"], "data": [{"article": "Rain."}, {"article": "Snow."}]}}),
            json!({"dataframe_split": {"data": {"article": ["Rain.", "Snow."]}, "columns": ["article"]}}),
            json!({"dataframe_records": [{"article": "Rain.", "x": 1}, {"article": "Snow."}]}),
            json!({"instances": [{"article": "Rain."}, {"article": "Snow."}]}),
            json!({"instances": ["Rain.", "Snow."]}),
            json!({"inputs": {"article": ["Rain.", "Snow."]}}),
            json!({"inputs": ["Rain.", "Snow."], "params": null}),
        ] {
            assert_eq!(from_json(body.clone()).unwrap().articles, rows, "{body}");
        }
    }

    #[test]
    fn unknown_params_are_ignored() {
        let with = |params: Value| from_json(json!({"inputs": ["x"], "params": params}));
        let params = with(json!({"num_beans": 4, "temperature": 1, "top_z": {}}))
            .unwrap()
            .params;
        assert_eq!((params.num_beams, params.temperature), (Some(4), Some(1.0)));
        assert_eq!(
            (params.max_new_tokens, params.first_sentence),
            (Some(63), Some(true))
        );
        let longer = with(json!({"max_new_tokens": 100})).unwrap().params;
        assert_eq!(longer.max_new_tokens, Some(100));
        for (given, lengths) in [
            (json!({"max_new_tokens": 5}), (Some(5), Some(5))),
            (json!({"min_new_tokens": 120}), (Some(120), Some(120))),
            (json!({"min_new_tokens": 2}), (Some(2), Some(63))),
        ] {
            let params = with(given).unwrap().params;
            assert_eq!((params.min_new_tokens, params.max_new_tokens), lengths);
            assert!(params.validate().is_ok());
        }
        assert!(message(with(json!({"num_beams": "four"}))).starts_with("Invalid params: "));
        assert!(message(with(json!([4]))).contains("<class 'list'>"));
    }

    #[test]
    fn errors_have_mlflows_wording() {
        for (body, part) in [
            (json!(["Rain."]), "Received a list."),
            (json!({"columns": []}), "with input fields: []."),
            (
                json!({"inputs": [], "instances": []}),
                "with input fields: ['inputs', 'instances'].",
            ),
            (
                json!({"dataframe_split": "x"}),
                "must be a dictionary. Got type <class 'str'>.",
            ),
            (
                json!({"dataframe_split": {"columns": ["article"]}}),
                "must have 'data' field and optionally 'columns' and 'index' fields. Got ['columns'].",
            ),
            (
                json!({"dataframe_split": {"columns": ["text"], "data": []}}),
                "extra inputs: ['text'].",
            ),
            (
                json!({"dataframe_split": {"columns": ["article"], "data": [["a", 2]]}}),
                "Error: '1 columns passed, passed data had 2 columns'",
            ),
            (
                json!({"dataframe_records": {"article": "x"}}),
                "must be a list of records. Got dictionary.",
            ),
            (
                json!({"dataframe_records": [{"article": "x"}, {"text": "x"}]}),
                "Row 1: an article is a text, and this is of type NoneType.",
            ),
            (
                json!({"dataframe_records": [{"text": "x"}]}),
                "extra inputs: ['text'].",
            ),
            (json!({"dataframe_records": ["x"]}), "missing inputs ['article']."),
            (json!({"dataframe_records": []}), "missing inputs ['article']."),
            (
                json!({"dataframe_split": {"data": [["x"]]}}),
                "missing inputs ['article'].",
            ),
            (
                json!({"dataframe_split": {"columns": ["article"], "data": ["x"], "dtypes": []}}),
                "Got ['columns', 'data', 'dtypes'].",
            ),
            (
                json!({"dataframe_split": {"columns": ["article"], "data": ["x"], "index": [1, 2]}}),
                "Length of values (1) does not match length of index (2)",
            ),
            (
                json!({"dataframe_split": {"columns": ["article", "article"], "data": [["x", "y"]]}}),
                "not compatible with model signature",
            ),
            (
                json!({"inputs": {"article": ["x"], "y": [1, 2]}}),
                "All arrays must be of the same length",
            ),
            (json!({"dataframe_records": [{}]}), "missing inputs ['article']."),
            (
                json!({"instances": [{"article": "x"}, "y"]}),
                "every row must be a dictionary, and one is of type str",
            ),
            (json!({"instances": 7}), "missing inputs ['article']."),
            (json!({"inputs": {"text": []}}), "extra inputs: ['text']."),
            (
                json!({"inputs": ["x", null]}),
                "Row 1: an article is a text, and this is of type NoneType.",
            ),
            (json!({"inputs": [["x", "y"]]}), "of type list."),
        ] {
            let message = message(from_json(body.clone()));
            assert!(message.contains(part), "{body}: {message}");
        }
    }
}
