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
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::sinks::forward::http::{Confirmation, SendError};
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

/// The parts of OTLP's answer that say what was rejected, in its JSON form. JSON writes 64-bit integers as strings.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct JsonAnswer {
    partial_success: Option<JsonPartialSuccess>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct JsonPartialSuccess {
    rejected_spans: serde_json::Value,
    error_message: String,
}

/// Returns the number of rejected spans and the target's message, or `None` if the answer is not OTLP's.
fn rejected(confirmation: &Confirmation) -> Option<(u64, String)> {
    let Confirmation { body, media_type } = confirmation;
    if body.is_empty() {
        return Some((0, String::new()));
    }
    match media_type.as_str() {
        "application/json" => {
            let answer: Option<JsonAnswer> = serde_json::from_slice(body).ok()?;
            let partial = answer.unwrap_or_default().partial_success.unwrap_or_default();
            let spans = match &partial.rejected_spans {
                serde_json::Value::Null => 0,
                serde_json::Value::String(digits) => digits.parse().ok()?,
                number => number.as_u64()?,
            };
            Some((spans, partial.error_message))
        }
        PROTOBUF | "" => {
            let answer = ExportTraceServiceResponse::decode(&**body).ok()?;
            let partial = answer.partial_success.unwrap_or_default();
            Some((u64::try_from(partial.rejected_spans).ok()?, partial.error_message))
        }
        _ => None,
    }
}

/// Checks the response to a request.
///
/// # Errors
/// When the target rejected spans, or when the answer is not OTLP's.
pub(crate) fn check_response(confirmation: &Confirmation) -> Result<(), SendError> {
    let Some((spans, message)) = rejected(confirmation) else {
        return Err(confirmation.unreadable());
    };
    if spans == 0 {
        if !message.is_empty() {
            tracing::warn!(message, "target accepted the spans with a warning");
        }
        return Ok(());
    }
    metrics::rejected_spans(spans);
    Err(SendError::PartlyRejected(format!(
        "{spans} spans of the request were rejected: {message}"
    )))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;

    use super::*;

    fn answer(media_type: &str, body: impl Into<Bytes>) -> Confirmation {
        Confirmation {
            body: body.into(),
            media_type: media_type.into(),
        }
    }

    fn protobuf(rejected_spans: i64) -> Vec<u8> {
        let partial_success = Some(ExportTracePartialSuccess {
            rejected_spans,
            error_message: "too old".into(),
        });
        ExportTraceServiceResponse { partial_success }.encode_to_vec()
    }

    #[test]
    fn rejected_spans_are_found_in_both_forms() {
        for accepted in [
            answer("", ""),
            answer(PROTOBUF, ""),
            answer(PROTOBUF, protobuf(0)),
            answer("application/json", "{}"),
            answer("application/json", "null"),
            answer(
                "application/json",
                r#"{"partialSuccess":{"errorMessage":"slow down"}}"#,
            ),
            answer("application/json", r#"{"partialSuccess":{"rejectedSpans":"0"}}"#),
        ] {
            assert_eq!(check_response(&accepted), Ok(()), "{accepted:?}");
        }
        for rejected in [
            answer(PROTOBUF, protobuf(2)),
            answer("", protobuf(2)),
            answer(
                "application/json",
                r#"{"partialSuccess":{"rejectedSpans":"2","errorMessage":"too old"}}"#,
            ),
            answer(
                "application/json",
                r#"{"partialSuccess":{"rejectedSpans":2,"errorMessage":"too old"}}"#,
            ),
        ] {
            let reason = SendError::PartlyRejected("2 spans of the request were rejected: too old".into());
            assert_eq!(check_response(&rejected), Err(reason), "{rejected:?}");
        }
    }

    #[test]
    fn an_answer_that_is_not_otlp_confirms_nothing() {
        for other in [
            answer("text/plain", "OK"),
            answer("application/json", "<html>"),
            answer(
                "application/json",
                r#"{"partialSuccess":{"rejectedSpans":"some"}}"#,
            ),
            answer(PROTOBUF, "<html>sign in</html>"),
            answer("", "<html>sign in</html>"),
        ] {
            let checked = check_response(&other);
            assert!(
                matches!(checked, Err(SendError::Unconfirmed(_))),
                "{other:?}: {checked:?}"
            );
        }
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
