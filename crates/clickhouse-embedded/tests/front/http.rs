//! The HTTP interface, with plain requests.

use std::io::Write;

use super::harness::{client, encoded, send};

#[tokio::test]
async fn health_checks_need_no_query() {
    for target in ["/ping", "/replicas_status", "/"] {
        let Some(reply) = send("GET", target, "", b"").await else {
            return;
        };
        assert_eq!((reply.status, reply.text().as_str()), (200, "Ok.\n"), "{target}");
    }
    assert_eq!(send("GET", "/nowhere", "", b"").await.unwrap().status, 404);
    assert_eq!(send("PUT", "/", "", b"").await.unwrap().status, 405);
}

#[tokio::test]
async fn responses_have_clickhouse_headers() {
    let Some(reply) = send("GET", "/?query=SELECT+1&query_id=mine", "", b"").await else {
        return;
    };
    assert_eq!(
        (reply.status, reply.header("x-clickhouse-query-id")),
        (200, "mine")
    );
    assert!(reply.text().contains("1\n"));
    assert_eq!(reply.header("x-clickhouse-format"), "TabSeparated");
    assert!(!reply.header("x-clickhouse-timezone").is_empty());
    assert!(!reply.header("x-clickhouse-server-display-name").is_empty());
    assert!(reply.header("x-clickhouse-summary").starts_with('{'));

    let json = send("POST", "/", "", b"SELECT 1 AS one, 'x' AS two FORMAT JSON")
        .await
        .unwrap();
    assert_eq!(json.header("content-type"), "application/json; charset=UTF-8");
    assert!(json.text().contains("\"one\": 1"), "{}", json.text());
    let head = send("HEAD", "/?query=SELECT+1", "", b"").await.unwrap();
    assert_eq!((head.status, head.body.len()), (200, 0));
    let whole = send(
        "POST",
        "/?wait_end_of_query=1",
        "",
        b"SELECT number FROM numbers(3)",
    )
    .await
    .unwrap();
    assert_eq!(whole.text(), "0\n1\n2\n");
}

#[tokio::test]
async fn errors_carry_status_and_code() {
    for (sql, status, code) in [
        ("SELECT * FROM nowhere", 404, "60"),
        ("SELEC 1", 400, "62"),
        ("", 400, "62"),
        ("-- nothing", 400, "62"),
        ("SELECT 1 INTO OUTFILE '/tmp/never'", 500, "358"),
        ("SELECT 1 FORMAT NoSuch", 404, "73"),
        ("SELECT {missing:UInt8}", 400, "456"),
    ] {
        let Some(reply) = send("POST", "/", "", sql.as_bytes()).await else {
            return;
        };
        assert_eq!(
            (reply.status, reply.header("x-clickhouse-exception-code")),
            (status, code),
            "{sql}"
        );
        assert!(
            reply
                .text()
                .starts_with(&format!("Code: {code}. DB::Exception: ")),
            "{}",
            reply.text()
        );
        assert!(reply.text().trim_end().ends_with(')'), "{}", reply.text());
    }
}

#[tokio::test]
async fn get_requests_can_not_write() {
    let Some(client) = client("reading").await else {
        return;
    };
    client
        .query("CREATE TABLE t (a UInt8) ENGINE = MergeTree ORDER BY a")
        .execute()
        .await
        .unwrap();
    for sql in [
        "INSERT INTO reading.t VALUES (1)",
        "DROP TABLE reading.t",
        "CREATE DATABASE reading2",
    ] {
        let reply = send("GET", &format!("/?query={}", encoded(sql)), "", b"")
            .await
            .unwrap();
        assert_eq!(
            (reply.status, reply.header("x-clickhouse-exception-code")),
            (500, "164"),
            "{sql}"
        );
    }
    // A `readonly=0` parameter doesn't change that.
    let sql = encoded("INSERT INTO reading.t VALUES (1)");
    let reply = send("GET", &format!("/?readonly=0&query={sql}"), "", b"")
        .await
        .unwrap();
    assert_eq!(reply.header("x-clickhouse-exception-code"), "164");
    // Settings may still change.
    let reply = send(
        "GET",
        "/?query=SELECT+1+SETTINGS+max_threads%3D1&max_block_size=5",
        "",
        b"",
    )
    .await
    .unwrap();
    assert_eq!(reply.status, 200);
    let posted = send("POST", &format!("/?readonly=1&query={sql}"), "", b"")
        .await
        .unwrap();
    assert_eq!(posted.header("x-clickhouse-exception-code"), "164");
    assert_eq!(
        client
            .query("SELECT count() FROM t")
            .fetch_one::<u64>()
            .await
            .unwrap(),
        0
    );
}

#[tokio::test]
async fn inserts_accept_every_format_and_encoding() {
    let Some(client) = client("encodings").await else {
        return;
    };
    client
        .query("CREATE TABLE t (a UInt32, b String) ENGINE = MergeTree ORDER BY a")
        .execute()
        .await
        .unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"5,five\n").unwrap();
    let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
    lz4.write_all(b"6,six\n").unwrap();
    let csv = format!(
        "/?database=encodings&query={}",
        encoded("INSERT INTO t FORMAT CSV")
    );
    let lines = format!(
        "/?database=encodings&query={}",
        encoded("INSERT INTO t (b, a) FORMAT JSONEachRow")
    );
    let values = format!("/?database=encodings&query={}", encoded("INSERT INTO t VALUES"));
    for (target, headers, body) in [
        (csv.as_str(), "", b"1,one\n".to_vec()),
        (&lines, "", b"{\"a\":2,\"b\":\"two\"}".to_vec()),
        (&values, "", b"(3,'three')".to_vec()),
        (
            "/",
            "X-ClickHouse-Database: encodings\r\n",
            b"INSERT INTO t FORMAT CSV\n4,four\n".to_vec(),
        ),
        (&csv, "Content-Encoding: gzip\r\n", gzip.finish().unwrap()),
        (&csv, "Content-Encoding: lz4\r\n", lz4.finish().unwrap()),
        (
            "/?database=encodings&query=INSERT+INTO+t",
            "",
            b"SELECT 7, 'seven'".to_vec(),
        ),
    ] {
        let reply = send("POST", target, headers, &body).await.unwrap();
        assert_eq!(reply.status, 200, "{target}: {}", reply.text());
        assert!(
            reply
                .header("x-clickhouse-summary")
                .contains("\"written_rows\":\"1\""),
            "{}",
            reply.head
        );
    }
    let all: Vec<(u32, String)> = client
        .query("SELECT a, b FROM t ORDER BY a")
        .fetch_all()
        .await
        .unwrap();
    let words = ["one", "two", "three", "four", "five", "six", "seven"];
    assert_eq!(all, (1..).zip(words.map(str::to_owned)).collect::<Vec<_>>());

    let bad = send("POST", &csv, "", b"8,eight\nnot a number,x\n")
        .await
        .unwrap();
    assert_eq!(
        (bad.status, bad.header("x-clickhouse-exception-code")),
        (400, "27"),
        "{}",
        bad.text()
    );
    let cut = send(
        "POST",
        &format!("{csv}&decompress=1"),
        "",
        b"not a frame, but long enough to be read",
    )
    .await
    .unwrap();
    assert!(cut.status >= 400, "{}", cut.text());
    assert_eq!(
        client
            .query("SELECT count() FROM t")
            .fetch_one::<u64>()
            .await
            .unwrap(),
        7
    );
}

#[tokio::test]
async fn error_after_the_first_rows_aborts_the_response() {
    let sql = b"SELECT number FROM numbers(1000000) WHERE throwIf(number = 900000) = 0";
    let Some(reply) = send("POST", "/?default_format=RowBinary", "", sql).await else {
        return;
    };
    assert_eq!(reply.status, 200);
    let tag = reply.header("x-clickhouse-exception-tag");
    let text = reply.text();
    assert!(
        text.contains(&format!("__exception__\r\n{tag}\r\nCode: 395")),
        "the body doesn't contain the error"
    );
    assert!(
        !reply.body.ends_with(b"\r\n0\r\n\r\n"),
        "the response ends as if it were complete"
    );
}

#[tokio::test]
async fn wrong_password_and_foreign_origin_are_rejected() {
    let Some(reply) = send("GET", "/?query=SELECT+1&user=default&password=x", "", b"").await else {
        return;
    };
    assert_eq!(
        (reply.status, reply.header("x-clickhouse-exception-code")),
        (403, "516")
    );
    let page = send("POST", "/", "Origin: http://elsewhere.test\r\n", b"SELECT 1")
        .await
        .unwrap();
    assert_eq!(page.status, 403);
    // Not even a link or the health check.
    for path in ["/?query=SELECT+1", "/ping"] {
        let link = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";
        assert_eq!(send("GET", path, link, b"").await.unwrap().status, 403);
        let rebound = send("GET", path, "Host: rebound.test\r\n", b"").await.unwrap();
        assert_eq!(rebound.status, 403, "{}", rebound.text());
    }
}

#[tokio::test]
async fn a_function_or_column_called_format_is_not_a_clause() {
    for (sql, format, answer) in [
        (
            "SELECT format('{}-{}','rain','snow') AS x",
            "TabSeparated",
            "rain-snow\n",
        ),
        ("SELECT 'a' AS format", "TabSeparated", "a\n"),
        (
            "WITH t AS (SELECT 'a' AS format) SELECT format FROM t",
            "TabSeparated",
            "a\n",
        ),
        (
            "SELECT format FROM (SELECT 'a' AS format) ORDER BY format DESC FORMAT CSV",
            "CSV",
            "\"a\"\n",
        ),
        (
            "SELECT 'x\nFORMAT JSON\n\t\\\\' FORMAT TSVRaw",
            "TSVRaw",
            "x\nFORMAT JSON\n\t\\\n",
        ),
        (
            "SELECT format('{}', 'a') format /* FORMAT CSV */ JSONEachRow SETTINGS max_threads = 1;",
            "JSONEachRow",
            "{\"format('{}', 'a')\":\"a\"}\n",
        ),
        ("(SELECT 1) UNION DISTINCT (SELECT 1) FORMAT CSV", "CSV", "1\n"),
    ] {
        let Some(reply) = send("POST", "/", "", sql.as_bytes()).await else {
            return;
        };
        assert!(reply.text().contains(answer), "{sql}: {}", reply.text());
        assert_eq!(
            (reply.status, reply.header("x-clickhouse-format")),
            (200, format),
            "{sql}"
        );
    }
}
