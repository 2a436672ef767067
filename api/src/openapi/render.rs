//! Operations as OpenAPI's Operation Objects.

use std::collections::BTreeMap;

use precis_schemas::ErrorCode;
use precis_schemas::rest::Problem;
use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};

use super::operation::{Content, Location, Operation};
use super::schema::of;
use crate::http::problem;

/// Returns the Operation Object.
pub(super) fn operation(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let mut object = Map::new();
    object.insert("operationId".into(), operation.id.into());
    object.insert("tags".into(), json!([operation.tag.name()]));
    object.insert("summary".into(), operation.summary.into());
    if !operation.description.is_empty() {
        object.insert("description".into(), operation.description.into());
    }
    if !operation.parameters.is_empty() {
        let parameters = operation.parameters.iter().map(|parameter| {
            let location = match parameter.location {
                Location::Path => "path",
                Location::Query => "query",
                Location::Header => "header",
            };
            json!({
                "name": parameter.name,
                "in": location,
                "required": parameter.location == Location::Path,
                "description": parameter.description,
                "schema": (parameter.schema)(generator),
            })
        });
        object.insert("parameters".into(), parameters.collect());
    }
    if !operation.body.is_empty() {
        let content = content(&operation.body, generator);
        object.insert(
            "requestBody".into(),
            json!({"required": true, "content": content}),
        );
    }
    object.insert("responses".into(), responses(operation, generator));
    if !operation.needs_key {
        object.insert("security".into(), json!([]));
    }
    object.into()
}

fn responses(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let mut responses = Map::new();
    for (status, response) in &operation.responses {
        let mut headers = vec!["x-request-id"];
        headers.extend(&response.headers);
        let mut object = json!({
            "description": response.description,
            "headers": header_references(&headers),
        });
        if !response.content.is_empty() {
            object["content"] = content(&response.content, generator);
        }
        responses.insert(status.to_string(), object);
    }
    for (status, codes) in by_status(&operation.errors) {
        let problem = problem(&codes, generator);
        // A status may be both a response and a problem: it then has both media types.
        match responses.get_mut(&status.to_string()) {
            Some(response) => {
                response["content"][problem::CONTENT_TYPE] =
                    problem["content"][problem::CONTENT_TYPE].clone();
            }
            None => drop(responses.insert(status.to_string(), problem)),
        }
    }
    responses.into()
}

/// Groups codes by their HTTP status, each once.
fn by_status(codes: &[ErrorCode]) -> BTreeMap<u16, Vec<ErrorCode>> {
    let mut by_status: BTreeMap<u16, Vec<ErrorCode>> = BTreeMap::new();
    for code in codes {
        let same = by_status.entry(code.http_status()).or_default();
        if !same.contains(code) {
            same.push(*code);
        }
    }
    by_status
}

/// Returns the Response Object of a problem with one of these codes.
fn problem(codes: &[ErrorCode], generator: &mut SchemaGenerator) -> Value {
    let lines: Vec<String> = codes
        .iter()
        .map(|code| format!("`{code}`: {}", code.title()))
        .collect();
    let mut headers = vec!["x-request-id"];
    if codes.iter().any(|code| problem::retry_after(*code).is_some()) {
        headers.push("retry-after");
    }
    json!({
        "description": lines.join("; "),
        "headers": header_references(&headers),
        "content": {problem::CONTENT_TYPE: {"schema": of::<Problem>(generator)}},
    })
}

fn content(content: &[Content], generator: &mut SchemaGenerator) -> Value {
    let one = |content: &Content| {
        let schema = (content.schema)(generator);
        let object = if schema.as_bool() == Some(true) {
            json!({})
        } else {
            json!({"schema": schema})
        };
        (content.media_type.to_owned(), object)
    };
    content.iter().map(one).collect::<Map<String, Value>>().into()
}

fn header_references(names: &[&str]) -> Value {
    let one = |name: &&str| {
        let reference = json!({"$ref": format!("#/components/headers/{name}")});
        ((*name).to_owned(), reference)
    };
    names.iter().map(one).collect::<Map<String, Value>>().into()
}

/// Returns the description of every response header.
pub(super) fn headers() -> Value {
    let text = |description: &str| json!({"description": description, "schema": {"type": "string"}});
    let whole =
        |description: &str| json!({"description": description, "schema": {"type": "integer", "minimum": 0}});
    json!({
        "x-request-id": text("Id of the request: the client's own, or a new one. The logs contain it."),
        "location": text("Path of the job."),
        "retry-after": whole("Seconds to wait before the next request."),
        "preference-applied": text("The preferences that were honoured (RFC 7240)."),
        "idempotent-replayed": text("`true` if the response is about the first request with the same `Idempotency-Key`."),
        "etag": text("Tag of this state of the job, for `If-None-Match`."),
        "cache-control": text("How long a cache may keep the response."),
    })
}
