//! The routes of the services that Precis takes the place of, with their own shapes of bodies and errors.

use precis_schemas::ErrorCode::*;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::operation::{Operation, not_as_said, text};
use super::paths::{Entry, QUEUE, TEXTS, name};

fn summary(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "description": "The bare summary"})
}

fn summaries(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "items": {"type": "string"}, "description": "One summary for each article, in order"})
}

fn rouge(_: &mut SchemaGenerator) -> Schema {
    let share = json!({"type": "number", "minimum": 0, "maximum": 1});
    json_schema!({
        "type": "object",
        "description": "Mean F-measures, without stemming",
        "required": ["rouge1", "rouge2", "rougeL", "rougeLsum"],
        "properties": {"rouge1": share, "rouge2": share, "rougeL": share, "rougeLsum": share},
    })
}

fn texts() -> Value {
    json!({"type": "array", "items": {"type": "string"}})
}

fn beams() -> Value {
    json!({"type": ["integer", "null"], "minimum": 1, "maximum": 64, "description": "Beams; both spellings are the same"})
}

fn temperature() -> Value {
    json!({"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 100})
}

fn config() -> Value {
    json!({
        "type": ["object", "null"],
        "description": "Without it the deployment's own method is used; with it, beams of samples.",
        "properties": {"num_beans": beams(), "num_beams": beams(), "temperature": temperature()},
        "not": {"required": ["num_beans", "num_beams"]},
        "additionalProperties": false,
    })
}

/// `{field: value}` or `{field: {field: value}}`, with a `config` beside it.
fn either(field: &str, value: &Value) -> Schema {
    let wrapped = json!({
        "type": "object",
        "required": [field],
        "properties": {field: value},
        "additionalProperties": false,
    });
    json_schema!({
        "type": "object",
        "required": [field],
        "properties": {field: {"oneOf": [value, wrapped]}, "config": config()},
        "additionalProperties": false,
    })
}

fn article(_: &mut SchemaGenerator) -> Schema {
    either("article", &json!({"type": "string"}))
}

fn articles(_: &mut SchemaGenerator) -> Schema {
    either("articles", &texts())
}

fn pairs(_: &mut SchemaGenerator) -> Schema {
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
    let wrapped = json!({
        "type": "object",
        "required": ["pairs"],
        "properties": {"pairs": lists, "config": config()},
        "additionalProperties": false,
    });
    json_schema!({"oneOf": [plain, wrapped]})
}

/// A body with its knobs beside these fields, as the Lambda function and the SageMaker container read it.
fn flat(fields: &[(&str, Value)]) -> Schema {
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

fn flat_article(_: &mut SchemaGenerator) -> Schema {
    flat(&[("article", json!({"type": "string"}))])
}

fn flat_articles(_: &mut SchemaGenerator) -> Schema {
    flat(&[("articles", texts())])
}

fn flat_pairs(_: &mut SchemaGenerator) -> Schema {
    flat(&[("articles", texts()), ("targets", texts())])
}

/// What MLflow's server and a SageMaker container read.
fn invocation(_: &mut SchemaGenerator) -> Schema {
    let table = |field: &str, schema: Value| json!({"type": "object", "required": [field], "properties": {field: schema, "params": {"type": "object"}}});
    let split = json!({
        "type": "object",
        "required": ["columns", "data"],
        "properties": {"columns": texts(), "data": {"type": "array", "items": {"type": "array"}}},
    });
    let rows = json!({"type": "array", "items": {"type": "object"}});
    json_schema!({"anyOf": [
        flat(&[("articles", texts())]),
        table("dataframe_split", split),
        table("dataframe_records", rows),
        table("instances", json!({"type": "array"})),
        table("inputs", json!({"type": ["object", "array"]})),
    ]})
}

/// What they answer: the form of the answer is that of the question.
fn invoked(_: &mut SchemaGenerator) -> Schema {
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

fn mlflow_error(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "required": ["error_code", "message"],
        "properties": {
            "error_code": {"type": "string"},
            "message": {"type": "string"},
            "code": {"type": "string", "description": "Code of this product, where the error is one of it"},
            "job_id": {"type": "string"},
            "job_ids": texts(),
        },
    })
}

fn sagemaker_error(_: &mut SchemaGenerator) -> Schema {
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

/// A method of MLflow's server that is not the path's is refused in MLflow's words.
fn detail(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "required": ["detail"], "properties": {"detail": {"type": "string"}}})
}

const JSON: &str = "application/json";

fn bare(id: &'static str, line: &'static str) -> Operation {
    Operation::new("Taken over", id, line)
        .refuses(&TEXTS)
        .refuses(&QUEUE)
        .refuses(&[
            WaitTimeout,
            DeadlineExceeded,
            TooManyAttempts,
            InferenceFailed,
            Cancelled,
        ])
}

fn mlflow(id: &'static str, line: &'static str) -> Operation {
    Operation::new("Taken over", id, line).answers_as(405, "The method is not allowed here", JSON, detail)
}

fn ping(id: &'static str) -> Operation {
    let line = "Whether the default model can be asked";
    mlflow(id, line)
        .describe("The body is an empty line under the content type of JSON, as MLflow's server sends it.")
        .without_key()
        .answers_as(200, "It can", JSON, not_as_said)
        .answers_as(404, "Nobody serves it", JSON, not_as_said)
        .answers_as(503, "The queue is away", JSON, not_as_said)
}

fn endpoint(id: &'static str, line: &'static str) -> Operation {
    let failed = [
        (
            400,
            "`ValidationError`: no such endpoint, or the body or the path is too long, broke off or took too long",
        ),
        (403, "`AccessDeniedException`: a key is needed, or not known"),
        (
            424,
            "`ModelError`: the model refused the body; `OriginalStatusCode` and `OriginalMessage` say why",
        ),
        (
            429,
            "`ModelNotReadyException`: nobody serves the model; `ThrottlingException`: too many calls",
        ),
        (500, "`InternalFailure`"),
        (503, "`ServiceUnavailable`: the queue is full or away"),
        (
            504,
            "`ModelError`: not ready in time; `OriginalMessage` has the ids of the jobs, which go on",
        ),
    ];
    let operation = Operation::new("Taken over", id, line)
        .with_own_errors()
        .path(
            "name",
            "Any name, unless the deployment lists its endpoints",
            name,
        )
        .body_as(JSON, invocation)
        .body_as("text/csv", text);
    failed.into_iter().fold(operation, |operation, (status, line)| {
        operation.answers_as(status, line, JSON, sagemaker_error)
    })
}

/// All of them.
pub(super) fn all() -> Vec<Entry> {
    let invoke = mlflow(
        "invoke",
        "A table or a list of texts, as MLflow's scoring server and a SageMaker container read them",
    )
    .body_as(JSON, invocation)
    .body_as("text/csv", text)
    .answers_as(200, "Predictions for a table, a list for a list", JSON, invoked)
    .answers_as(415, "The content type is not read here", "text/plain", text);
    let failed = [
        (400, "The body can't be read, in MLflow's words"),
        (409, "The job was cancelled"),
        (413, "The body is too large"),
        (422, "A text or a parameter is refused"),
        (500, "The model failed"),
        (503, "The queue is full or away"),
        (504, "Not ready in time: the jobs go on"),
    ];
    let invoke = failed
        .into_iter()
        .fold(invoke, |operation, (status, line)| {
            operation.answers_as(status, line, JSON, mlflow_error)
        })
        .refuses(&TEXTS)
        .refuses(&QUEUE)
        .refuses(&[
            WaitTimeout,
            DeadlineExceeded,
            TooManyAttempts,
            InferenceFailed,
            Cancelled,
        ]);
    vec![
        (
            "/article/summarize",
            "post",
            bare("summarizeArticle", "One article in, its summary out")
                .body_as(JSON, article)
                .answers_as(200, "The summary", JSON, summary),
        ),
        (
            "/article/summarize_batch",
            "post",
            bare(
                "summarizeArticles",
                "Articles in, their summaries out; all or nothing",
            )
            .body_as(JSON, articles)
            .answers_as(200, "The summaries", JSON, summaries),
        ),
        (
            "/model/score",
            "post",
            bare(
                "scoreModel",
                "Mean ROUGE of the model's summaries against given ones",
            )
            .body_as(JSON, pairs)
            .answers_as(200, "The scores", JSON, rouge),
        ),
        (
            "/online-predict",
            "post",
            bare(
                "predictOnline",
                "One article in, its summary out, as the Lambda function does it",
            )
            .body_as(JSON, flat_article)
            .answers_as(
                200,
                "The summary: as JSON where the client asks for that by name",
                "text/plain",
                text,
            )
            .answers_as(200, "The summary", JSON, summary),
        ),
        (
            "/batch-predict",
            "post",
            bare(
                "predictBatch",
                "Articles in, their summaries out, as the Lambda function does it",
            )
            .body_as(JSON, flat_articles)
            .answers_as(200, "The summaries", JSON, summaries),
        ),
        (
            "/score",
            "post",
            bare("scorePairs", "Mean ROUGE, as the Lambda function does it")
                .body_as(JSON, flat_pairs)
                .answers_as(200, "The scores", JSON, rouge),
        ),
        ("/invocations", "post", invoke),
        ("/ping", "get", ping("ping")),
        ("/health", "get", ping("health")),
        (
            "/version",
            "get",
            mlflow(
                "mlflowVersion",
                "The version of MLflow whose server this behaves like",
            )
            .describe("The body is a bare text under the content type of JSON, as MLflow's server sends it.")
            .without_key()
            .answers_as(200, "The text, such as `3.17.2`", JSON, not_as_said),
        ),
        (
            "/endpoints/{name}/invocations",
            "post",
            endpoint("invokeEndpoint", "As the SageMaker runtime calls an endpoint").answers_as(
                200,
                "Predictions for a table, a list for a list",
                JSON,
                invoked,
            ),
        ),
        (
            "/endpoints/{name}/invocations-response-stream",
            "post",
            endpoint("invokeEndpointWithResponseStream", "The same, answered in parts").answers_as(
                200,
                "Frames of Amazon's event stream",
                "application/vnd.amazon.eventstream",
                text,
            ),
        ),
    ]
}
