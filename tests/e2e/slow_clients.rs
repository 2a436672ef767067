//! Clients that send slowly, too much or nothing, on real listeners.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::guarded::guarded;

#[tokio::test]
async fn slow_senders_are_disconnected_without_blocking_others() {
    let product = guarded().await;
    let address = product.api.strip_prefix("http://").unwrap().to_owned();
    let dribble = |head: &'static str| {
        let address = address.clone();
        async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            loop {
                // Sends one byte at a time, forever.
                let sent = stream.write_all(b"x").await;
                let mut buffer = [0; 1_024];
                let read = tokio::time::timeout(Duration::from_millis(100), stream.read(&mut buffer)).await;
                match read {
                    Ok(Ok(0) | Err(_)) => return String::from_utf8(answer).unwrap(),
                    Ok(Ok(count)) => answer.extend_from_slice(&buffer[..count]),
                    Err(_) if sent.is_err() => return String::from_utf8(answer).unwrap(),
                    Err(_) => {}
                }
            }
        }
    };
    let head = "GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow: ";
    let body = "POST /v1/summaries HTTP/1.1\r\nhost: x\r\nauthorization: Bearer precis_test_two\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n{\"text\": \"";
    let slow = futures::future::join_all((0..20).map(|_| dribble(head)));
    let slow_bodies = futures::future::join_all((0..5).map(|_| dribble(body)));
    let others = async {
        for _ in 0..10 {
            assert_eq!(product.get("/healthz").await.0, 200);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let all = futures::future::join3(slow, slow_bodies, others);
    let (_, answers, ()) = tokio::time::timeout(Duration::from_secs(60), all)
        .await
        .expect("every slow client is cut off within a minute");
    for answer in answers {
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(answer.contains("request_timeout"), "{answer}");
    }
}

#[tokio::test]
async fn headers_and_paths_are_limited() {
    let product = guarded().await;
    let long = product.get(&format!("/healthz?{}", "x".repeat(9_000))).await;
    assert_eq!((long.0, long.1["code"].as_str()), (414, Some("uri_too_long")));
    let large = product
        .http
        .get(format!("{}/healthz", product.api))
        .header("x-large", "x".repeat(40_000));
    assert_eq!(large.send().await.unwrap().status(), 431);
    let mut many = product.http.get(format!("{}/healthz", product.api));
    for number in 0..150 {
        many = many.header(format!("x-{number}"), "x");
    }
    assert_eq!(many.send().await.unwrap().status(), 431);
}

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

#[tokio::test]
async fn ambiguous_prefaces_and_idle_http2_connections_are_closed() {
    let product = guarded().await;
    let address = product.api.strip_prefix("http://").unwrap().to_owned();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let settings = frame(4, 0, 0, &[]);
    // An unfinished head that continues as long as the server reads.
    let begun = [preface.clone(), settings.clone(), frame(1, 0, 1, &[0x82])].concat();
    let silent = [
        b"P".to_vec(),
        preface[..preface.len() - 1].to_vec(),
        preface.clone(),
        [preface, settings].concat(),
        begun,
    ];
    let cut_off = silent.map(|begin| {
        let address = address.clone();
        async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(&begin).await.unwrap();
            let mut answer = Vec::new();
            let read = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await;
            assert!(
                read.is_ok(),
                "{begin:?} holds its connection; it was answered {answer:?}"
            );
        }
    });
    futures::future::join_all(cut_off).await;
    // A slow but complete request succeeds.
    let mut stream = TcpStream::connect(address).await.unwrap();
    for byte in b"PUT /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n" {
        stream.write_all(&[*byte]).await.unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
}

#[tokio::test]
async fn half_sent_requests_are_cut_off_by_every_listener() {
    let product = guarded().await;
    let listeners = [
        &product.api,
        &product.monitor,
        &product.worker_admin,
        &product.clickhouse,
    ];
    let halves = ["", "G", "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "];
    let cut_off = listeners
        .into_iter()
        .flat_map(|base| halves.map(|half| (base, half)));
    let cut_off = cut_off.map(async |(base, half)| {
        let address = base.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(half.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "{base} keeps {half:?} open; it answered {answer:?}");
    });
    futures::future::join_all(cut_off).await;
}
