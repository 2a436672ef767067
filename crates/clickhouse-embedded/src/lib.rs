//! Embedded ClickHouse for one machine and for tests: the real engine, loaded as a shared library, behind ClickHouse's own
//! HTTP interface. Every ClickHouse client works with it unchanged.
//!
//! In production, use a ClickHouse server: only the URL changes.
//!
//! ```text
//! request ─▶ server ─▶ auth ─▶ request (URL, headers, form) ─┬▶ insert ◀─ body ◀─ native_frame
//!                                                            └▶ select ─▶ respond ─▶ response
//!                                  engine (a connection per request) ◀── both ── errors
//!                                  ffi (the library's C functions)
//! ```
//!
//! Differences to a server:
//!
//! * It listens on loopback only, because queries can read every file of the user it runs as.
//! * It has one user.
//! * It rejects roles and external tables.
//! * Query ids are those of clients in `KILL QUERY`, `system.processes` and `queryID()`, but not in binary results of `KILL
//!   QUERY`.
//! * It doesn't compress responses, except for `compress=1` frames.
//! * It has no `system.query_log`.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use precis_runtime::browser_guard::BrowserGuard;
use precis_runtime::config::HttpConfig;
use precis_runtime::http_server;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

mod auth;
mod body;
mod engine;
mod errors;
mod ffi;
mod insert;
mod lock;
mod multipart;
mod native_frame;
mod query_ids;
mod request;
mod respond;
mod select;
mod server;
mod sessions;
mod sql;
mod task;

/// Interval between checks for sessions whose lifetime has passed.
const SESSION_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Maximum size of the head of a request, which contains the URL.
const MAX_HEAD_BYTES: usize = 1 << 20;
/// Time after which the engine and the first statements of the product have started.
const STARTUP: Duration = Duration::from_secs(20);

/// Options of the embedded server. Start from [`ServerOptions::new`].
#[derive(Clone)]
pub struct ServerOptions {
    /// Path of the engine's shared library, `libchdb.so`.
    pub library: PathBuf,
    /// Data directory, created if it is missing. Only one process can use it at a time.
    pub data_dir: PathBuf,
    /// Loopback address to listen on. Port 0 stands for any free port.
    pub listen: SocketAddr,
    /// Maximum concurrent requests. Further requests wait.
    pub connections: usize,
    /// Maximum wait of a request before it is rejected with 503.
    pub queue_wait: Duration,
    /// Approximate memory limit of the engine in bytes. `None` allows most of the machine's memory.
    pub max_memory_bytes: Option<u64>,
    /// Maximum bytes of a request body, both compressed and decompressed.
    pub max_body_bytes: u64,
    /// Maximum wait for the next chunk of a request body.
    pub receive_timeout: Duration,
    /// Name of the only user.
    pub user: String,
    /// Password of the user; `None` for an empty one.
    pub password: Option<String>,
    /// Limits on HTTP clients.
    pub http: HttpConfig,
    /// Time for running requests to finish on shutdown.
    pub drain: Duration,
}

impl ServerOptions {
    /// Creates options with default limits and no password.
    pub fn new(library: impl Into<PathBuf>, data_dir: impl Into<PathBuf>, listen: SocketAddr) -> Self {
        Self {
            library: library.into(),
            data_dir: data_dir.into(),
            listen,
            connections: 16,
            queue_wait: Duration::from_secs(10),
            max_memory_bytes: None,
            max_body_bytes: 1 << 30,
            receive_timeout: Duration::from_secs(30),
            user: auth::DEFAULT_USER.to_owned(),
            password: None,
            http: HttpConfig::default(),
            drain: Duration::from_secs(10),
        }
    }
}

impl std::fmt::Debug for ServerOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ServerOptions")
            .field("library", &self.library)
            .field("data_dir", &self.data_dir)
            .field("listen", &self.listen)
            .field("connections", &self.connections)
            .field("max_memory_bytes", &self.max_memory_bytes)
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .finish_non_exhaustive()
    }
}

/// The server can't start, or has failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The address is not a loopback address.
    #[error(
        "the embedded ClickHouse engine can't listen on {0}, only on loopback, because its queries can read this \
         machine's files; use 127.0.0.1, or a ClickHouse server"
    )]
    NotLoopback(SocketAddr),
    /// The number of connections is zero.
    #[error("the embedded ClickHouse engine needs at least one connection")]
    NoConnections,
    /// Binding the address failed.
    #[error("the embedded ClickHouse engine can't listen on {address}: {source}; choose another port")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The data directory can't be created or written.
    #[error("the ClickHouse data directory {} can't be used: {source}", path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// Another process uses the data directory.
    #[error(
        "the ClickHouse data directory {} is in use by {holder}; stop it, or choose another directory",
        path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process that uses it.
        holder: String,
    },
    /// The library can't be loaded.
    #[error("{0}; delete the file and start again to reinstall it")]
    Library(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// This process has started an engine already.
    #[error("this process has started a ClickHouse engine already, and can't start another")]
    AlreadyStarted,
    /// The engine doesn't start.
    #[error("the ClickHouse engine can't start with the data directory {}: {reason}", path.display())]
    Start {
        /// The data directory.
        path: PathBuf,
        /// The engine's reason.
        reason: String,
    },
    /// The HTTP server failed.
    #[error("the ClickHouse HTTP interface failed: {0}")]
    Serve(#[source] io::Error),
}

/// Runs the engine until `shutdown` completes. Calls `on_ready` with the bound address once the engine answers.
///
/// After `shutdown` it finishes running requests, closes their connections and flushes the engine. The engine and the
/// lock on its data directory live as long as the process: exit once this returns.
///
/// # Errors
/// See [`ServerError`]. Every error but [`ServerError::Serve`] is reported before the first request is accepted.
pub async fn run(
    options: ServerOptions,
    on_ready: impl FnOnce(SocketAddr) + Send,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServerError> {
    if !options.listen.ip().is_loopback() {
        return Err(ServerError::NotLoopback(options.listen));
    }
    if options.connections == 0 {
        return Err(ServerError::NoConnections);
    }
    let bind = |source| ServerError::Bind {
        address: options.listen,
        source,
    };
    let listener = TcpListener::bind(options.listen).await.map_err(bind)?;
    let address = listener.local_addr().map_err(bind)?;
    let account = auth::Account::new(&options.user, options.password.as_deref());
    let limits = body::BodyLimits {
        bytes: options.max_body_bytes,
        idle: options.receive_timeout,
    };
    let drain = options.drain;
    let browsers = BrowserGuard::without_pages(&options.http);
    let http = HttpConfig {
        // As a ClickHouse server: statements and parameters may be in the URL.
        max_header_bytes: options.http.max_header_bytes.max(MAX_HEAD_BYTES),
        ..options.http.clone()
    };

    let library = options.library.clone();
    let started = tokio::time::Instant::now();
    let engine = tokio::task::spawn_blocking(move || engine::Engine::start(&options))
        .await
        .map_err(|error| ServerError::Serve(io::Error::other(error)))??;
    tracing::info!(
        %address,
        version = engine.identity().version,
        milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        "ClickHouse engine ready"
    );
    on_ready(address);
    // Detached: it ends with the runtime, and does nothing after its one call.
    tokio::spawn(async move {
        tokio::time::sleep(STARTUP).await;
        let bytes = ffi::page_out(&library);
        tracing::debug!(bytes, "paged out the engine's startup code");
    });

    let sessions = Arc::clone(engine.sessions());
    // Detached, like the task above.
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(SESSION_CHECK_INTERVAL).await;
            let sessions = Arc::clone(&sessions);
            // A panic there was reported, and closing sessions can wait.
            let _ = tokio::task::spawn_blocking(move || sessions.close_expired()).await;
        }
    });

    let state = server::ServerState {
        engine: Arc::clone(&engine),
        account,
        limits,
    };
    let router = server::router(Arc::new(state), browsers);
    let stop = CancellationToken::new();
    // May be shorter than the limit of the HTTP server itself.
    let stopping = async {
        shutdown.await;
        stop.cancel();
        tokio::time::sleep(drain).await;
    };
    let all_closed = tokio::select! {
        () = http_server::serve(listener, router, &http, stop.clone()) => true,
        () = stopping => {
            tracing::warn!(drain_seconds = drain.as_secs(), "ClickHouse requests still open; stopping anyway");
            false
        }
    };
    engine
        .close(if all_closed {
            drain.min(Duration::from_secs(2))
        } else {
            Duration::ZERO
        })
        .await;
    Ok(())
}
