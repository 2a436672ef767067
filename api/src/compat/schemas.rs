//! Schemas of the bodies that other services' clients send and receive.

use precis_schemas::params::{MAX_BEAMS, MIN_TEMPERATURE};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// A bare summary.
pub(super) fn summary(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "description": "The summary"})
}

/// A list of summaries.
pub(super) fn summaries(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "items": {"type": "string"}, "description": "One summary for each article, in order"})
}

/// Mean ROUGE scores.
pub(super) fn rouge(_: &mut SchemaGenerator) -> Schema {
    let share = json!({"type": "number", "minimum": 0, "maximum": 1});
    json_schema!({
        "type": "object",
        "description": "Mean F-measures, without stemming",
        "required": ["rouge1", "rouge2", "rougeL", "rougeLsum"],
        "properties": {"rouge1": share, "rouge2": share, "rougeL": share, "rougeLsum": share},
    })
}

/// `{"article": "…"}` or `{"article": {"article": "…"}, "config": {…}}`.
pub(super) fn article(_: &mut SchemaGenerator) -> Schema {
    plain_or_nested("article", &json!({"type": "string"}))
}

/// `{"articles": […]}` or `{"articles": {"articles": […]}, "config": {…}}`.
pub(super) fn articles(_: &mut SchemaGenerator) -> Schema {
    plain_or_nested("articles", &texts())
}

/// `{"articles", "targets"}`, by themselves or inside `pairs`.
pub(super) fn pairs(_: &mut SchemaGenerator) -> Schema {
    let lists = json!({
        "type": "object",
        "required": ["articles", "targets"],
        "properties": {"articles": texts(), "targets": texts()},
        "additionalProperties": false,
    });
    let plain = json!({
        "type": "object",
        "required": ["articles", "targets"],
        "properties": {"articles": texts(), "targets": texts(), "config": config()},
        "additionalProperties": false,
    });
    let nested = json!({
        "type": "object",
        "required": ["pairs"],
        "properties": {"pairs": lists, "config": config()},
        "additionalProperties": false,
    });
    json_schema!({"oneOf": [plain, nested]})
}

/// The Lambda function's body for one article.
pub(super) fn lambda_article(_: &mut SchemaGenerator) -> Schema {
    with_params(&[("article", json!({"type": "string"}))])
}

/// The Lambda function's body for several articles.
pub(super) fn lambda_articles(_: &mut SchemaGenerator) -> Schema {
    with_params(&[("articles", texts())])
}

/// The Lambda function's body for pairs.
pub(super) fn lambda_pairs(_: &mut SchemaGenerator) -> Schema {
    with_params(&[("articles", texts()), ("targets", texts())])
}

/// The body of `/invocations`: a list for the SageMaker container, or one of MLflow's tables.
pub(super) fn invocation(_: &mut SchemaGenerator) -> Schema {
    let table = |field: &str, schema: Value| json!({"type": "object", "required": [field], "properties": {field: schema, "params": {"type": "object"}}});
    let split = json!({
        "type": "object",
        "required": ["columns", "data"],
        "properties": {"columns": texts(), "data": {"type": "array", "items": {"type": "array"}}},
    });
    let rows = json!({"type": "array", "items": {"type": "object"}});
    json_schema!({"anyOf": [
        with_params(&[("articles", texts())]),
        table("dataframe_split", split),
        table("dataframe_records", rows),
        table("instances", json!({"type": "array"})),
        table("inputs", json!({"type": ["object", "array"]})),
    ]})
}

/// The response of `/invocations`: a list for a list, predictions for a table.
pub(super) fn predictions(_: &mut SchemaGenerator) -> Schema {
    let row = json!({
        "type": "object",
        "required": ["summarization"],
        "properties": {"summarization": {"type": "string"}},
    });
    json_schema!({"oneOf": [
        texts(),
        {"type": "object", "required": ["predictions"], "properties": {"predictions": {"type": "array", "items": row}}},
    ]})
}

/// An error of MLflow's scoring server.
pub(super) fn mlflow_error(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "required": ["error_code", "message"],
        "properties": {
            "error_code": {"type": "string"},
            "message": {"type": "string"},
            "code": {"type": "string", "description": "Precis' error code, if the error has one"},
            "job_id": {"type": "string"},
            "job_ids": texts(),
        },
    })
}

/// MLflow's response to a wrong method.
pub(super) fn mlflow_detail(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "required": ["detail"], "properties": {"detail": {"type": "string"}}})
}

/// An error of the SageMaker runtime.
pub(super) fn sagemaker_error(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "required": ["Message"],
        "properties": {
            "Message": {"type": "string"},
            "ErrorCode": {"type": "string"},
            "LogStreamArn": {"type": "string"},
            "OriginalMessage": {"type": "string"},
            "OriginalStatusCode": {"type": "integer"},
        },
    })
}

fn texts() -> Value {
    json!({"type": "array", "items": {"type": "string"}})
}

fn beams() -> Value {
    json!({
        "type": ["integer", "null"],
        "minimum": 1,
        "maximum": MAX_BEAMS,
        "description": "Number of beams; either spelling",
    })
}

fn temperature() -> Value {
    json!({"type": ["number", "null"], "minimum": MIN_TEMPERATURE, "maximum": 100})
}

fn config() -> Value {
    json!({
        "type": ["object", "null"],
        "description": "If present, the model samples at this temperature; if absent, the deployment's own method applies.",
        "properties": {"num_beans": beams(), "num_beams": beams(), "temperature": temperature()},
        "not": {"required": ["num_beans", "num_beams"]},
        "additionalProperties": false,
    })
}

/// `{field: value}` or `{field: {field: value}}`, with an optional `config`.
fn plain_or_nested(field: &str, value: &Value) -> Schema {
    let nested = json!({
        "type": "object",
        "required": [field],
        "properties": {field: value},
        "additionalProperties": false,
    });
    json_schema!({
        "type": "object",
        "required": [field],
        "properties": {field: {"oneOf": [value, nested]}, "config": config()},
        "additionalProperties": false,
    })
}

/// These fields beside beams and temperature.
fn with_params(fields: &[(&str, Value)]) -> Schema {
    let mut properties = json!({"num_beans": beams(), "num_beams": beams(), "temperature": temperature()});
    for (field, schema) in fields {
        properties[*field] = schema.clone();
    }
    let required: Vec<&str> = fields.iter().map(|(field, _)| *field).collect();
    json_schema!({
        "type": "object",
        "required": required,
        "properties": properties,
        "not": {"required": ["num_beans", "num_beams"]},
        "additionalProperties": false,
    })
}
