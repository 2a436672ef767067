//! Frames of a streamed response, in the event stream encoding of AWS.

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use bytes::{Bytes, BytesMut};
use serde_json::json;

use crate::http::problem::ApiError;

/// Media type of a stream of frames.
pub(crate) const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";

/// A frame with a part of the body.
pub(crate) fn part(text: String) -> Bytes {
    frame(
        &[
            (":message-type", "event"),
            (":event-type", "PayloadPart"),
            (":content-type", "application/octet-stream"),
        ],
        text.into(),
    )
}

/// The last frame of a stream that failed: a `ModelStreamError`.
pub(crate) fn exception(error: ApiError) -> Bytes {
    let problem = error.into_problem();
    let body = json!({ "ErrorCode": problem.code, "Message": problem.detail, "job_id": problem.job_id });
    frame(
        &[
            (":message-type", "exception"),
            (":exception-type", "ModelStreamError"),
            (":content-type", "application/json"),
        ],
        body.to_string().into(),
    )
}

fn frame(headers: &[(&'static str, &'static str)], payload: Bytes) -> Bytes {
    let message = headers
        .iter()
        .fold(Message::new(payload), |message, (name, value)| {
            message.add_header(Header::new(*name, HeaderValue::String((*value).into())))
        });
    let mut buffer = BytesMut::new();
    if let Err(error) = write_message_to(&message, &mut buffer) {
        // Unreachable: only headers or payloads of many megabytes are rejected, and a summary has a few hundred bytes.
        tracing::error!(%error, "encoding a frame failed");
    }
    buffer.freeze()
}

#[cfg(test)]
mod tests {
    use aws_smithy_eventstream::frame::read_message_from;
    use precis_schemas::ErrorCode;

    use super::*;

    #[test]
    fn frames_decode_to_what_was_encoded() {
        let read = read_message_from(&mut part("[\"Rain".to_owned())).unwrap();
        assert_eq!(read.payload().as_ref(), b"[\"Rain");
        assert_eq!(
            read.headers()[1].value().as_string().unwrap().as_str(),
            "PayloadPart"
        );
        let failed = ApiError::new(ErrorCode::InferenceFailed, "the model failed").of_job("a.1".into());
        let read = read_message_from(&mut exception(failed)).unwrap();
        let body: serde_json::Value = serde_json::from_slice(read.payload()).unwrap();
        assert_eq!(
            body,
            json!({"ErrorCode": "inference_failed", "Message": "the model failed", "job_id": "a.1"})
        );
    }
}
