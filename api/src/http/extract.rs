//! Reading requests: a JSON body, and a query, with errors that say what is wrong and where.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::{FromRequest, FromRequestParts, Request};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::request::Parts;
use http::{HeaderMap, header};
use precis_schemas::error_code::ErrorCode;
use serde::de::DeserializeOwned;

use crate::http::media_type::{MediaType, announced_length, check_coding};
use crate::http::problem::ApiError;
use crate::state::AppState;

/// A JSON object of type `T` from the body.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<AppState> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        check_media_type(request.headers())?;
        let body = read_body(
            request,
            state.limits().max_body_bytes,
            state.http().body_timeout(),
        )
        .await?;
        parse(&body).map(Self)
    }
}

/// The whole body of a request, as it is, of at most `limit` bytes.
///
/// # Errors
/// When it is larger, compressed, breaks off, or does not arrive in time.
pub(crate) async fn read_body(request: Request, limit: usize, patience: Duration) -> Result<Bytes, ApiError> {
    check_coding(request.headers())?;
    if announced_length(request.headers()).is_some_and(|length| length > limit as u64) {
        leave(request).await;
        return Err(too_large(limit));
    }
    tokio::time::timeout(patience, collect(request.into_body(), limit))
        .await
        .map_err(|_| {
            let seconds = patience.as_secs();
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
        return unsupported("there is no content type; send application/json".into());
    };
    let essence = media_type.essence();
    let json =
        essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"));
    if !json {
        let text = media_type.text();
        return unsupported(format!("the content type is {text}; send application/json"));
    }
    if let Some(charset) = media_type.foreign_charset() {
        return unsupported(format!("the character set is {charset}; send UTF-8"));
    }
    Ok(())
}

/// Most bytes that are read only to be thrown away, and the longest that this may take.
const MOST_DISCARDED: usize = 16 << 20;
const LONGEST_DISCARD: Duration = Duration::from_secs(5);

/// Lets the client of a request that is refused without its body come to the end of it, within bounds.
pub(crate) async fn leave(request: Request) {
    // A client that asks before it sends needs only the answer.
    if !request.headers().contains_key(header::EXPECT) {
        discard(request.into_body().into_data_stream()).await;
    }
}

/// Reads on and throws away, within bounds: a client that is cut off while it still writes sees a
/// broken connection instead of the reason (RFC 9112, 9.6).
pub(crate) async fn discard(mut chunks: BodyDataStream) {
    let read = async {
        let mut bytes = 0;
        while let Some(Ok(chunk)) = chunks.next().await {
            bytes += chunk.len();
            if bytes > MOST_DISCARDED {
                return;
            }
        }
    };
    // Either way the refusal is sent now.
    let _within_time = tokio::time::timeout(LONGEST_DISCARD, read).await;
}

async fn collect(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let mut chunks = body.into_data_stream();
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| invalid(format!("the body broke off: {error}")))?;
        if first.len() + all.len() + chunk.len() > limit {
            discard(chunks).await;
            return Err(too_large(limit));
        }
        // Most bodies come in one piece, which need not be copied.
        if first.is_empty() && all.is_empty() {
            first = chunk;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&chunk);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// Reads a JSON object.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let text = std::str::from_utf8(body)
        .map_err(|error| invalid(format!("the body is not UTF-8 (byte {})", error.valid_up_to())))?;
    match text.trim_start().chars().next() {
        None => return Err(invalid("the body is empty; send a JSON object")),
        // A type that is read from an object can also be read from an array, in the order of its fields.
        Some('[') => return Err(invalid("the body is a JSON array; send a JSON object")),
        Some(_) => {}
    }
    // Following the path through the body costs as much as reading it: that is done only when there is something to tell.
    if let Ok(value) = serde_json::from_str(text) {
        return Ok(value);
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let cause = error.into_inner();
        let place = format!("line {}, column {}", cause.line(), cause.column());
        let mut message = cause.to_string();
        if let Some(end) = message.rfind(" at line ") {
            message.truncate(end);
        }
        // What is quoted may be a whole article.
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
            "line {}, column {}: something follows the object",
            error.line(),
            error.column()
        ))
    })?;
    Ok(value)
}

/// Parameters of type `T` from the query.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<AppState> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        axum::extract::Query::try_from_uri(&parts.uri)
            .map(|axum::extract::Query(query)| Self(query))
            .map_err(|rejection| invalid(format!("the query: {}", rejection.body_text())))
    }
}

#[cfg(test)]
mod tests {
    use precis_schemas::rest::SubmitSummary;

    use super::*;

    fn refused(body: &[u8]) -> String {
        let error = parse::<SubmitSummary>(body).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidRequest);
        format!("{error:?}")
    }

    #[test]
    fn an_error_says_where_reading_stopped_and_at_what() {
        for (body, parts) in [
            (&b""[..], &["the body is empty"][..]),
            (b"  \n", &["the body is empty"]),
            (b"{\n\"text\": oops}", &["line 2, column 9", "expected"]),
            (b"{\"text\": \"x\"", &["line 1, column 12", "EOF"]),
            (b"{\"text\": \"x\"} {}", &["something follows"]),
            (b"[\"x\"]", &["array"]),
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
            let message = refused(body);
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
    fn json_by_its_other_names_is_taken_and_all_else_is_not() {
        let check = |content_type: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
            check_media_type(&headers)
        };
        for fine in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/vnd.precis+json",
        ] {
            assert_eq!(check(fine), Ok(()), "{fine}");
        }
        for bad in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "",
            "application/json; charset=latin1",
        ] {
            assert_eq!(
                check(bad).unwrap_err().code(),
                ErrorCode::UnsupportedMediaType,
                "{bad}"
            );
        }
        assert!(check_media_type(&HeaderMap::new()).is_err());
    }
}
