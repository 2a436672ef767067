//! Dead letters: copies of messages that could not be processed, with the reasons.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error_code::Refusal;

/// A message on `dead.v1.<task>` in the stream `DEAD`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetter {
    /// Sequence of the message in its stream: `JOBS`, `RESULTS` (a result that a sink rejected) or `WEBHOOKS`.
    pub job_sequence: u64,
    /// Subject of the message.
    pub subject: String,
    /// The body, if it is UTF-8; else see `body_base16`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body in hexadecimal, if it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base16: Option<String>,
    /// Why the message could not be processed.
    pub reason: Refusal,
    /// Number of deliveries.
    pub attempts: u64,
    /// Time at which the stream stored the message.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub submitted_at: Timestamp,
    /// Time of this dead letter.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub died_at: Timestamp,
}

impl DeadLetter {
    /// Creates a dead letter. A body that is not UTF-8 is written in hexadecimal.
    pub fn new(
        job_sequence: u64,
        subject: impl Into<String>,
        body: &[u8],
        reason: Refusal,
        attempts: u64,
        submitted_at: Timestamp,
        died_at: Timestamp,
    ) -> Self {
        let text = std::str::from_utf8(body).ok().map(str::to_owned);
        let body_base16 = text
            .is_none()
            .then(|| body.iter().map(|byte| format!("{byte:02x}")).collect());
        Self {
            job_sequence,
            subject: subject.into(),
            body: text,
            body_base16,
            reason,
            attempts,
            submitted_at,
            died_at,
        }
    }
}

impl DeadLetter {
    /// Removes a body that is too large for the server, and notes it in the reason.
    pub fn strip_body(&mut self) {
        self.leave_out_body("is too large for a dead letter");
    }

    /// Removes a body whose text must not be stored, and notes it in the reason.
    pub fn withhold_body(&mut self) {
        self.leave_out_body("is not kept: monitor.texts");
    }

    fn leave_out_body(&mut self, why: &str) {
        let bytes = match (&self.body, &self.body_base16) {
            (Some(text), _) => text.len(),
            (None, Some(digits)) => digits.len() / 2,
            (None, None) => 0,
        };
        self.body = None;
        self.body_base16 = None;
        let note = format!(" (the body, {bytes} bytes, {why})");
        self.reason.message.push_str(&note);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error_code::ErrorCode;

    #[test]
    fn binary_bodies_are_kept_in_hexadecimal() {
        let reason = Refusal::new(ErrorCode::InvalidRequest, "not JSON");
        let letter = DeadLetter::new(
            3,
            "jobs.v1.a",
            b"\xff\x00",
            reason,
            1,
            Timestamp::UNIX_EPOCH,
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!((letter.body, letter.body_base16.as_deref()), (None, Some("ff00")));
    }
}
