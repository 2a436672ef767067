//! Requests of gateways to the monitor on `monitors.v1.<request>`, and its replies.
//!
//! One monitor of a deployment answers each request.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error_code::Refusal;
use crate::subject::named;

named! {
    /// A request to the monitor. Its message has no body.
    MonitorRequest as "the request" {
        /// Asks for a [`MonitorStatus`].
        Status = "status",
        /// Asks for the [`SampleHistory`](crate::rest_operations::SampleHistory).
        SampleHistory = "sample_history",
        /// Loads the sample history, and returns it.
        LoadSampleHistory = "load_sample_history",
        /// Removes the sample history, and returns what is left of it.
        RemoveSampleHistory = "remove_sample_history",
    }
}

impl MonitorRequest {
    /// Subject of requests of every kind.
    pub const ALL_SUBJECTS: &str = "monitors.v1.*";
    /// Queue group of the monitors: one of them gets a request.
    pub const GROUP: &str = "monitors";

    /// Returns the subject of the request.
    pub fn subject(self) -> String {
        format!("monitors.v1.{self}")
    }

    /// Returns the request that was sent to `subject`, if it is one.
    pub fn of_subject(subject: &str) -> Option<Self> {
        subject.strip_prefix("monitors.v1.")?.parse().ok()
    }
}

/// The reply to a [`MonitorRequest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MonitorReply<T> {
    /// The request was carried out.
    Done(T),
    /// The request was refused, or failed.
    Refused(Refusal),
}

impl<T> From<MonitorReply<T>> for Result<T, Refusal> {
    fn from(reply: MonitorReply<T>) -> Self {
        match reply {
            MonitorReply::Done(value) => Ok(value),
            MonitorReply::Refused(refusal) => Err(refusal),
        }
    }
}

impl<T> From<Result<T, Refusal>> for MonitorReply<T> {
    fn from(outcome: Result<T, Refusal>) -> Self {
        match outcome {
            Ok(value) => Self::Done(value),
            Err(refusal) => Self::Refused(refusal),
        }
    }
}

/// What a monitor knows about its sinks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MonitorStatus {
    /// Version of the monitor.
    pub version: String,
    /// Every sink, by name.
    pub sinks: Vec<SinkStatus>,
}

/// A sink of the monitor: ClickHouse, or a forwarder.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SinkStatus {
    /// Name of the sink, as in the metric `precis_monitor_lag_messages`.
    pub sink: String,
    /// Messages that it has not acknowledged.
    pub waiting: u64,
    /// It has handled every message up to this sequence of its stream. Absent until it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handled_to: Option<u64>,
    /// Why its last attempt failed. Absent if it succeeded, or nothing was sent yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When its last attempt ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub attempted_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorCode;

    #[test]
    fn every_request_has_a_subject_of_its_own() {
        for request in MonitorRequest::ALL {
            assert_eq!(MonitorRequest::of_subject(&request.subject()), Some(*request));
        }
        for other in ["monitors.v1.other", "monitors.v2.status", "workers.v1.status"] {
            assert_eq!(MonitorRequest::of_subject(other), None, "{other}");
        }
    }

    #[test]
    fn a_reply_is_a_value_or_a_refusal() {
        let done = MonitorReply::from(Ok(3));
        assert_eq!(serde_json::to_string(&done).unwrap(), r#"{"done":3}"#);
        let refusal = Refusal::new(ErrorCode::AnalyticsUnavailable, "down");
        let refused = serde_json::to_string(&MonitorReply::<u8>::Refused(refusal.clone())).unwrap();
        let read: MonitorReply<u8> = serde_json::from_str(&refused).unwrap();
        assert_eq!(Result::from(read), Err(refusal));
    }
}
