//! What HTTP/1.1 requires of a request's framing beyond what hyper checks (RFC 9112).

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Version, header};
use precis_schemas::ErrorCode;
use precis_schemas::error_code::Refusal;

use crate::problem;

/// Answers a request whose framing is not allowed, and closes its connection: whoever frames requests differently must
/// not send another one.
pub(super) async fn guard(request: Request, next: Next) -> Response {
    match check(request.version(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            let close = [(header::CONNECTION, HeaderValue::from_static("close"))];
            (close, problem::response(&refusal)).into_response()
        }
    }
}

/// Refuses a request without exactly one valid `host` (3.2), and one with a transfer coding that hyper does not decode
/// (6.1).
///
/// # Errors
/// [`ErrorCode::InvalidRequest`] or [`ErrorCode::NotImplemented`].
fn check(version: Version, headers: &HeaderMap) -> Result<(), Refusal> {
    if version != Version::HTTP_11 {
        return Ok(());
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let problem = match (hosts.next(), hosts.next()) {
        (None, _) => Some("the header host is missing"),
        (Some(_), Some(_)) => Some("there are several headers host"),
        (Some(host), None) if !is_host(host.as_bytes()) => Some("the header host is malformed"),
        _ => None,
    };
    if let Some(problem) = problem {
        return Err(Refusal::new(ErrorCode::InvalidRequest, problem));
    }
    // hyper makes sure that the last coding is `chunked`, and decodes that one only.
    let lines = headers.get_all(header::TRANSFER_ENCODING).iter();
    let codings = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let mut codings = codings
        .map(<[u8]>::trim_ascii)
        .filter(|coding| !coding.is_empty());
    if codings
        .next()
        .is_some_and(|coding| !coding.eq_ignore_ascii_case(b"chunked"))
    {
        return Err(Refusal::new(
            ErrorCode::NotImplemented,
            "the only supported transfer coding is chunked",
        ));
    }
    match codings.next() {
        Some(_) => Err(Refusal::new(
            ErrorCode::InvalidRequest,
            "transfer-encoding must name chunked once, at its end",
        )),
        None => Ok(()),
    }
}

/// Whether `text` is a host with an optional port. It may be empty, if the target of the request has no authority.
fn is_host(text: &[u8]) -> bool {
    let Ok(authority) = Authority::try_from(text) else {
        return text.is_empty();
    };
    let port = authority.as_str().strip_prefix(authority.host());
    port.is_some_and(|port| match port.strip_prefix(':') {
        Some(digits) => digits.is_empty() || authority.port_u16().is_some(),
        // Anything else would be a user name.
        None => port.is_empty(),
    })
}

/// Returns a content coding other than `identity` that a body has, if there is one. Repeated fields form one list
/// (RFC 9110, 5.3 and 8.4).
pub fn foreign_coding(headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all(header::CONTENT_ENCODING).iter();
    let mut codings = lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii);
    let foreign = codings.find(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))?;
    Some(String::from_utf8_lossy(foreign).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(version: Version, fields: &[(&str, &str)]) -> Option<ErrorCode> {
        let mut request = http::Request::builder().version(version);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        check(version, request.headers())
            .err()
            .map(|refusal| refusal.code)
    }

    #[test]
    fn exactly_one_valid_host_is_required() {
        let of = |hosts: &[&str]| {
            let fields: Vec<(&str, &str)> = hosts.iter().map(|host| ("host", *host)).collect();
            code(Version::HTTP_11, &fields)
        };
        for host in [
            "a",
            "a:80",
            "127.0.0.1:8000",
            "[::1]:80",
            "[::1]",
            "a.example",
            "",
        ] {
            assert_eq!(of(&[host]), None, "{host:?}");
        }
        let refused = Some(ErrorCode::InvalidRequest);
        for host in ["a b", "a/b", "http://a/", "u@a", "a,b c", "a:b"] {
            assert_eq!(of(&[host]), refused, "{host:?}");
        }
        assert_eq!(of(&[]), refused);
        assert_eq!(of(&["a", "a"]), refused);
        // These versions need no host.
        assert_eq!(code(Version::HTTP_10, &[]), None);
        assert_eq!(code(Version::HTTP_2, &[]), None);
    }

    #[test]
    fn chunked_is_the_only_transfer_coding() {
        let of = |lines: &[&str]| {
            let fields = lines.iter().map(|line| ("transfer-encoding", *line));
            let fields: Vec<(&str, &str)> = std::iter::once(("host", "a")).chain(fields).collect();
            code(Version::HTTP_11, &fields)
        };
        assert_eq!(of(&["chunked"]), None);
        assert_eq!(of(&[" Chunked ,"]), None);
        for other in [
            &["gzip, chunked"][..],
            &["gzip", "chunked"],
            &["identity, chunked"],
            &["xchunked"],
        ] {
            assert_eq!(of(other), Some(ErrorCode::NotImplemented), "{other:?}");
        }
        assert_eq!(of(&["chunked, chunked"]), Some(ErrorCode::InvalidRequest));
    }

    #[test]
    fn every_content_coding_but_identity_is_found_on_any_line() {
        let check = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::CONTENT_ENCODING, HeaderValue::from_static(line));
            }
            foreign_coding(&headers).is_none()
        };
        for accepted in [
            &[][..],
            &["identity"],
            &["Identity, identity"],
            &[""],
            &["identity", "identity"],
        ] {
            assert!(check(accepted), "{accepted:?}");
        }
        for refused in [
            &["gzip"][..],
            &["identity", "gzip"],
            &["identity, br"],
            &["gzip", "identity"],
        ] {
            assert!(!check(refused), "{refused:?}");
        }
    }
}
