//! The shared engine, and plain HTTP requests to it.

use std::future::pending;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use clickhouse::Client;
use precis_clickhouse_embedded::{ServerOptions, run};
use precis_installer::{ClickHouseBinary, InstallError, Installer};
use rustix::process::{Pid, test_kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// User and password of the shared engine.
pub(crate) const USER: &str = "precis";
pub(crate) const PASSWORD: &str = "it's secret";

/// Returns the engine's library, installing it if necessary; `None` if the platform has none.
pub(crate) async fn library() -> Option<PathBuf> {
    let mut installer = Installer::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.local"));
    installer.clickhouse_on_path = false;
    match installer.ensure_clickhouse().await {
        Ok(ClickHouseBinary::Library(path)) => Some(path),
        Ok(other) => panic!("expected a library, got {other:?}"),
        Err(error @ InstallError::UnsupportedPlatform { .. }) => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Returns options for tests.
pub(crate) fn options(library: PathBuf, data_dir: PathBuf) -> ServerOptions {
    let mut options = ServerOptions::new(library, data_dir, "127.0.0.1:0".parse().unwrap());
    options.user = USER.to_owned();
    options.password = Some(PASSWORD.to_owned());
    options.connections = 8;
    options.queue_wait = Duration::from_secs(60);
    options.max_memory_bytes = Some(2 << 30);
    options.receive_timeout = Duration::from_secs(5);
    options
}

/// Returns a data directory for the shared engine. Deletes those of earlier runs, which can't delete their own.
fn shared_data() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name
            .strip_prefix("clickhouse-of-")
            .and_then(|process| process.parse().ok());
        if process
            .and_then(Pid::from_raw)
            .is_some_and(|process| test_kill_process(process).is_err())
        {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    folder.join(format!("clickhouse-of-{}", std::process::id()))
}

/// Starts the shared engine once and returns its address.
fn shared() -> Option<SocketAddr> {
    static SHARED: OnceLock<Option<SocketAddr>> = OnceLock::new();
    *SHARED.get_or_init(|| {
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let Some(library) = library().await else {
                    sender.send(None).unwrap();
                    return;
                };
                let options = options(library, shared_data());
                let ready = move |address| sender.send(Some(address)).unwrap();
                run(options, ready, pending()).await.unwrap();
            });
        });
        receiver.recv().expect("the engine thread ended")
    })
}

/// Returns the address of the shared engine, or `None` if tests must be skipped.
pub(crate) async fn address() -> Option<SocketAddr> {
    tokio::task::spawn_blocking(shared).await.unwrap()
}

/// Returns a client of the engine at `address`.
pub(crate) fn client_of(address: SocketAddr) -> Client {
    Client::default()
        .with_url(format!("http://{address}"))
        .with_user(USER)
        .with_password(PASSWORD)
}

/// Returns a client with its own empty database.
pub(crate) async fn client(database: &str) -> Option<Client> {
    let client = client_of(address().await?);
    client
        .query(&format!("DROP DATABASE IF EXISTS {database}"))
        .execute()
        .await
        .unwrap();
    client
        .query(&format!("CREATE DATABASE {database}"))
        .execute()
        .await
        .unwrap();
    Some(client.with_database(database))
}

/// The response to a plain HTTP request.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// Returns a header's value, or an empty string.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(header, _)| header.eq_ignore_ascii_case(name))
            .map_or("", |(_, value)| value)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends a request verbatim and reads until the server closes the connection.
pub(crate) async fn send(method: &str, target: &str, headers: &str, body: &[u8]) -> Option<Reply> {
    let address = address().await?;
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A request may name another host, but only one.
    let host = match headers.starts_with("Host: ") {
        true => String::new(),
        false => format!("Host: {address}\r\n"),
    };
    let head = format!(
        "{method} {target} HTTP/1.1\r\n{host}X-ClickHouse-User: {USER}\r\nX-ClickHouse-Key: {PASSWORD}\r\n\
         Content-Length: {}\r\nConnection: close\r\n{headers}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all).await;
    let split = all
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .expect("the response has no header");
    let head = String::from_utf8_lossy(&all[..split]).into_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Some(Reply {
        status,
        head,
        body: all[split + 4..].to_vec(),
    })
}

/// Encodes a query parameter.
pub(crate) fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// Waits until a condition holds.
pub(crate) async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    for _ in 0..100 {
        if check().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("timed out after 10 s: {what}");
}
