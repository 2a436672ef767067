//! ClickHouse for one machine: the real engine, loaded as a library, behind ClickHouse's own HTTP
//! interface, so that every client of ClickHouse works with it unchanged.
//!
//! For one machine and for tests. In production a ClickHouse server takes its place by a change of
//! URL.
//!
//! ```text
//! request ─▶ server ─▶ auth ─▶ request (URL, headers, form) ─┬▶ insert ◀─ body ◀─ native_frame
//!                                                            └▶ select ─▶ respond ─▶ response
//!                                  engine (a connection per request) ◀── both ── errors
//!                                  ffi (the library's C functions)
//! ```
//!
//! What differs from a server: it listens on loopback only, because whoever can query can read the
//! files of the user it runs as; there is one user; sessions, roles and external tables are refused;
//! answers are not compressed (`compress=1` frames are); there is no `system.query_log`.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt;
use tokio::net::TcpListener;

mod auth;
mod body;
mod engine;
mod errors;
mod ffi;
mod insert;
mod job;
mod lock;
mod multipart;
mod native_frame;
mod request;
mod respond;
mod select;
mod server;
mod sql;

/// How to run the engine. Start from [`ServerOptions::new`].
#[derive(Clone)]
pub struct ServerOptions {
    /// The engine's shared library, as `install` finds it.
    pub library: PathBuf,
    /// Where the data is kept; created if it isn't there. One process at a time.
    pub data_dir: PathBuf,
    /// The address to listen on: loopback, port 0 for any free port.
    pub listen: SocketAddr,
    /// How many requests may run at once; more wait for their turn.
    pub connections: usize,
    /// How long a request waits for its turn before it is refused with 503.
    pub queue_wait: Duration,
    /// About how much memory the engine may use, in bytes. `None`: most of the machine's.
    pub max_memory_bytes: Option<u64>,
    /// The most bytes of a request body, packed and unpacked.
    pub max_body_bytes: u64,
    /// How long the next piece of a request body may take to come.
    pub receive_timeout: Duration,
    /// The one user there is.
    pub user: String,
    /// The user's password; `None` for none.
    pub password: Option<String>,
    /// How long running requests may take to finish when the engine is stopped.
    pub drain: Duration,
}

impl ServerOptions {
    /// Options with the usual values for everything but the three that have none.
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

/// Why the engine could not be started or kept running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The address isn't a loopback address.
    #[error(
        "the embedded ClickHouse engine listens on loopback only, not on {0}: whoever can query it can read \
         this machine's files. Use 127.0.0.1, or run a ClickHouse server and point Precis at it"
    )]
    NotLoopback(SocketAddr),
    /// A number that must be at least one is zero.
    #[error("the embedded ClickHouse engine needs at least one connection")]
    NoConnections,
    /// The address can't be listened on.
    #[error("the embedded ClickHouse engine can't listen on {address}: {source}. Choose another port")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The data folder can't be made or written.
    #[error("the ClickHouse data folder {} can't be used: {source}", path.display())]
    DataDir {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Another process has the data folder.
    #[error(
        "the ClickHouse data folder {} is in use by {holder}: stop it, or choose another folder",
        path.display()
    )]
    Locked {
        /// The folder.
        path: PathBuf,
        /// Who has it.
        holder: String,
    },
    /// The library can't be loaded.
    #[error("{0}. Remove the file and start again to have it installed afresh")]
    Library(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// This process has, or had, an engine already.
    #[error("a ClickHouse engine was started in this process before: there can be only one, once")]
    AlreadyStarted,
    /// The engine refuses to start.
    #[error("the ClickHouse engine doesn't start on {}: {reason}", path.display())]
    Start {
        /// The data folder.
        path: PathBuf,
        /// What the engine says.
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

    let started = tokio::time::Instant::now();
    let engine = tokio::task::spawn_blocking(move || engine::Engine::start(&options))
        .await
        .map_err(|error| ServerError::Serve(io::Error::other(error)))??;
    tracing::info!(
        %address,
        version = engine.identity().version,
        milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        "the ClickHouse engine is ready"
    );
    on_ready(address);

    let router = server::router(Arc::new(server::Shared {
        engine: Arc::clone(&engine),
        account,
        limits,
    }));
    let (stopping, stopped) = tokio::sync::oneshot::channel();
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let server = axum::serve(listener, router).with_graceful_shutdown(async move {
        shutdown.await;
        let _ = stopping.send(());
    });
    let overdue = async {
        // An error means that the server has ended by itself.
        if stopped.await.is_ok() {
            tokio::time::sleep(drain).await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    let served = tokio::select! {
        served = server => served.map_err(ServerError::Serve),
        () = overdue => {
            tracing::warn!("clients still had ClickHouse requests open {} s after the stop", drain.as_secs());
            Ok(())
        }
    };
    engine
        .close(if served.is_ok() {
            drain.min(Duration::from_secs(2))
        } else {
            Duration::ZERO
        })
        .await;
    served
}
