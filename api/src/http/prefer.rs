//! The header `Prefer` (RFC 7240): `wait=N` and `respond-async`.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

const PREFER: HeaderName = HeaderName::from_static("prefer");

/// What a client would like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Preferences {
    /// How long it is ready to wait, in seconds.
    pub(crate) wait: Option<u64>,
    /// Whether it prefers an answer at once to the result.
    pub(crate) respond_async: bool,
}

impl Preferences {
    /// Reads all `Prefer` headers; of a repeated preference the first counts. What is not known here or can't be read is
    /// ignored, and a longer `wait` than `most` seconds is one of so many, as RFC 7240 (2) wants: nothing is refused.
    pub(crate) fn read(headers: &HeaderMap, most: u64) -> Self {
        let mut found = Self::default();
        for value in headers.get_all(PREFER) {
            let Ok(text) = value.to_str() else { continue };
            for preference in split(text, ',') {
                // What follows a semicolon are parameters, and neither preference has any.
                let main = split(preference, ';').next().unwrap_or_default();
                let (name, value) = match main.split_once('=') {
                    Some((name, value)) => (name.trim(), unquoted(value.trim())),
                    None => (main.trim(), String::new()),
                };
                if name.eq_ignore_ascii_case("respond-async") {
                    found.respond_async = true;
                } else if name.eq_ignore_ascii_case("wait") && found.wait.is_none() {
                    found.wait = seconds(&value).map(|seconds| seconds.min(most));
                }
            }
        }
        found
    }

    /// How long to wait for a result, if the client says so.
    pub(crate) fn patience(self) -> Option<Duration> {
        self.wait.map(Duration::from_secs)
    }

    /// The value of `Preference-Applied`, when there is something to say.
    pub(crate) fn applied(self, answered_async: bool) -> Option<String> {
        let wait = self.wait.map(|seconds| format!("wait={seconds}"));
        let respond_async = (self.respond_async && answered_async).then(|| "respond-async".to_owned());
        let applied: Vec<String> = respond_async.into_iter().chain(wait).collect();
        (!applied.is_empty()).then(|| applied.join(", "))
    }
}

/// A number of seconds; one that is too large to be written is longer than anything.
fn seconds(value: &str) -> Option<u64> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| value.parse().unwrap_or(u64::MAX))
}

/// The parts of `text` between separators that are not inside quotes.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
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

/// A token as it is, a quoted string without its quotes.
fn unquoted(value: &str) -> String {
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
    fn preferences_are_read_in_every_form_that_the_rfc_knows() {
        let wait = |seconds| Preferences {
            wait: Some(seconds),
            respond_async: false,
        };
        for (header, wanted) in [
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
            assert_eq!(read(&[header]), wanted, "{header}");
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
    fn a_wait_that_is_no_number_is_ignored() {
        for header in ["wait", "wait=", "wait=soon", "wait=-1", "wait=+1", "wait=1.5"] {
            assert_eq!(read(&[header]), Preferences::default(), "{header}");
        }
    }
}
