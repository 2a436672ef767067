//! Extractors for JSON bodies and queries. Their errors say what is wrong and where.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRef, FromRequest, FromRequestParts, Request};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::HeaderMap;
use http::request::Parts;
use precis_schemas::decode_error::{explain_query, in_json_terms};
use precis_schemas::error_code::ErrorCode;
use precis_schemas::strict_json::{self, BYTE_ORDER_MARK, Strict};
use serde::de::DeserializeOwned;

use crate::http::media_type::{MediaType, announced_length, check_coding};
use crate::http::problem::ApiError;

/// Limits on reading the body of a request, as part of the router's state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimits {
    /// Largest size, in bytes.
    pub(crate) max_bytes: usize,
    /// How long the whole body may take to arrive.
    pub(crate) timeout: Duration,
}

/// Extracts a JSON object of type `T` from the body.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T, S> FromRequest<S> for JsonBody<T>
where
    T: DeserializeOwned,
    S: Sync,
    BodyLimits: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        check_media_type(request.headers())?;
        let limits = BodyLimits::from_ref(state);
        let body = read_body(request, limits.max_bytes, limits.timeout).await?;
        parse(&body).map(Self)
    }
}

/// Reads the whole body of a request.
///
/// # Errors
/// If the body is compressed, has more than `limit` bytes, is incomplete, or takes longer than `time_limit`.
pub(crate) async fn read_body(
    request: Request,
    limit: usize,
    time_limit: Duration,
) -> Result<Bytes, ApiError> {
    check_coding(request.headers())?;
    if announced_length(request.headers()).is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit));
    }
    tokio::time::timeout(time_limit, collect(request.into_body(), limit))
        .await
        .map_err(|_| {
            let seconds = time_limit.as_secs();
            ApiError::new(
                ErrorCode::RequestTimeout,
                format!("the body did not arrive within {seconds} seconds"),
            )
        })?
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, message)
}

fn too_large(limit: usize) -> ApiError {
    ApiError::new(
        ErrorCode::BodyTooLarge,
        format!("the body has more than {limit} bytes"),
    )
}

fn check_media_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let unsupported = |message: String| Err(ApiError::new(ErrorCode::UnsupportedMediaType, message));
    let Some(media_type) = MediaType::of(headers) else {
        return unsupported("the content type is missing; send application/json".into());
    };
    if !media_type.is_json() {
        let text = media_type.text();
        return unsupported(format!("the content type is {text}; send application/json"));
    }
    // JSON has no parameter `charset`, so it has no effect (RFC 8259, 11).
    Ok(())
}

async fn collect(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let mut chunks = body.into_data_stream();
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| invalid(format!("the body is incomplete: {error}")))?;
        if first.len() + all.len() + chunk.len() > limit {
            return Err(too_large(limit));
        }
        // Avoids a copy of a body that arrives in one chunk, as most do.
        if first.is_empty() && all.is_empty() {
            first = chunk;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&chunk);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// Parses a JSON object.
///
/// # Errors
/// [`ErrorCode::InvalidRequest`] with the line, column and field of the problem.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let text = std::str::from_utf8(body)
        .map_err(|error| invalid(format!("the body is not UTF-8 (byte {})", error.valid_up_to())))?;
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    if text.trim().is_empty() {
        return Err(invalid("the body is empty; send a JSON object"));
    }
    // Tracking the path costs as much as parsing, so it is done only for an error message.
    if let Ok(value) = strict_json::from_str::<T>(text) {
        return Ok(value);
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(Strict(&mut reader)).map_err(|error| {
        let path = error.path().to_string();
        let cause = error.into_inner();
        let place = format!("line {}, column {}", cause.line(), cause.column());
        let mut message = cause.to_string();
        if let Some(end) = message.rfind(" at line ") {
            message.truncate(end);
        }
        let mut message = in_json_terms(&message);
        // The message may quote a whole article.
        if let Some((cut, _)) = message.char_indices().nth(300) {
            message.truncate(cut);
            message.push('…');
        }
        if cause.is_data() && path != "." && path != "?" {
            invalid(format!("{place}: {path}: {message}"))
        } else {
            invalid(format!("{place}: {message}"))
        }
    })?;
    reader.end().map_err(|error| {
        invalid(format!(
            "line {}, column {}: unexpected characters after the object",
            error.line(),
            error.column()
        ))
    })?;
    Ok(value)
}

/// Extracts parameters of type `T` from the query string.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        axum::extract::Query::try_from_uri(&parts.uri)
            .map(|axum::extract::Query(query)| Self(query))
            .map_err(|rejection| invalid(format!("the query: {}", explain_query(&rejection.body_text()))))
    }
}

#[cfg(test)]
mod tests {
    use http::header;
    use precis_schemas::rest::SubmitSummary;

    use super::*;

    fn error_of(body: &[u8]) -> String {
        let error = parse::<SubmitSummary>(body).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidRequest);
        format!("{error:?}")
    }

    #[test]
    fn a_parse_error_names_position_and_field() {
        for (body, parts) in [
            (&b""[..], &["the body is empty"][..]),
            (b"  \n", &["the body is empty"]),
            (b"{\n\"text\": oops}", &["line 2, column 9", "expected"]),
            (b"{\"text\": \"x\"", &["line 1, column 12", "EOF"]),
            (b"{\"text\": \"x\"} {}", &["unexpected characters"]),
            (b"[\"x\"]", &["invalid type: array, expected an object"]),
            (
                b"{\"text\": \"x\", \"params\": [7]}",
                &["params: invalid type: array, expected an object"],
            ),
            (
                b"{\"text\": \"x\", \"metadata\": {\"k\": \"1\", \"k\": \"2\"}}",
                &["duplicate field `k`"],
            ),
            (b"\"x\"", &["line 1", "invalid type: string"]),
            (b"{\"text\": \"\xff\"}", &["not UTF-8 (byte 10)"]),
            (b"{\"text\": \"\\ud800\"}", &["line 1"]),
            (
                b"{\"text\": 7}",
                &["text: invalid type: integer `7`, expected a string"],
            ),
            (
                b"{\"text\": \"x\", \"txt\": 1}",
                &["unknown field `txt`", "`priority`"],
            ),
            (b"{\"text\": \"x\", \"text\": \"y\"}", &["duplicate field"]),
            (
                b"{\"text\": \"x\", \"params\": {\"num_beams\": \"8\"}}",
                &["params.num_beams: invalid type"],
            ),
            (
                b"{\"text\": \"x\", \"params\": {\"num_beams\": -1}}",
                &["params.num_beams"],
            ),
            (
                b"{\"text\": \"x\", \"priority\": \"urgent\"}",
                &["priority: unknown variant `urgent`", "`high`"],
            ),
            (b"{\"text\": \"x\", \"deadline\": \"soon\"}", &["deadline: "]),
        ] {
            let message = error_of(body);
            for part in parts {
                assert!(
                    message.contains(part),
                    "{}: {message}",
                    String::from_utf8_lossy(body)
                );
            }
        }
    }

    #[test]
    fn only_json_media_types_are_accepted() {
        let check = |content_type: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
            check_media_type(&headers)
        };
        for accepted in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/vnd.precis+json",
            "application/json; charset=utf8",
            "application/json; charset=latin1",
        ] {
            assert_eq!(check(accepted), Ok(()), "{accepted}");
        }
        for rejected in ["text/plain", "application/x-www-form-urlencoded", ""] {
            assert_eq!(
                check(rejected).unwrap_err().code(),
                ErrorCode::UnsupportedMediaType,
                "{rejected}"
            );
        }
        assert!(check_media_type(&HeaderMap::new()).is_err());
    }

    #[tokio::test]
    async fn a_query_error_says_what_the_value_must_be() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Wanted {
            #[expect(dead_code, reason = "only parsed")]
            wait: Option<u64>,
            #[expect(dead_code, reason = "only parsed")]
            stream: Option<bool>,
        }
        for (query, problem) in [
            ("wait=x", "wait must be a whole number of at least 0"),
            ("wait=-1", "wait must be a whole number of at least 0"),
            ("wait=", "wait must be a whole number of at least 0"),
            ("wait=99999999999999999999", "wait is too large"),
            ("stream=yes", "stream must be true or false"),
            ("nope=1", "unknown field `nope`"),
        ] {
            let request = http::Request::get(format!("/?{query}")).body(()).unwrap();
            let (mut parts, ()) = request.into_parts();
            let error = Query::<Wanted>::from_request_parts(&mut parts, &())
                .await
                .unwrap_err();
            assert!(format!("{error:?}").contains(problem), "{query}: {error:?}");
        }
    }
}
