//! Job ids, which publishers choose, and handles, which REST clients hold.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Maximum length of an id, in bytes.
pub const MAX_ID_BYTES: usize = 64;

/// Error of parsing an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an id must be 1 to {MAX_ID_BYTES} characters of A-Z a-z 0-9 _ -, not {given:?}")]
pub struct InvalidId {
    /// The rejected text, cut to 80 characters.
    pub given: String,
}

/// Id of a job, chosen by its publisher: 1 to 64 characters of `A-Z a-z 0-9 _ -`.
///
/// It is a token of the result's subject and the deduplication id (`Nats-Msg-Id`) of the publish, so that publishing a
/// job twice queues it once.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^[A-Za-z0-9_-]{1,64}$"))]
pub struct JobId(String);

impl JobId {
    /// Generates an id that sorts by creation time (UUID version 7, 32 hexadecimal digits).
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7().simple().to_string())
    }

    /// Returns the id as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Reports whether `text` is 1 to 64 characters of `A-Z a-z 0-9 _ -`.
pub(crate) fn is_token(text: &str) -> bool {
    (1..=MAX_ID_BYTES).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

impl FromStr for JobId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if is_token(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidId {
                given: text.chars().take(80).collect(),
            })
        }
    }
}

impl TryFrom<String> for JobId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of a job in REST: its job id and, after a dot, its sequence in the stream `JOBS`.
///
/// The sequence lets any gateway tell `queued` from `expired` without a second store: the stream either still holds a
/// message at that sequence or not. A client that published over NATS may use a bare job id; then only the result can
/// be found.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JobHandle {
    /// The job's id.
    pub id: JobId,
    /// The job's sequence in the stream `JOBS`, as the publish acknowledgement gave it.
    pub sequence: Option<u64>,
}

impl FromStr for JobHandle {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId {
            given: text.chars().take(80).collect(),
        };
        match text.split_once('.') {
            None => Ok(Self {
                id: text.parse()?,
                sequence: None,
            }),
            Some((id, sequence)) => {
                let id = id.parse().map_err(|_| invalid())?;
                let canonical = !sequence.is_empty() && sequence.bytes().all(|byte| byte.is_ascii_digit());
                let sequence = sequence
                    .parse::<u64>()
                    .ok()
                    .filter(|number| canonical && *number > 0);
                Ok(Self {
                    id,
                    sequence: Some(sequence.ok_or_else(invalid)?),
                })
            }
        }
    }
}

impl fmt::Display for JobHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sequence {
            Some(sequence) => write!(f, "{}.{sequence}", self.id),
            None => self.id.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_round_trip() {
        let handle = JobHandle {
            id: JobId::generate(),
            sequence: Some(42),
        };
        assert_eq!(handle.to_string().parse::<JobHandle>().unwrap(), handle);
        let bare: JobHandle = "my-article_7".parse().unwrap();
        assert_eq!((bare.id.as_str(), bare.sequence), ("my-article_7", None));
    }

    #[test]
    fn ids_that_are_not_subject_tokens_are_rejected() {
        for text in [
            "",
            "a b",
            "a.b.c",
            "a.*",
            "a.",
            ".1",
            "a.0",
            "a.+1",
            "é",
            "a>",
            &"x".repeat(65),
        ] {
            assert!(text.parse::<JobHandle>().is_err(), "{text:?} was accepted");
        }
    }
}
