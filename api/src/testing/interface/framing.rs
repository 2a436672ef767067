//! How the gateway answers requests that HTTP/1.1 forbids (RFC 9112), byte by byte.

use std::net::SocketAddr;
use std::sync::Arc;

use precis_runtime::admin::Readiness;
use precis_runtime::config::HttpConfig;
use precis_runtime::http_server::serve;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::gateway::router::router;
use crate::testing::{FakeQueue, state_of};

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
    let routes = router(state, &Readiness::default(), None);
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
