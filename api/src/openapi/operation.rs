//! One operation: a method on a path, as the document describes it.

use std::collections::BTreeMap;

use precis_schemas::ErrorCode;
use precis_schemas::rest::Problem;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use crate::http::problem;

/// Makes the schema of a type, and notes those that it refers to.
pub(crate) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// The schema of a type.
pub(crate) fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// A text, as plain text or as Markdown.
pub(crate) fn text(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string"})
}

/// A body that is not what its media type says: the document names the media type and has no schema for it, so that
/// nobody reads it by one.
pub(crate) fn not_as_said(_: &mut SchemaGenerator) -> Schema {
    Schema::from(true)
}

#[derive(Clone)]
struct Parameter {
    name: &'static str,
    place: &'static str,
    description: &'static str,
    schema: SchemaOf,
}

#[derive(Clone)]
struct Content {
    media_type: &'static str,
    schema: SchemaOf,
}

#[derive(Clone)]
struct Answer {
    description: &'static str,
    content: Vec<Content>,
    headers: Vec<&'static str>,
}

/// What the document says of one method on one path.
#[derive(Clone)]
pub(crate) struct Operation {
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
    description: &'static str,
    parameters: Vec<Parameter>,
    body: Vec<Content>,
    answers: BTreeMap<u16, Answer>,
    problems: Vec<ErrorCode>,
    needs_key: bool,
    /// Whether its errors have a shape of their own, so that none is a problem.
    own_errors: bool,
}

/// Refusals that are possible whatever the operation is.
const ALWAYS: [ErrorCode; 3] = [
    ErrorCode::Internal,
    ErrorCode::UriTooLong,
    ErrorCode::RequestTimeout,
];
/// Refusals of an operation that needs a key.
const OF_KEYS: [ErrorCode; 3] = [
    ErrorCode::Unauthorized,
    ErrorCode::Forbidden,
    ErrorCode::RateLimited,
];
/// Refusals of an operation with a body.
const OF_BODIES: [ErrorCode; 3] = [
    ErrorCode::InvalidRequest,
    ErrorCode::BodyTooLarge,
    ErrorCode::UnsupportedMediaType,
];

impl Operation {
    /// An operation that needs a key where keys are configured. `id` is the name of a function in a generated client.
    pub(crate) fn new(tag: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self {
            id,
            tag,
            summary,
            description: "",
            parameters: Vec::new(),
            body: Vec::new(),
            answers: BTreeMap::new(),
            problems: ALWAYS.iter().chain(&OF_KEYS).copied().collect(),
            needs_key: true,
            own_errors: false,
        }
    }

    /// Its errors are answers like any other, in the words of another service.
    pub(crate) fn with_own_errors(mut self) -> Self {
        self.own_errors = true;
        self.problems.clear();
        self
    }

    /// More than one line about it.
    pub(crate) fn describe(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }

    /// Open to everybody.
    pub(crate) fn without_key(mut self) -> Self {
        self.needs_key = false;
        self.problems.retain(|code| !OF_KEYS.contains(code));
        self
    }

    /// A part of the path.
    pub(crate) fn path(self, name: &'static str, description: &'static str, schema: SchemaOf) -> Self {
        self.parameter(name, "path", description, schema)
    }

    /// A parameter of the query, which may be left out.
    pub(crate) fn query(self, name: &'static str, description: &'static str, schema: SchemaOf) -> Self {
        self.parameter(name, "query", description, schema)
            .refuses(&[ErrorCode::InvalidRequest])
    }

    /// A header of the request, which may be left out.
    pub(crate) fn header(self, name: &'static str, description: &'static str, schema: SchemaOf) -> Self {
        self.parameter(name, "header", description, schema)
    }

    fn parameter(
        mut self,
        name: &'static str,
        place: &'static str,
        description: &'static str,
        schema: SchemaOf,
    ) -> Self {
        self.parameters.push(Parameter {
            name,
            place,
            description,
            schema,
        });
        self
    }

    /// A JSON body.
    pub(crate) fn body<T: JsonSchema>(self) -> Self {
        self.body_as("application/json", of::<T>)
    }

    /// A body of a media type; several are alternatives.
    pub(crate) fn body_as(mut self, media_type: &'static str, schema: SchemaOf) -> Self {
        self.body.push(Content { media_type, schema });
        self.refuses(&OF_BODIES)
    }

    /// An answer in JSON.
    pub(crate) fn answers<T: JsonSchema>(self, status: u16, description: &'static str) -> Self {
        self.answers_as(status, description, "application/json", of::<T>)
    }

    /// An answer of a media type; several of one status are alternatives.
    pub(crate) fn answers_as(
        mut self,
        status: u16,
        description: &'static str,
        media_type: &'static str,
        schema: SchemaOf,
    ) -> Self {
        self.answer(status, description)
            .content
            .push(Content { media_type, schema });
        self
    }

    /// An answer without a body.
    pub(crate) fn answers_empty(mut self, status: u16, description: &'static str) -> Self {
        self.answer(status, description);
        self
    }

    /// A header of the answers with this status, one of [`headers`].
    pub(crate) fn with(mut self, status: u16, header: &'static str) -> Self {
        self.answer(status, "").headers.push(header);
        self
    }

    fn answer(&mut self, status: u16, description: &'static str) -> &mut Answer {
        self.answers.entry(status).or_insert(Answer {
            description,
            content: Vec::new(),
            headers: Vec::new(),
        })
    }

    /// Refusals that are possible.
    pub(crate) fn refuses(mut self, codes: &[ErrorCode]) -> Self {
        if !self.own_errors {
            self.problems.extend(codes);
        }
        self
    }

    /// The Operation Object.
    pub(super) fn render(&self, generator: &mut SchemaGenerator) -> Value {
        let mut operation = Map::new();
        operation.insert("operationId".into(), self.id.into());
        operation.insert("tags".into(), json!([self.tag]));
        operation.insert("summary".into(), self.summary.into());
        if !self.description.is_empty() {
            operation.insert("description".into(), self.description.into());
        }
        if !self.parameters.is_empty() {
            let parameters = self.parameters.iter().map(|parameter| {
                json!({
                    "name": parameter.name,
                    "in": parameter.place,
                    "required": parameter.place == "path",
                    "description": parameter.description,
                    "schema": (parameter.schema)(generator),
                })
            });
            operation.insert("parameters".into(), parameters.collect());
        }
        if !self.body.is_empty() {
            let content = render_content(&self.body, generator);
            operation.insert(
                "requestBody".into(),
                json!({"required": true, "content": content}),
            );
        }
        operation.insert("responses".into(), self.render_answers(generator));
        if !self.needs_key {
            operation.insert("security".into(), json!([]));
        }
        operation.into()
    }

    fn render_answers(&self, generator: &mut SchemaGenerator) -> Value {
        let mut responses = Map::new();
        for (status, answer) in &self.answers {
            let mut headers = vec!["x-request-id"];
            headers.extend(&answer.headers);
            let mut response = json!({
                "description": answer.description,
                "headers": render_headers(&headers),
            });
            if !answer.content.is_empty() {
                response["content"] = render_content(&answer.content, generator);
            }
            responses.insert(status.to_string(), response);
        }
        let mut by_status: BTreeMap<u16, Vec<ErrorCode>> = BTreeMap::new();
        for code in &self.problems {
            let codes = by_status.entry(code.http_status()).or_default();
            if !codes.contains(code) {
                codes.push(*code);
            }
        }
        for (status, codes) in by_status {
            let lines: Vec<String> = codes
                .iter()
                .map(|code| format!("`{code}`: {}", code.title()))
                .collect();
            let mut headers = vec!["x-request-id"];
            if codes.iter().any(|code| problem::retry_after(*code).is_some()) {
                headers.push("retry-after");
            }
            let problem = json!({
                "description": lines.join("; "),
                "headers": render_headers(&headers),
                "content": {problem::CONTENT_TYPE: {"schema": of::<Problem>(generator)}},
            });
            // A status that is both an answer and a problem has both contents.
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
}

fn render_content(content: &[Content], generator: &mut SchemaGenerator) -> Value {
    let one = |content: &Content| {
        let schema = (content.schema)(generator);
        let described = if schema.as_bool() == Some(true) {
            json!({})
        } else {
            json!({"schema": schema})
        };
        (content.media_type.to_owned(), described)
    };
    content.iter().map(one).collect::<Map<String, Value>>().into()
}

fn render_headers(names: &[&str]) -> Value {
    let one = |name: &&str| {
        let reference = json!({"$ref": format!("#/components/headers/{name}")});
        ((*name).to_owned(), reference)
    };
    names.iter().map(one).collect::<Map<String, Value>>().into()
}

/// The headers of answers, each described once.
pub(super) fn headers() -> Value {
    let text = |description: &str| json!({"description": description, "schema": {"type": "string"}});
    let whole =
        |description: &str| json!({"description": description, "schema": {"type": "integer", "minimum": 0}});
    json!({
        "x-request-id": text("Id of the request: the client's own, or a new one. It stands in the logs."),
        "location": text("Path of the job."),
        "retry-after": whole("Seconds after which it makes sense to ask again."),
        "preference-applied": text("The preferences that were honoured (RFC 7240)."),
        "idempotent-replayed": text("`true` where the answer is about the first request with the same `Idempotency-Key`."),
        "etag": text("Tag of this state of the job, for `If-None-Match`."),
        "cache-control": text("How the answer may be kept."),
    })
}
