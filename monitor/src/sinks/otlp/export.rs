//! Spans as OTLP has them, for receivers that read OpenInference.

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

/// An attribute.
pub(crate) fn attribute(key: impl Into<String>, value: Value) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// An attribute that is a text.
pub(crate) fn text(key: impl Into<String>, value: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

/// An attribute that is a whole number.
pub(crate) fn int(key: impl Into<String>, value: u64) -> KeyValue {
    attribute(key, Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)))
}

/// An attribute that is a number.
pub(crate) fn double(key: impl Into<String>, value: f64) -> KeyValue {
    attribute(key, Value::DoubleValue(value))
}

/// An attribute that is a list.
pub(crate) fn list(key: impl Into<String>, values: impl IntoIterator<Item = Value>) -> KeyValue {
    let values = values
        .into_iter()
        .map(|value| AnyValue { value: Some(value) })
        .collect();
    attribute(key, Value::ArrayValue(ArrayValue { values }))
}

/// A moment as OTLP has it: nanoseconds since 1970.
pub(crate) fn nanos(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or_default()
}

/// `N` bytes that name `part` of a job: always the same ones, so that a span that is sent again is the same span, and
/// one that is sent later can be attached to it.
pub(crate) fn id_of<const N: usize>(part: &str, job: &JobId) -> Vec<u8> {
    let digest = Sha256::digest(format!("precis {part} {job}").as_bytes());
    digest[..N].to_vec()
}

/// `bytes` as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A request with `spans`, under a resource with `attributes`.
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

/// Attributes of the resource that every span here belongs to: which project it is, and who sends it.
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

/// Reads the answer to a request that was taken.
///
/// # Errors
/// When the receiver says that it took only a part: OTLP forbids to send that again, and does not say which part it was.
pub(crate) fn read_answer(body: &[u8], sent: usize) -> Result<(), SendError> {
    let answer = ExportTraceServiceResponse::decode(body).unwrap_or_default();
    let Some(partial) = answer.partial_success else {
        return Ok(());
    };
    let rejected = usize::try_from(partial.rejected_spans).unwrap_or_default();
    let message = partial.error_message;
    if rejected == 0 {
        if !message.is_empty() {
            tracing::warn!(message, "a receiver of traces has a remark");
        }
        return Ok(());
    }
    if rejected >= sent {
        return Err(SendError::Refused(format!(
            "all of {sent} spans are rejected: {message}"
        )));
    }
    metrics::dropped_spans(rejected);
    tracing::error!(
        rejected,
        sent,
        message,
        "a receiver of traces has dropped some spans"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;

    use super::*;

    fn answer(rejected_spans: i64) -> Vec<u8> {
        let partial_success = Some(ExportTracePartialSuccess {
            rejected_spans,
            error_message: "too old".into(),
        });
        ExportTraceServiceResponse { partial_success }.encode_to_vec()
    }

    #[test]
    fn a_part_that_is_rejected_is_not_sent_again_but_a_whole_is_refused() {
        assert_eq!(read_answer(b"", 3), Ok(()));
        assert_eq!(read_answer(&answer(0), 3), Ok(()));
        assert_eq!(read_answer(&answer(2), 3), Ok(()));
        assert!(matches!(read_answer(&answer(3), 3), Err(SendError::Refused(_))));
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
