//! Query ids and sessions.

use std::time::Duration;

use super::harness::{Reply, address, encoded, eventually, send};

async fn post(parameters: &str, sql: &str) -> Reply {
    let target = format!("/?{parameters}");
    send("POST", &target, "", sql.as_bytes())
        .await
        .expect("the engine runs")
}

/// A query that runs for a minute unless it is stopped.
const SLOW: &str = "SELECT sum(sleepEachRow(0.1)) FROM numbers(600) SETTINGS max_block_size = 1, \
     function_sleep_max_microseconds_per_block = 1000000000";

async fn is_running(id: &str) -> bool {
    let sql = format!("SELECT count() FROM system.processes WHERE query_id = '{id}'");
    post("", &sql).await.text().contains("1\n")
}

#[tokio::test]
async fn kill_query_stops_the_query_with_the_clients_id() {
    if address().await.is_none() {
        return;
    }
    // Also with a setting that a client may use for itself.
    let slow = tokio::spawn(post("query_id=kill-me&log_comment=mine", SLOW));
    eventually("the query runs", async || is_running("kill-me").await).await;
    let again = post("query_id=kill-me", "SELECT 1").await;
    assert_eq!(
        (again.status, again.header("x-clickhouse-exception-code")),
        (500, "216"),
        "{}",
        again.text()
    );
    let killed = post("", "KILL QUERY WHERE query_id = 'kill-me' FORMAT TSV").await;
    assert!(killed.text().contains("waiting\tkill-me\t"), "{}", killed.text());
    let slow = tokio::time::timeout(Duration::from_secs(30), slow).await;
    let slow = slow.expect("the query is stopped").unwrap();
    assert_eq!(
        slow.header("x-clickhouse-exception-code"),
        "394",
        "{}",
        slow.text()
    );
    // Its id is free again.
    let own = post("query_id=kill-me", "SELECT queryID()").await;
    assert!(own.text().contains("kill-me\n"), "{}", own.text());
}

#[tokio::test]
async fn a_running_query_is_replaced_on_request() {
    if address().await.is_none() {
        return;
    }
    let slow = tokio::spawn(post("query_id=replace-me", SLOW));
    eventually("the query runs", async || is_running("replace-me").await).await;
    let new = post("query_id=replace-me&replace_running_query=1", "SELECT 1").await;
    assert_eq!(new.status, 200, "{}", new.text());
    assert_eq!(slow.await.unwrap().header("x-clickhouse-exception-code"), "394");
}

#[tokio::test]
async fn a_session_keeps_settings_tables_and_database_but_nothing_of_one_request() {
    if address().await.is_none() {
        return;
    }
    let session = "session_id=keeps&session_timeout=60";
    for sql in [
        "DROP DATABASE IF EXISTS kept",
        "CREATE DATABASE kept",
        "CREATE TABLE kept.t (a UInt8) ENGINE = MergeTree ORDER BY a",
        "SET max_block_size = 777",
        "CREATE TEMPORARY TABLE mine (a UInt8)",
        "INSERT INTO mine VALUES (5)",
        "USE kept",
    ] {
        let reply = post(session, sql).await;
        assert_eq!(reply.status, 200, "{sql}: {}", reply.text());
    }
    let state = "SELECT currentDatabase(), getSetting('max_block_size'), getSetting('max_threads'), (SELECT a FROM mine)";
    let once = post(
        &format!("{session}&max_threads=3&max_block_size=5&database=system"),
        state,
    )
    .await;
    assert!(once.text().contains("system\t5\t3\t5\n"), "{}", once.text());
    // A GET only reads, and the next POST writes again.
    let get = format!("/?{session}&query={}", encoded("INSERT INTO kept.t VALUES (6)"));
    assert_eq!(
        send("GET", &get, "", b"")
            .await
            .unwrap()
            .header("x-clickhouse-exception-code"),
        "164"
    );
    assert_eq!(post(session, "INSERT INTO mine VALUES (7)").await.status, 200);
    let later = post(
        session,
        "SELECT currentDatabase(), getSetting('max_block_size'), (SELECT count() FROM mine)",
    )
    .await;
    assert!(later.text().contains("kept\t777\t2\n"), "{}", later.text());
    let threads = post(
        session,
        "SELECT changed FROM system.settings WHERE name = 'max_threads'",
    )
    .await;
    assert!(threads.text().contains("0\n"), "{}", threads.text());
    let other = post("session_id=another", "SELECT * FROM mine").await;
    assert_eq!(other.header("x-clickhouse-exception-code"), "60");
}

#[tokio::test]
async fn a_session_ends_after_its_timeout_and_serves_one_request_at_a_time() {
    if address().await.is_none() {
        return;
    }
    let missing = post("session_id=short&session_check=1", "SELECT 1").await;
    assert_eq!(missing.header("x-clickhouse-exception-code"), "372");
    assert_eq!(
        post("session_id=short&session_timeout=1", "SELECT 1")
            .await
            .status,
        200
    );
    eventually("the session ends", async || {
        // With this request the session would live on, so wait longer than its lifetime.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let again = post("session_id=short&session_check=1&session_timeout=1", "SELECT 1").await;
        again.header("x-clickhouse-exception-code") == "372"
    })
    .await;

    let slow = tokio::spawn(post("session_id=busy&query_id=busy-query", SLOW));
    eventually("the query runs", async || is_running("busy-query").await).await;
    let second = post("session_id=busy", "SELECT 1").await;
    assert_eq!(
        second.header("x-clickhouse-exception-code"),
        "373",
        "{}",
        second.text()
    );
    post("", "KILL QUERY WHERE query_id = 'busy-query' SYNC").await;
    assert_eq!(slow.await.unwrap().header("x-clickhouse-exception-code"), "394");
    assert_eq!(post("session_id=busy", "SELECT 1").await.status, 200);
}

/// The statements that Grafana's ClickHouse plugin and its driver send over HTTP.
#[tokio::test]
async fn the_statements_of_grafanas_plugin_are_answered() {
    if address().await.is_none() {
        return;
    }
    for sql in [
        "SELECT displayName(), version(), revision(), timezone()",
        "SELECT 1",
        "SELECT version()",
        "SHOW DATABASES",
        "SELECT name FROM system.databases",
        "SHOW TABLES FROM system",
        "SELECT name, type FROM system.columns WHERE database = 'system' AND table = 'processes'",
        "DESC TABLE system.processes",
        "SELECT name FROM system.functions LIMIT 5",
        "SELECT database, table FROM system.columns WHERE name = 'query_id' GROUP BY database, table",
        "SELECT toStartOfInterval(toDateTime(number), INTERVAL 60 second) AS time, count() FROM numbers(120) \
         WHERE toDateTime(number) >= toDateTime(0) AND toDateTime(number) <= toDateTime(1000) GROUP BY time ORDER BY time",
        "EXPLAIN SELECT 1",
    ] {
        let reply = post("default_format=Native&session_id=grafana", sql).await;
        assert_eq!(reply.status, 200, "{sql}: {}", reply.text());
    }
}
