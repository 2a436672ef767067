//! The character set that a body declares. JSON has none: it is always UTF-8 (RFC 8259, 8.1).

use encoding_rs::{Encoding, UTF_8};
use precis_schemas::ErrorCode;

use crate::http::media_type::MediaType;
use crate::http::problem::ApiError;

/// Returns the character set of a text, or `None` if it is UTF-8 or not declared.
///
/// # Errors
/// [`ErrorCode::UnsupportedMediaType`] for a name that the [Encoding Standard](https://encoding.spec.whatwg.org/) does
/// not have.
pub(crate) fn declared(media_type: MediaType<'_>) -> Result<Option<&'static Encoding>, ApiError> {
    let Some(name) = media_type.parameter("charset") else {
        return Ok(None);
    };
    match Encoding::for_label_no_replacement(name.as_bytes()) {
        Some(encoding) => Ok((encoding != UTF_8).then_some(encoding)),
        None => Err(ApiError::new(
            ErrorCode::UnsupportedMediaType,
            format!("the character set {name:?} is unknown; send UTF-8"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header};

    use super::*;

    #[test]
    fn labels_of_the_encoding_standard_are_known() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(text).unwrap());
            declared(MediaType::of(&headers).unwrap())
        };
        for (text, name) in [
            ("text/csv", None),
            ("text/csv; charset=utf-8", None),
            ("text/csv; charset=\"UTF8\"", None),
            ("text/csv; Charset=ISO-8859-1", Some("windows-1252")),
            (
                "text/csv;header=present;charset=windows-1252",
                Some("windows-1252"),
            ),
            ("text/csv; charset=utf-16", Some("UTF-16LE")),
            ("text/csv; charset=utf-16be", Some("UTF-16BE")),
            ("text/csv; charset=shift_jis", Some("Shift_JIS")),
        ] {
            assert_eq!(of(text).unwrap().map(Encoding::name), name, "{text}");
        }
        for text in [
            "text/csv; charset=klingon",
            "text/csv; charset=",
            "text/csv; charset=utf-7",
        ] {
            assert_eq!(
                of(text).unwrap_err().code(),
                ErrorCode::UnsupportedMediaType,
                "{text}"
            );
        }
    }
}
