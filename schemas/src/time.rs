//! Times on the wire: RFC 3339 in UTC with milliseconds, such as `2026-11-23T13:00:00.250Z`.

use std::borrow::Cow;

use jiff::civil::Date;
use jiff::fmt::temporal::Pieces;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, de};

/// Returns the milliseconds from `earlier` to `later`, or 0 if clocks disagree and the difference is negative.
pub fn millis_between(earlier: Timestamp, later: Timestamp) -> f64 {
    let elapsed: SignedDuration = later.duration_since(earlier);
    (elapsed.as_secs_f64() * 1_000.0).max(0.0)
}

/// Cuts `time` to the millisecond, so that it survives the wire format unchanged.
pub fn to_millis(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}

/// Deserializes an optional deadline. RFC 3339 has times after the last one that [`Timestamp`] holds, such as
/// `9999-12-31T23:59:59Z`. They become the last one.
///
/// # Errors
/// If the text is not a time.
pub fn deserialize_deadline<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Timestamp>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    // RFC 3339 allows any number of digits, and a timestamp has nine.
    let text = without_digits_after_nine(&text);
    text.parse()
        .map(Some)
        .or_else(|error: jiff::Error| match is_after_last(&text) {
            true => Ok(Some(Timestamp::MAX)),
            false => Err(de::Error::custom(error)),
        })
}

/// Cuts the fraction of a second to nine digits.
fn without_digits_after_nine(text: &str) -> Cow<'_, str> {
    let Some(dot) = text.find('.') else {
        return Cow::Borrowed(text);
    };
    let digits = text[dot + 1..].bytes().take_while(u8::is_ascii_digit).count();
    match digits > 9 {
        true => Cow::Owned(format!("{}{}", &text[..dot + 10], &text[dot + 1 + digits..])),
        false => Cow::Borrowed(text),
    }
}

/// Whether `text`, which is not a [`Timestamp`], is a time in the last year.
fn is_after_last(text: &str) -> bool {
    Pieces::parse(text).is_ok_and(|pieces| {
        let is_complete = pieces.time().is_some() && pieces.offset().is_some();
        is_complete && pieces.date().year() == Date::MAX.year()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct WithDeadline {
        #[serde(default, deserialize_with = "deserialize_deadline")]
        deadline: Option<Timestamp>,
    }

    #[test]
    fn every_time_of_rfc_3339_is_a_deadline() {
        let read = |text: &str| serde_json::from_str::<WithDeadline>(text).map(|read| read.deadline);
        let of = |time: &str| read(&format!(r#"{{"deadline":"{time}"}}"#));
        let plain: Timestamp = "2026-11-23T13:00:00Z".parse().unwrap();
        assert_eq!(of("2026-11-23T14:00:00+01:00").unwrap(), Some(plain));
        assert_eq!(of("2026-11-23T13:00:00.000000000999Z").unwrap(), Some(plain));
        assert_eq!(
            of("9999-12-31T23:59:59.9999999999Z").unwrap(),
            Some(Timestamp::MAX)
        );
        assert!(of("2026-11-23T13:00:00.0000000000xZ").is_err());
        for last in [
            "9999-12-31T23:59:59Z",
            "9999-12-31T00:00:00.5+00:00",
            "9999-12-30T23:00:00-23:59",
        ] {
            assert_eq!(of(last).unwrap(), Some(Timestamp::MAX), "{last}");
        }
        assert_eq!(read("{}").unwrap(), None);
        assert_eq!(read(r#"{"deadline":null}"#).unwrap(), None);
        for bad in [
            "soon",
            "9999-12-31",
            "9999-12-31T23:59:59",
            "9999-12-32T00:00:00Z",
            "10000-01-01T00:00:00Z",
            "",
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
