//! Names of NATS message headers.

/// W3C trace context of the message's request.
pub const TRACEPARENT: &str = "traceparent";
/// Vendor part of the W3C trace context.
pub const TRACESTATE: &str = "tracestate";
/// JetStream's deduplication id: the job's id.
pub const MESSAGE_ID: &str = "Nats-Msg-Id";
/// JetStream rejects the publish unless the subject's last message has this sequence (0: there is none).
pub const EXPECTED_LAST_SUBJECT_SEQUENCE: &str = "Nats-Expected-Last-Subject-Sequence";
/// On a dead letter: the original subject.
pub const ORIGINAL_SUBJECT: &str = "Precis-Original-Subject";
/// On a dead letter: the error code.
pub const DEAD_REASON: &str = "Precis-Dead-Reason";
