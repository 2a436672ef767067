//! What a web page in a browser on this machine can send to the listeners of the product: raw requests.

use precis_tests::Product;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::shared;

/// Sends a request with exactly these headers and returns the status.
async fn status(base: &str, method: &str, path: &str, headers: &str, body: &str) -> u16 {
    let address = base.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = Vec::new();
    // A refusing server may close the connection before it has read the body.
    let _ = stream.read_to_end(&mut reply).await;
    let reply = String::from_utf8_lossy(&reply);
    let status = reply.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("{method} {base}{path}: {reply:?}"))
}

/// A route of each listener.
fn routes(product: &Product) -> Vec<(&str, &'static str, &'static str, &'static str)> {
    let text = r#"{"text": "It rained in the harbour."}"#;
    vec![
        (&product.api, "POST", "/v1/summaries", text),
        (&product.api, "POST", "/v1/batches", text),
        (&product.api, "POST", "/endpoints/any/invocations", text),
        (&product.api, "POST", "/invocations", text),
        (&product.api, "GET", "/v1/models", ""),
        (&product.api, "GET", "/", ""),
        (&product.monitor, "POST", "/db/init", ""),
        (&product.monitor, "POST", "/log/online", text),
        (&product.monitor, "GET", "/history/list", ""),
        (&product.monitor, "GET", "/metrics", ""),
        (&product.worker_admin, "GET", "/metrics", ""),
        (&product.clickhouse, "POST", "/", "SELECT 1"),
        (&product.clickhouse, "GET", "/?query=SELECT+1", ""),
    ]
}

#[tokio::test]
async fn a_rebound_name_reaches_no_listener() {
    let product = shared().await;
    for (base, method, path, body) in routes(product) {
        for host in [
            "rebound.example",
            "127.0.0.1.rebound.example:80",
            "localhost.rebound.example",
        ] {
            let headers = format!("Host: {host}\r\nOrigin: http://{host}\r\nSec-Fetch-Site: same-origin\r\n");
            let status = status(base, method, path, &headers, body).await;
            assert!(
                matches!(status, 400 | 403 | 421),
                "{method} {base}{path}: {status}"
            );
        }
    }
}

#[tokio::test]
async fn simple_requests_of_a_foreign_page_are_refused() {
    let product = shared().await;
    for (base, method, path, body) in routes(product) {
        let host = base.strip_prefix("http://").unwrap();
        for page in [
            "Origin: https://evil.example",
            "Origin: null",
            "Sec-Fetch-Site: same-site",
        ] {
            for kind in [
                "",
                "Content-Type: text/plain\r\n",
                "Content-Type: application/x-www-form-urlencoded\r\n",
                "Content-Type: multipart/form-data; boundary=x\r\n",
            ] {
                let headers = format!("Host: {host}\r\n{page}\r\n{kind}");
                let status = status(base, method, path, &headers, body).await;
                assert_eq!(status, 403, "{method} {base}{path} {page} {kind}");
            }
        }
    }
}
