//! Tests with engines in their own processes, for which this binary is started again.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use precis_clickhouse_embedded::{ServerError, ServerOptions, run};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use super::harness::{client_of, library, options};

/// Environment variable with the child's data directory.
const DATA_DIR: &str = "PRECIS_TEST_CLICKHOUSE_DATA";

/// The child: an engine that runs until its standard input closes.
#[tokio::test]
#[ignore = "started by the other tests of this file"]
async fn child() {
    let Ok(data) = std::env::var(DATA_DIR) else { return };
    let Some(library) = library().await else { return };
    let shutdown = async {
        let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
    };
    let ready = |address| println!("LISTENING {address}");
    match run(options(library, data.into()), ready, shutdown).await {
        Ok(()) => println!("STOPPED"),
        Err(error) => println!("REFUSED {error}"),
    }
}

/// Starts a child and returns its first message.
async fn start(data: &Path) -> (Child, Vec<String>, BufReader<tokio::process::ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "--nocapture",
            "--test-threads=1",
            "process::child",
        ])
        .env(DATA_DIR, data)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let message = next_message(&mut lines).await;
    (child, message, lines)
}

/// Returns a child's next message: a keyword and its argument.
async fn next_message(lines: &mut BufReader<tokio::process::ChildStdout>) -> Vec<String> {
    let mut line = String::new();
    loop {
        line.clear();
        let read = tokio::time::timeout(Duration::from_secs(60), lines.read_line(&mut line));
        assert_ne!(
            read.await.expect("the child printed no message").unwrap(),
            0,
            "the child ended"
        );
        for word in ["LISTENING", "REFUSED", "STOPPED"] {
            if let Some(at) = line.find(word) {
                return vec![word.to_owned(), line[at + word.len()..].trim().to_owned()];
            }
        }
    }
}

/// Starts a child that must run.
async fn start_running(data: &Path) -> (Child, SocketAddr, BufReader<tokio::process::ChildStdout>) {
    let (child, message, lines) = start(data).await;
    assert_eq!(message[0], "LISTENING", "{message:?}");
    (child, message[1].parse().unwrap(), lines)
}

async fn count(address: SocketAddr) -> u64 {
    client_of(address)
        .query("SELECT count() FROM kept.t")
        .fetch_one()
        .await
        .unwrap()
}

#[tokio::test]
async fn data_survives_exit_and_kill_and_a_second_process_is_rejected() {
    if library().await.is_none() {
        return;
    }
    let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (mut first, address, mut lines) = start_running(data.path()).await;
    let client = client_of(address);
    client.query("CREATE DATABASE kept").execute().await.unwrap();
    client
        .query("CREATE TABLE kept.t (a UInt8) ENGINE = MergeTree ORDER BY a")
        .execute()
        .await
        .unwrap();
    client
        .query("INSERT INTO kept.t VALUES (1), (2), (3)")
        .execute()
        .await
        .unwrap();

    let (_second, message, _second_lines) = start(data.path()).await;
    assert_eq!(message[0], "REFUSED");
    assert!(
        message[1].contains(&format!("process {}", first.id().unwrap())),
        "{message:?}"
    );
    assert_eq!(count(address).await, 3);

    // The engine finishes a running query before it stops.
    let slow = tokio::spawn(async move {
        client_of(address)
            .query("SELECT sleep(1)")
            .fetch_one::<u8>()
            .await
    });
    tokio::time::sleep(Duration::from_millis(400)).await;
    drop(first.stdin.take());
    assert_eq!(slow.await.unwrap().unwrap(), 0);
    assert_eq!(next_message(&mut lines).await[0], "STOPPED");
    assert!(first.wait().await.unwrap().success());

    let (mut killed, address, _lines) = start_running(data.path()).await;
    assert_eq!(count(address).await, 3);
    client_of(address)
        .query("INSERT INTO kept.t VALUES (4)")
        .execute()
        .await
        .unwrap();
    killed.kill().await.unwrap();

    let (_last, address, _lines) = start_running(data.path()).await;
    assert_eq!(count(address).await, 4);
}

#[tokio::test]
async fn invalid_options_fail_before_the_engine_starts() {
    let error_of = async |address: &str, library: &Path, connections: usize| {
        let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut options = ServerOptions::new(library, data.path(), address.parse().unwrap());
        options.connections = connections;
        run(options, |_| {}, std::future::pending()).await.unwrap_err()
    };
    let nothing = Path::new("/nowhere/libchdb.so");
    assert!(matches!(
        error_of("0.0.0.0:0", nothing, 1).await,
        ServerError::NotLoopback(_)
    ));
    assert!(matches!(
        error_of("127.0.0.1:0", nothing, 0).await,
        ServerError::NoConnections
    ));
    let missing = error_of("127.0.0.1:0", nothing, 1).await;
    assert!(
        matches!(missing, ServerError::Library(_)) && missing.to_string().contains("libchdb.so"),
        "{missing}"
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    assert!(matches!(
        error_of(&address, nothing, 1).await,
        ServerError::Bind { .. }
    ));
    assert!(!format!("{:?}", options(nothing.into(), ".".into())).contains("secret"));
}
