//! Finds the id of a malformed job.

use std::fmt;

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};

use crate::ids::JobId;

/// Returns the id in `body`, whatever its other fields are.
pub(crate) fn id_of(body: &[u8]) -> Option<JobId> {
    let mut id = None;
    // The result says nothing new: the body is malformed.
    let _malformed = serde_json::Deserializer::from_slice(body).deserialize_map(IdOf(&mut id));
    id
}

/// Keeps the field `id` of an object, and skips the others.
struct IdOf<'a>(&'a mut Option<JobId>);

impl<'de> Visitor<'de> for IdOf<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        while let Some(name) = fields.next_key::<String>()? {
            if name == "id" {
                *self.0 = fields.next_value::<String>()?.parse().ok();
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Job;

    #[test]
    fn the_id_is_found_despite_fields_that_are_not_text() {
        for body in [
            &br#"{"text":"Rain \ud800 fell.","id":"a1"}"#[..],
            b"{\"text\":\"Rain \xff fell.\",\"id\":\"a1\"}",
            br#"{"id":"a1","text":"Rain fe"#,
            br#"{"params":{"temperature":1e999},"id":"a1","text":"x","text":"y"}"#,
        ] {
            assert!(Job::from_json(body).is_err());
            assert_eq!(id_of(body).unwrap().as_str(), "a1");
        }
        for body in [
            &br#"["a1","Rain."]"#[..],
            br#"{"text":"Rain."}"#,
            br#"{"id":["a1"]}"#,
            b"",
        ] {
            assert!(id_of(body).is_none());
        }
    }
}
