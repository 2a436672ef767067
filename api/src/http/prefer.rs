//! The header `Prefer` (RFC 7240): `wait=N` and `respond-async`.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

const PREFER: HeaderName = HeaderName::from_static("prefer");

/// The preferences of a client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Preferences {
    /// Seconds that the client waits.
    pub(crate) wait: Option<u64>,
    /// Whether the client prefers an immediate response over the result.
    pub(crate) respond_async: bool,
}

impl Preferences {
    /// Reads all `Prefer` headers. The first of repeated preferences counts. As RFC 7240 (2) requires, nothing is
    /// rejected: unknown and malformed preferences are ignored, and `wait` is capped at `max_wait` seconds.
    pub(crate) fn read(headers: &HeaderMap, max_wait: u64) -> Self {
        let mut found = Self::default();
        for value in headers.get_all(PREFER) {
            let Ok(text) = value.to_str() else { continue };
            for preference in split(text, ',') {
                // Ignores parameters after a semicolon: neither preference has any.
                let main = split(preference, ';').next().unwrap_or_default();
                let (name, value) = match main.split_once('=') {
                    Some((name, value)) => (name.trim(), unquoted(value.trim())),
                    None => (main.trim(), String::new()),
                };
                if name.eq_ignore_ascii_case("respond-async") {
                    found.respond_async = true;
                } else if name.eq_ignore_ascii_case("wait") && found.wait.is_none() {
                    found.wait = seconds(&value).map(|seconds| seconds.min(max_wait));
                }
            }
        }
        found
    }

    /// How long to wait for a result, if the client specified it.
    pub(crate) fn patience(self) -> Option<Duration> {
        self.wait.map(Duration::from_secs)
    }

    /// The value of `Preference-Applied`, or `None` if no preference was applied.
    pub(crate) fn applied(self, answered_async: bool) -> Option<String> {
        let wait = self.wait.map(|seconds| format!("wait={seconds}"));
        let respond_async = (self.respond_async && answered_async).then(|| "respond-async".to_owned());
        let applied: Vec<String> = respond_async.into_iter().chain(wait).collect();
        (!applied.is_empty()).then(|| applied.join(", "))
    }
}

/// Parses seconds. A number that overflows becomes the maximum.
fn seconds(value: &str) -> Option<u64> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| value.parse().unwrap_or(u64::MAX))
}

/// Splits `text` at separators outside quotes.
pub(super) fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let mut escaped = false;
    text.split(move |c| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => return c == separator && !quoted,
        }
        false
    })
}

/// Removes the quotes of a quoted string. Returns a token unchanged.
pub(super) fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut text = String::with_capacity(inner.len());
    let mut escaped = false;
    for c in inner.chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            escaped = false;
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&'static str]) -> Preferences {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(PREFER, http::HeaderValue::from_static(value));
        }
        Preferences::read(&headers, 60)
    }

    #[test]
    fn every_form_of_rfc_7240_is_parsed() {
        let wait = |seconds| Preferences {
            wait: Some(seconds),
            respond_async: false,
        };
        for (header, expected) in [
            ("wait=10", wait(10)),
            ("WAIT = 10", wait(10)),
            ("wait=\"10\"", wait(10)),
            ("foo; x=\"a,wait=1\", wait=10; unused=1", wait(10)),
            ("foo=\"\\\"\", wait=10, wait=20", wait(10)),
            ("handling=lenient", Preferences::default()),
            ("wait=61", wait(60)),
            ("wait=99999999999999999999", wait(60)),
            ("wait=soon, wait=10", wait(10)),
            ("", Preferences::default()),
        ] {
            assert_eq!(read(&[header]), expected, "{header}");
        }
        let both = Preferences {
            wait: Some(5),
            respond_async: true,
        };
        assert_eq!(read(&["respond-async, wait=5"]), both);
        assert_eq!(read(&["respond-async", "wait=5"]), both);
        assert_eq!(both.applied(true).as_deref(), Some("respond-async, wait=5"));
        assert_eq!(both.applied(false).as_deref(), Some("wait=5"));
        assert_eq!(Preferences::default().applied(true), None);
    }

    #[test]
    fn a_wait_that_is_not_a_number_is_ignored() {
        for header in ["wait", "wait=", "wait=soon", "wait=-1", "wait=+1", "wait=1.5"] {
            assert_eq!(read(&[header]), Preferences::default(), "{header}");
        }
    }
}
