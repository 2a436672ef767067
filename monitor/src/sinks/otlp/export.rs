//! OTLP export requests for targets that read OpenInference.

use jiff::Timestamp;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value::Value,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use precis_schemas::JobId;
use prost::Message as _;
use sha2::{Digest, Sha256};

use crate::sinks::forward::http::SendError;
use crate::sinks::forward::metrics;

/// Content type of a request.
pub(crate) const PROTOBUF: &str = "application/x-protobuf";

/// Returns an attribute.
pub(crate) fn attribute(key: impl Into<String>, value: Value) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// Returns a string attribute.
pub(crate) fn text(key: impl Into<String>, value: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

/// Returns an integer attribute.
pub(crate) fn int(key: impl Into<String>, value: u64) -> KeyValue {
    attribute(key, Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)))
}

/// Returns a floating-point attribute.
pub(crate) fn double(key: impl Into<String>, value: f64) -> KeyValue {
    attribute(key, Value::DoubleValue(value))
}

/// Returns a list attribute.
pub(crate) fn list(key: impl Into<String>, values: impl IntoIterator<Item = Value>) -> KeyValue {
    let values = values
        .into_iter()
        .map(|value| AnyValue { value: Some(value) })
        .collect();
    attribute(key, Value::ArrayValue(ArrayValue { values }))
}

/// Returns a time in nanoseconds since 1970.
pub(crate) fn nanos(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or_default()
}

/// Returns an id of `N` bytes for `part` of a job. It is always the same, so a repeated span is the same span, and a
/// late span can refer to it.
pub(crate) fn id_of<const N: usize>(part: &str, job: &JobId) -> Vec<u8> {
    let digest = Sha256::digest(format!("precis {part} {job}").as_bytes());
    digest[..N].to_vec()
}

/// Returns `bytes` as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns an export request with `spans` under a resource with `attributes`.
pub(crate) fn request(attributes: Vec<KeyValue>, spans: Vec<Span>) -> Vec<u8> {
    let scope = InstrumentationScope {
        name: "precis-monitor".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..InstrumentationScope::default()
    };
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes,
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope),
                spans,
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    };
    request.encode_to_vec()
}

/// Returns the attributes of the resource that all spans belong to: the project and the sender.
pub(crate) fn resource(project: &str) -> Vec<KeyValue> {
    vec![
        text("service.name", "precis-monitor"),
        text("service.version", env!("CARGO_PKG_VERSION")),
        text("telemetry.sdk.language", "rust"),
        text("telemetry.sdk.name", "precis"),
        text("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
        text("openinference.project.name", project),
    ]
}

/// Checks the response to an accepted request.
///
/// # Errors
/// When the target dropped all spans. OTLP forbids resending a request of which a part was accepted, and does not say
/// which spans those are.
pub(crate) fn check_response(body: &[u8], sent: usize) -> Result<(), SendError> {
    let response = ExportTraceServiceResponse::decode(body).unwrap_or_default();
    let Some(partial) = response.partial_success else {
        return Ok(());
    };
    let rejected = usize::try_from(partial.rejected_spans).unwrap_or_default();
    let message = partial.error_message;
    if rejected == 0 {
        if !message.is_empty() {
            tracing::warn!(message, "target accepted the spans with a warning");
        }
        return Ok(());
    }
    if rejected >= sent {
        return Err(SendError::Rejected(format!(
            "all {sent} spans were rejected: {message}"
        )));
    }
    metrics::dropped_spans(rejected);
    tracing::error!(rejected, sent, message, "target dropped some spans");
    Ok(())
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;

    use super::*;

    fn response(rejected_spans: i64) -> Vec<u8> {
        let partial_success = Some(ExportTracePartialSuccess {
            rejected_spans,
            error_message: "too old".into(),
        });
        ExportTraceServiceResponse { partial_success }.encode_to_vec()
    }

    #[test]
    fn a_partly_rejected_request_is_accepted_and_a_fully_rejected_one_is_not() {
        assert_eq!(check_response(b"", 3), Ok(()));
        assert_eq!(check_response(&response(0), 3), Ok(()));
        assert_eq!(check_response(&response(2), 3), Ok(()));
        assert!(matches!(
            check_response(&response(3), 3),
            Err(SendError::Rejected(_))
        ));
    }

    #[test]
    fn ids_are_stable_and_differ_by_part_and_job() {
        let (one, other): (JobId, JobId) = ("a1".parse().unwrap(), "a2".parse().unwrap());
        assert_eq!(id_of::<8>("llm", &one), id_of::<8>("llm", &one));
        assert_ne!(id_of::<8>("llm", &one), id_of::<8>("embedding", &one));
        assert_ne!(id_of::<16>("trace", &one), id_of::<16>("trace", &other));
        assert_eq!(hex(&[0x0a, 0xff]), "0aff");
    }
}
