//! The documentation of one operation: a method on a path.

use std::collections::BTreeMap;

use precis_schemas::ErrorCode;
use schemars::JsonSchema;

use super::schema::{SchemaFn, of};

/// A group of operations in the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tag {
    /// Single jobs.
    Jobs,
    /// Uploads of many rows.
    Batches,
    /// Models that workers serve.
    Models,
    /// Named queries.
    Analytics,
    /// The queue, the workers and the dead letters.
    Operations,
    /// Routes of other services.
    Compatibility,
    /// The gateway itself.
    Service,
}

impl Tag {
    /// All tags, in the order of the document.
    pub(super) const ALL: [Self; 7] = [
        Self::Jobs,
        Self::Batches,
        Self::Models,
        Self::Analytics,
        Self::Operations,
        Self::Compatibility,
        Self::Service,
    ];

    /// The name in the document.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Jobs => "Jobs",
            Self::Batches => "Batches",
            Self::Models => "Models",
            Self::Analytics => "Analytics",
            Self::Operations => "Operations",
            Self::Compatibility => "Compatibility",
            Self::Service => "Service",
        }
    }

    /// One line for readers.
    pub(super) fn description(self) -> &'static str {
        match self {
            Self::Jobs => "Submit texts to the queue and get their summaries.",
            Self::Batches => "Submit a file of texts and download the results.",
            Self::Models => "The models that workers serve.",
            Self::Analytics => "Figures that the monitor has recorded.",
            Self::Operations => "The queue, the workers and the dead letters.",
            Self::Compatibility => {
                "Routes of MLflow, SageMaker, AWS Lambda and the article service. Clients of these services only change \
                 the address."
            }
            Self::Service => "Health, error pages and this document.",
        }
    }
}

/// Where a parameter stands in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Location {
    Path,
    Query,
    Header,
}

pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) location: Location,
    pub(super) description: &'static str,
    pub(super) schema: SchemaFn,
}

pub(super) struct Content {
    pub(super) media_type: &'static str,
    pub(super) schema: SchemaFn,
}

pub(super) struct Response {
    pub(super) description: &'static str,
    pub(super) content: Vec<Content>,
    pub(super) headers: Vec<&'static str>,
}

/// The documentation of one method on one path.
pub(crate) struct Operation {
    pub(super) id: &'static str,
    pub(super) tag: Tag,
    pub(super) summary: &'static str,
    pub(super) description: &'static str,
    pub(super) parameters: Vec<Parameter>,
    pub(super) body: Vec<Content>,
    pub(super) responses: BTreeMap<u16, Response>,
    pub(super) errors: Vec<ErrorCode>,
    pub(super) needs_key: bool,
    has_custom_errors: bool,
}

/// Errors of every operation.
const COMMON_ERRORS: [ErrorCode; 5] = [
    ErrorCode::Internal,
    ErrorCode::HostNotAllowed,
    ErrorCode::CrossOriginRefused,
    ErrorCode::UriTooLong,
    ErrorCode::RequestTimeout,
];
/// Errors of an operation that needs a key.
const KEY_ERRORS: [ErrorCode; 3] = [
    ErrorCode::Unauthorized,
    ErrorCode::Forbidden,
    ErrorCode::RateLimited,
];
/// Errors of an operation with a body.
const BODY_ERRORS: [ErrorCode; 4] = [
    ErrorCode::InvalidRequest,
    ErrorCode::BodyTooLarge,
    ErrorCode::UnsupportedMediaType,
    ErrorCode::NotImplemented,
];
/// Errors of an operation that publishes jobs.
pub(crate) const QUEUE_ERRORS: [ErrorCode; 3] = [
    ErrorCode::QueueFull,
    ErrorCode::QueueUnavailable,
    ErrorCode::QuotaExceeded,
];
/// Errors of an operation that checks a text and its parameters.
pub(crate) const TEXT_ERRORS: [ErrorCode; 4] = [
    ErrorCode::EmptyText,
    ErrorCode::TextTooLong,
    ErrorCode::InvalidParameter,
    ErrorCode::UnknownModel,
];

impl Operation {
    /// Creates an operation that needs a key if the deployment has keys. Generated clients name a function after `id`.
    pub(crate) fn new(tag: Tag, id: &'static str, summary: &'static str) -> Self {
        Self {
            id,
            tag,
            summary,
            description: "",
            parameters: Vec::new(),
            body: Vec::new(),
            responses: BTreeMap::new(),
            errors: COMMON_ERRORS.iter().chain(&KEY_ERRORS).copied().collect(),
            needs_key: true,
            has_custom_errors: false,
        }
    }

    /// Drops all problems (RFC 9457), present and future: the operation documents its errors as responses, in another
    /// service's format.
    pub(crate) fn custom_errors(mut self) -> Self {
        self.has_custom_errors = true;
        self.errors.clear();
        self
    }

    /// Sets the text below the summary.
    pub(crate) fn describe(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }

    /// Marks the operation as open to callers without a key.
    pub(crate) fn without_key(mut self) -> Self {
        self.needs_key = false;
        self.errors.retain(|code| !KEY_ERRORS.contains(code));
        self
    }

    /// Adds a path parameter.
    pub(crate) fn path(self, name: &'static str, description: &'static str, schema: SchemaFn) -> Self {
        self.parameter(name, Location::Path, description, schema)
    }

    /// Adds an optional query parameter.
    pub(crate) fn query(self, name: &'static str, description: &'static str, schema: SchemaFn) -> Self {
        self.parameter(name, Location::Query, description, schema)
            .errors(&[ErrorCode::InvalidRequest])
    }

    /// Adds an optional request header.
    pub(crate) fn header(self, name: &'static str, description: &'static str, schema: SchemaFn) -> Self {
        self.parameter(name, Location::Header, description, schema)
    }

    fn parameter(
        mut self,
        name: &'static str,
        location: Location,
        description: &'static str,
        schema: SchemaFn,
    ) -> Self {
        self.parameters.push(Parameter {
            name,
            location,
            description,
            schema,
        });
        self
    }

    /// Adds a JSON body of type `T`.
    pub(crate) fn body<T: JsonSchema>(self) -> Self {
        self.body_as("application/json", of::<T>)
    }

    /// Adds a body of a media type. Several media types are alternatives.
    pub(crate) fn body_as(mut self, media_type: &'static str, schema: SchemaFn) -> Self {
        self.body.push(Content { media_type, schema });
        self.errors(&BODY_ERRORS)
    }

    /// Adds a JSON response of type `T`.
    pub(crate) fn returns<T: JsonSchema>(self, status: u16, description: &'static str) -> Self {
        self.returns_as(status, description, "application/json", of::<T>)
    }

    /// Adds a response of a media type. Several media types of one status are alternatives.
    pub(crate) fn returns_as(
        mut self,
        status: u16,
        description: &'static str,
        media_type: &'static str,
        schema: SchemaFn,
    ) -> Self {
        self.response(status, description)
            .content
            .push(Content { media_type, schema });
        self
    }

    /// Adds a response without a body.
    pub(crate) fn returns_empty(mut self, status: u16, description: &'static str) -> Self {
        self.response(status, description);
        self
    }

    /// Adds headers to the response of a status. [`headers`](super::render::headers) describes them.
    pub(crate) fn with_headers(mut self, status: u16, names: &[&'static str]) -> Self {
        self.response(status, "").headers.extend(names);
        self
    }

    fn response(&mut self, status: u16, description: &'static str) -> &mut Response {
        self.responses.entry(status).or_insert(Response {
            description,
            content: Vec::new(),
            headers: Vec::new(),
        })
    }

    /// Adds error codes that the operation may return.
    pub(crate) fn errors(mut self, codes: &[ErrorCode]) -> Self {
        if !self.has_custom_errors {
            self.errors.extend(codes);
        }
        self
    }
}
