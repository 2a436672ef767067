//! Names of the NATS message headers that Precis reads and writes.

/// W3C trace context of the request that a message belongs to.
pub const TRACEPARENT: &str = "traceparent";
/// Vendor part of the W3C trace context.
pub const TRACESTATE: &str = "tracestate";
/// Deduplication id of JetStream: the job's id.
pub const MESSAGE_ID: &str = "Nats-Msg-Id";
/// JetStream: refuse the publish unless the subject's last message has this sequence (0: none exists).
pub const EXPECTED_LAST_SUBJECT_SEQUENCE: &str = "Nats-Expected-Last-Subject-Sequence";
/// On a dead letter: the subject on which the job was published.
pub const ORIGINAL_SUBJECT: &str = "Precis-Original-Subject";
/// On a dead letter: the stable error code that says why it died.
pub const DEAD_REASON: &str = "Precis-Dead-Reason";
