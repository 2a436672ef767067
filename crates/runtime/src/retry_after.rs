//! The header `Retry-After` of a response (RFC 9110, section 10.2.3).

use std::time::Duration;

use jiff::Timestamp;

/// Returns how long the sender of a response asks to wait from `now`: a number of seconds, or a date in one of the three
/// forms of HTTP. A date in the past means no wait, and a number too large for a clock means the longest one.
///
/// Returns `None` if the value is neither.
pub fn parse(value: &[u8], now: Timestamp) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?.trim_matches([' ', '\t']);
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = Timestamp::try_from(httpdate::parse_http_date(text).ok()?).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_all_three_forms_of_a_date_are_read() {
        let now: Timestamp = "1994-11-06T08:48:37Z".parse().unwrap();
        let read = |text: &str| parse(text.as_bytes(), now);
        let minute = Some(Duration::from_secs(60));
        for text in [
            "60",
            " 060\t",
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(read(text), minute, "{text}");
        }
        assert_eq!(read("0"), Some(Duration::ZERO));
        assert_eq!(read("Wed, 21 Oct 1992 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(
            read("99999999999999999999999"),
            Some(Duration::from_secs(u64::MAX))
        );
        for text in [
            "",
            "soon",
            "-5",
            "+5",
            "1.5",
            "60s",
            "1e3",
            "2026-11-29T00:00:00Z",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(parse(b"\xff", now), None);
    }
}
