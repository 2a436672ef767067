//! Clients that disconnect early.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::harness::{PASSWORD, USER, address, client, eventually};

/// Sends a request, reads the start of the response if it comes in time, and disconnects.
async fn disconnect_during(sql: &str, format: &str) {
    let address = address().await.unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "POST /?default_format={format} HTTP/1.1\r\nHost: {address}\r\nX-ClickHouse-User: {USER}\r\n\
         X-ClickHouse-Key: {PASSWORD}\r\nContent-Length: {}\r\n\r\n{sql}",
        sql.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let _ = tokio::time::timeout(Duration::from_millis(700), stream.read(&mut [0; 1000])).await;
}

#[tokio::test]
async fn disconnect_stops_the_query() {
    let Some(client) = client("leaving").await else {
        return;
    };
    // Endless rows, a long delay before the first row, and a result that isn't streamed.
    for (mark, sql, format) in [
        (
            "endless",
            "SELECT number, 'endless' FROM numbers(1000000000000)",
            "RowBinary",
        ),
        (
            "silent",
            "SELECT 'silent', sum(sleepEachRow(0.1)) FROM numbers(600) SETTINGS max_block_size = 1, \
             function_sleep_max_microseconds_per_block = 1000000000",
            "RowBinary",
        ),
        (
            "whole",
            "SELECT 'whole', sum(sleepEachRow(0.1)) FROM numbers(600) SETTINGS max_block_size = 1, \
             function_sleep_max_microseconds_per_block = 1000000000",
            "JSON",
        ),
    ] {
        let running = async || -> u64 {
            client
                .query("SELECT count() FROM system.processes WHERE query LIKE {mark:String} AND query_id != queryID()")
                .param("mark", format!("%{mark}%"))
                .fetch_one()
                .await
                .unwrap()
        };
        disconnect_during(sql, format).await;
        eventually(&format!("the end of the query '{mark}'"), async || {
            running().await == 0
        })
        .await;
    }
}

#[tokio::test]
async fn disconnect_during_insert_writes_nothing() {
    let Some(client) = client("leaving_insert").await else {
        return;
    };
    client
        .query("CREATE TABLE t (a UInt32) ENGINE = MergeTree ORDER BY a")
        .execute()
        .await
        .unwrap();
    let address = address().await.unwrap();
    for body in [
        "Content-Length: 1000000\r\n\r\n1\n2\n3\n",
        "Transfer-Encoding: chunked\r\n\r\n4\r\n1\n2\n\r\n",
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "POST /?query=INSERT+INTO+leaving_insert.t+FORMAT+CSV HTTP/1.1\r\nHost: {address}\r\n\
             X-ClickHouse-User: {USER}\r\nX-ClickHouse-Key: {PASSWORD}\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        drop(stream);
    }
    // A client that stays connected but stalls gets a timeout.
    let mut silent = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "POST /?query=INSERT+INTO+leaving_insert.t+FORMAT+CSV HTTP/1.1\r\nHost: {address}\r\n\
         X-ClickHouse-User: {USER}\r\nX-ClickHouse-Key: {PASSWORD}\r\nContent-Length: 1000\r\n\r\n1\n"
    );
    silent.write_all(request.as_bytes()).await.unwrap();
    let mut reply = vec![0; 4096];
    let count = tokio::time::timeout(Duration::from_secs(15), silent.read(&mut reply))
        .await
        .unwrap()
        .unwrap();
    let reply = String::from_utf8_lossy(&reply[..count]).into_owned();
    assert!(
        reply.starts_with("HTTP/1.1 503") && reply.contains("Code: 209"),
        "{reply}"
    );
    assert_eq!(
        client
            .query("SELECT count() FROM t")
            .fetch_one::<u64>()
            .await
            .unwrap(),
        0
    );
}
