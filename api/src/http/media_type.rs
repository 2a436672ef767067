//! Headers that describe a request body: media type (RFC 9110, 8.3.1), content coding and length.

use http::{HeaderMap, header};
use precis_schemas::ErrorCode;

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
        let essence = self.0.split(';').next().unwrap_or_default();
        essence.trim().to_ascii_lowercase()
    }

    /// Names and values of the parameters. A parameter without `=` has no value.
    pub(crate) fn parameters(self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
        self.0
            .split(';')
            .skip(1)
            .map(|parameter| match parameter.split_once('=') {
                Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
                None => (parameter.trim(), None),
            })
    }

    /// The character set, if it is specified and not UTF-8.
    pub(crate) fn foreign_charset(self) -> Option<&'a str> {
        self.parameters()
            .filter(|(name, _)| name.eq_ignore_ascii_case("charset"))
            .filter_map(|(_, value)| value)
            .find(|value| !value.eq_ignore_ascii_case("utf-8"))
    }
}

/// Rejects a compressed body.
///
/// # Errors
/// [`ErrorCode::UnsupportedMediaType`] for every content coding but `identity`.
pub(crate) fn check_coding(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(coding) if !coding.as_bytes().eq_ignore_ascii_case(b"identity") => Err(ApiError::new(
            ErrorCode::UnsupportedMediaType,
            "the body is compressed; send it uncompressed, without content-encoding",
        )),
        _ => Ok(()),
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
        assert_eq!(media_type.foreign_charset(), Some("Latin-1"));
        let parameters: Vec<_> = media_type.parameters().collect();
        assert_eq!(parameters, [("Charset", Some("Latin-1")), ("header", None)]);
        for text in ["application/json;charset=UTF-8", "application/json; charset"] {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(text));
            assert_eq!(MediaType::of(&headers).unwrap().foreign_charset(), None, "{text}");
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(MediaType::of(&headers).unwrap().essence(), "");
    }
}
