//! What HTTP/1.1 requires of a request's framing beyond what hyper checks (RFC 9112).

use axum::extract::Request;
use http::uri::Authority;
use http::{Version, header};
use precis_schemas::ErrorCode;

use crate::http::problem::ApiError;

/// A request extension: the request came over a connection, so its framing counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FromConnection;

/// Refuses a request without exactly one valid `host` (3.2), and one with a transfer coding that hyper does not decode
/// (6.1).
///
/// # Errors
/// [`ErrorCode::InvalidRequest`] or [`ErrorCode::NotImplemented`].
pub(crate) fn check(request: &Request) -> Result<(), ApiError> {
    let is_from_connection = request.extensions().get::<FromConnection>().is_some();
    if !is_from_connection || request.version() != Version::HTTP_11 {
        return Ok(());
    }
    let headers = request.headers();
    let mut hosts = headers.get_all(header::HOST).iter();
    let problem = match (hosts.next(), hosts.next()) {
        (None, _) => Some("the header host is missing"),
        (Some(_), Some(_)) => Some("there are several headers host"),
        (Some(host), None) if !is_host(host.as_bytes()) => Some("the header host is malformed"),
        _ => None,
    };
    if let Some(problem) = problem {
        return Err(ApiError::new(ErrorCode::InvalidRequest, problem));
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
        return Err(ApiError::new(
            ErrorCode::NotImplemented,
            "the only supported transfer coding is chunked",
        ));
    }
    match codings.next() {
        Some(_) => Err(ApiError::new(
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use axum::Extension;
    use axum::body::Body;
    use precis_runtime::admin::Readiness;
    use precis_runtime::config::HttpConfig;
    use precis_runtime::http_server::serve;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::gateway::router::router;
    use crate::testing::{FakeQueue, state_of};

    fn code(version: Version, fields: &[(&str, &str)]) -> Option<ErrorCode> {
        let mut request = http::Request::builder()
            .version(version)
            .uri("/")
            .extension(FromConnection);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        check(&request.body(Body::empty()).unwrap())
            .err()
            .map(|error| error.code())
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
    /// Sends bytes to a gateway. Returns what it answers until it closes the connection.
    async fn exchange(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn requests_that_rfc_9112_forbids_are_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let http = HttpConfig::default();
        let state = state_of(Arc::new(FakeQueue::default()));
        let routes = router(state, &Readiness::default(), None).layer(Extension(FromConnection));
        let stop = CancellationToken::new();
        tokio::spawn(async move { serve(listener, routes, &http, stop).await });
        let json = "content-type: application/json\r\nprefer: respond-async\r\n";
        let post = |fields: &str, body: &str| {
            format!("POST /v1/summaries HTTP/1.1\r\nhost: a\r\n{json}{fields}\r\n{body}")
        };
        let get = |fields: &str| format!("GET /healthz HTTP/1.1\r\n{fields}\r\n");
        let chunks = "10\r\n{\"text\":\"Rain.\"}\r\n0\r\n\r\n";
        let close = "connection: close\r\n";
        for (request, status) in [
            (get("host: a\r\nconnection: close\r\n"), 200),
            // The target in absolute form (3.2.2), with an empty line before the request (2.2).
            (
                format!("\r\nGET http://a/healthz HTTP/1.1\r\nhost: b\r\n{close}\r\n"),
                200,
            ),
            ("GET /healthz HTTP/1.0\r\n\r\n".to_owned(), 200),
            // The header host (3.2).
            (get(""), 400),
            (get("host: a\r\nhost: a\r\n"), 400),
            (get("host: a b\r\n"), 400),
            // Fields: white space before the colon (5.1), a folded line (5.2), and white space before the first (2.2).
            (get("host : a\r\n"), 400),
            (get("host: a\r\nx-a: b\r\n c\r\n"), 400),
            (get(" host: a\r\n"), 400),
            // A carriage return alone (2.2).
            (get("host: a\r\nx-a: b\rc\r\n"), 400),
            // Transfer codings (6.1, 6.3).
            (
                post(&format!("transfer-encoding: chunked\r\n{close}"), chunks),
                202,
            ),
            (post("transfer-encoding: gzip, chunked\r\n", chunks), 501),
            (
                post(
                    "transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n",
                    chunks,
                ),
                501,
            ),
            (post("transfer-encoding: chunked, chunked\r\n", chunks), 400),
            (post("transfer-encoding: chunked, gzip\r\n", chunks), 400),
            (post("transfer-encoding: gzip\r\n", chunks), 400),
            (
                format!("POST /v1/summaries HTTP/1.0\r\n{json}transfer-encoding: chunked\r\n\r\n{chunks}"),
                400,
            ),
            // The connection ends after a request with both lengths, whichever comes first (6.3).
            (
                post("content-length: 5\r\ntransfer-encoding: chunked\r\n", chunks),
                202,
            ),
            (
                post("transfer-encoding: chunked\r\ncontent-length: 5\r\n", chunks),
                202,
            ),
            // Lengths (6.3).
            (post("content-length: 1\r\ncontent-length: 2\r\n", "{}"), 400),
            (post("content-length: 1, 2\r\n", "{}"), 400),
            (post("content-length: +2\r\n", "{}"), 400),
            (post("content-length: -2\r\n", "{}"), 400),
            (post("content-length: 18446744073709551616\r\n", "{}"), 400),
            // Chunks (7.1).
            (
                post(
                    &format!("transfer-encoding: chunked\r\n{close}"),
                    "x\r\n{}\r\n0\r\n\r\n",
                ),
                400,
            ),
            (
                post(
                    &format!("transfer-encoding: chunked\r\n{close}"),
                    "fffffffffffffffff\r\n{}\r\n",
                ),
                400,
            ),
            (
                post(
                    &format!("transfer-encoding: chunked\r\n{close}"),
                    "2\r\n{}x\r\n0\r\n\r\n",
                ),
                400,
            ),
            // The coding of the content, on any line (RFC 9110, 8.4).
            (
                post(
                    &format!(
                        "content-length: 2\r\ncontent-encoding: identity\r\ncontent-encoding: gzip\r\n{close}"
                    ),
                    "{}",
                ),
                415,
            ),
            // The request line.
            ("GET /healthz HTTP/3.0\r\nhost: a\r\n\r\n".to_owned(), 400),
            ("GET  /healthz HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), 400),
            ("G(T /healthz HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), 400),
        ] {
            let answer = exchange(address, request.as_bytes()).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} "))
                    || answer.starts_with(&format!("HTTP/1.0 {status} ")),
                "{request:?}\n{answer}"
            );
        }
    }
}
