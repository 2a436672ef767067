//! Headers that describe a request body: media type (RFC 9110, 8.3.1), content coding and length.

use http::{HeaderMap, header};
use precis_runtime::http_server::foreign_coding;
use precis_schemas::ErrorCode;

use crate::http::prefer::{split, unquoted};
use crate::http::problem::ApiError;

/// The media type of a body, as the client wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MediaType<'a>(&'a str);

impl<'a> MediaType<'a> {
    /// Returns the header `content-type`: empty if it is not ASCII text, `None` if it is missing.
    pub(crate) fn of(headers: &'a HeaderMap) -> Option<Self> {
        let value = headers.get(header::CONTENT_TYPE)?;
        Some(Self(value.to_str().unwrap_or_default()))
    }

    /// The whole header value.
    pub(crate) fn text(self) -> &'a str {
        self.0
    }

    /// Type and subtype in lower case, without parameters.
    pub(crate) fn essence(self) -> String {
        let essence = split(self.0, ';').next().unwrap_or_default();
        essence.trim().to_ascii_lowercase()
    }

    /// Whether it is JSON: `application/json`, or a type with the suffix `+json` (RFC 6839, 3.1).
    pub(crate) fn is_json(self) -> bool {
        let essence = self.essence();
        essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
    }

    /// Names and values of the parameters. A parameter without `=` has no value.
    pub(crate) fn parameters(self) -> impl Iterator<Item = (&'a str, Option<String>)> {
        split(self.0, ';')
            .skip(1)
            .map(|parameter| match parameter.split_once('=') {
                Some((name, value)) => (name.trim(), Some(unquoted(value.trim()))),
                None => (parameter.trim(), None),
            })
    }

    /// The value of a parameter.
    pub(crate) fn parameter(self, name: &str) -> Option<String> {
        self.parameters()
            .find(|(given, _)| given.eq_ignore_ascii_case(name))
            .and_then(|(_, value)| value)
    }
}

/// Rejects a compressed body.
///
/// # Errors
/// [`ErrorCode::UnsupportedMediaType`] for every content coding but `identity`.
pub(crate) fn check_coding(headers: &HeaderMap) -> Result<(), ApiError> {
    match foreign_coding(headers) {
        Some(coding) => Err(ApiError::new(
            ErrorCode::UnsupportedMediaType,
            format!("the body has the content coding {coding:?}; send it as it is, without content-encoding"),
        )),
        None => Ok(()),
    }
}

/// The value of `content-length`, in bytes.
pub(crate) fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn essence_and_parameters_are_split() {
        let mut headers = HeaderMap::new();
        assert_eq!(MediaType::of(&headers), None);
        let text = "Text/CSV ; Charset=\"Latin-1\";header";
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(text));
        let media_type = MediaType::of(&headers).unwrap();
        assert_eq!(media_type.essence(), "text/csv");
        assert_eq!(media_type.parameter("charset").as_deref(), Some("Latin-1"));
        assert_eq!(media_type.parameter("header"), None);
        let parameters: Vec<_> = media_type.parameters().collect();
        assert_eq!(
            parameters,
            [("Charset", Some("Latin-1".to_owned())), ("header", None)]
        );
        // A quoted value may contain what separates parameters.
        let text = "multipart/form-data; boundary=\"a;charset=x\"; q=1";
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(text));
        let media_type = MediaType::of(&headers).unwrap();
        assert_eq!(media_type.parameter("boundary").as_deref(), Some("a;charset=x"));
        assert_eq!(media_type.parameter("charset"), None);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(MediaType::of(&headers).unwrap().essence(), "");
    }
}
