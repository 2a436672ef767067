//! The engine and its sessions.
//!
//! Every request gets a connection of its own, opened for it and closed after it (0.2 ms): settings,
//! current database and temporary tables die with it, whatever happened on it, so nothing has to be
//! put back. How many there may be at once is limited; whoever comes then waits, but not for long.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::errors::{EngineError, code};
use crate::ffi::{self, Connection, Library};
use crate::job::{FinishedOnDrop, Job, JobState};
use crate::lock::DataLock;
use crate::{ServerError, ServerOptions};

/// The library can hold one engine, and can't start it again after it was stopped.
static STARTED: AtomicBool = AtomicBool::new(false);

/// The engine, once started, for the rest of the process. It is never torn down: the library's own
/// shutdown crashes now and then under its background threads, while ending the process under them is
/// safe at any time. So its lock is held to the end, too.
static RUNNING: OnceLock<Arc<Engine>> = OnceLock::new();

/// What the engine says about itself; clients get it in headers.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// Such as `26.7.2.1`.
    pub(crate) version: String,
    /// Such as `Etc/UTC`.
    pub(crate) timezone: String,
    /// The name of this machine.
    pub(crate) host: String,
}

/// The running engine.
pub(crate) struct Engine {
    library: Arc<Library>,
    arguments: Vec<CString>,
    /// Keeps the engine alive between requests.
    root: Mutex<Connection>,
    /// No connections are opened any more.
    closed: AtomicBool,
    opened: AtomicU64,
    permits: Arc<Semaphore>,
    connections: u32,
    queue_wait: Duration,
    identity: Identity,
    _lock: DataLock,
}

/// What a request sets on its connection before its statement.
#[derive(Debug, Default, Clone)]
pub(crate) struct Setup {
    /// The current database.
    pub(crate) database: Option<String>,
    /// Settings, by name.
    pub(crate) settings: Vec<(String, String)>,
    /// Only reading is allowed (settings may still be changed by the statement).
    pub(crate) readonly: bool,
}

impl Engine {
    /// Loads the library and starts the engine. Blocks for up to a few seconds.
    pub(crate) fn start(options: &ServerOptions) -> Result<Arc<Self>, ServerError> {
        let lock = DataLock::take(&options.data_dir)?;
        let data_dir = options
            .data_dir
            .canonicalize()
            .map_err(|source| ServerError::DataDir {
                path: options.data_dir.clone(),
                source,
            })?;
        let library =
            Library::load(&options.library).map_err(|error| ServerError::Library(Box::new(error)))?;
        if STARTED.swap(true, Ordering::SeqCst) {
            return Err(ServerError::AlreadyStarted);
        }
        let start = || -> Result<(Vec<CString>, Connection, Identity), EngineError> {
            let mut path = b"--path=".to_vec();
            path.extend_from_slice(data_dir.as_os_str().as_bytes());
            let mut arguments = vec![b"clickhouse".to_vec(), path];
            if let Some(bytes) = options.max_memory_bytes {
                arguments.push(format!("--max_server_memory_usage={bytes}").into_bytes());
            }
            let arguments = arguments
                .into_iter()
                .map(CString::new)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|_| {
                    EngineError::new(code::BAD_ARGUMENTS, "the data folder's path holds a NUL byte")
                })?;
            let mut root = library.connect(&arguments)?;
            let identity = identify(&mut root)?;
            Ok((arguments, root, identity))
        };
        let (arguments, root, identity) = start().map_err(|error| {
            STARTED.store(false, Ordering::SeqCst);
            ServerError::Start {
                path: options.data_dir.clone(),
                reason: error.to_string(),
            }
        })?;
        let connections = u32::try_from(options.connections).unwrap_or(u32::MAX);
        let engine = Arc::new(Self {
            library,
            arguments,
            root: Mutex::new(root),
            closed: AtomicBool::new(false),
            opened: AtomicU64::new(0),
            permits: Arc::new(Semaphore::new(options.connections)),
            connections,
            queue_wait: options.queue_wait,
            identity,
            _lock: lock,
        });
        ffi::skip_destructors_at_exit();
        let _ = RUNNING.set(Arc::clone(&engine));
        Ok(engine)
    }

    /// What the engine says about itself.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Opens a connection, unless the engine is closed.
    fn connect(&self) -> Result<Connection, EngineError> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(EngineError::new(
                code::QUERY_WAS_CANCELLED,
                "the engine is shutting down",
            ));
        }
        if self.opened.fetch_add(1, Ordering::Relaxed).is_power_of_two() {
            ffi::skip_destructors_at_exit();
        }
        self.library.connect(&self.arguments)
    }

    /// Runs `work` on a connection of its own, on a thread that may block. Fails at once if no
    /// connection becomes free in time.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        setup: Setup,
        work: impl FnOnce(&mut Connection) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<Job<T>, EngineError> {
        let permit = self.admit().await?;
        let state = JobState::new();
        let (engine, shared) = (Arc::clone(self), Arc::clone(&state));
        let handle = tokio::task::spawn_blocking(move || {
            let _permit: OwnedSemaphorePermit = permit;
            let _finished = FinishedOnDrop(Arc::clone(&shared));
            let mut connection = engine.connect()?;
            prepare(&mut connection, &setup, &shared.tag)?;
            shared.check()?;
            work(&mut connection)
        });
        Ok(Job::new(self, &state, handle))
    }

    /// Waits for a free connection.
    async fn admit(&self) -> Result<OwnedSemaphorePermit, EngineError> {
        let busy = |what: &str| EngineError::new(code::TOO_MANY_SIMULTANEOUS_QUERIES, what);
        match tokio::time::timeout(self.queue_wait, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(busy("the engine is shutting down")),
            Err(_) => Err(busy(&format!(
                "Too many simultaneous queries: all {} connections were busy for {} s",
                self.connections,
                self.queue_wait.as_secs_f32()
            ))),
        }
    }

    /// Tells the query with this tag, or every query, to stop.
    pub(crate) fn kill(&self, tag: Option<&str>) -> Result<(), EngineError> {
        let filter = match tag {
            Some(tag) => format!("Settings['log_comment'] = {}", quoted(tag)),
            None => "query_id != queryID()".to_owned(),
        };
        let sql = format!("KILL QUERY WHERE {filter} ASYNC");
        self.connect()?.query(sql.as_bytes(), "Null", &[]).map(|_| ())
    }

    /// Waits until every query has ended and its connection is closed, stops those that are not done
    /// after `patience`, and has the engine write what it holds back. Afterwards the process can end.
    pub(crate) async fn close(self: Arc<Self>, patience: Duration) {
        let all = || Arc::clone(&self.permits).acquire_many_owned(self.connections);
        if tokio::time::timeout(patience, all()).await.is_err() {
            tracing::warn!(
                "stopping ClickHouse queries that were not done {} s after the stop",
                patience.as_secs()
            );
            let engine = Arc::clone(&self);
            let _ = tokio::task::spawn_blocking(move || engine.kill(None)).await;
            if tokio::time::timeout(Duration::from_secs(5), all()).await.is_err() {
                tracing::warn!("a ClickHouse query doesn't stop; closing the engine without it");
            }
        }
        self.permits.close();
        let flushed = tokio::task::spawn_blocking(move || {
            self.closed.store(true, Ordering::SeqCst);
            let mut root = self.root.lock();
            // Merges would be thrown away when the process ends; new ones start at the next start.
            for sql in ["SYSTEM FLUSH ASYNC INSERT QUEUE", "SYSTEM STOP MERGES"] {
                if let Err(error) = root.query(sql.as_bytes(), "Null", &[]) {
                    tracing::debug!(%error, sql, "the ClickHouse engine could not be quieted");
                }
            }
            ffi::skip_destructors_at_exit();
        });
        if flushed.await.is_err() {
            tracing::warn!(
                "the ClickHouse engine didn't stop cleanly; what was acknowledged is on disk all the same"
            );
        }
    }
}

/// Asks a connection who it is talking to.
fn identify(connection: &mut Connection) -> Result<Identity, EngineError> {
    let output = connection.query(
        b"SELECT version(), timezone(), hostName()",
        "TabSeparatedRaw",
        &[],
    )?;
    let text = String::from_utf8_lossy(&output.data);
    let mut fields = text.trim_end().split('\t').map(str::to_owned);
    let mut next = || fields.next().unwrap_or_else(|| "unknown".to_owned());
    Ok(Identity {
        version: next(),
        timezone: next(),
        host: next(),
    })
}

/// Sets database and settings on a fresh connection.
fn prepare(connection: &mut Connection, setup: &Setup, tag: &str) -> Result<(), EngineError> {
    let mut run = |sql: String| connection.query(sql.as_bytes(), "Null", &[]).map(|_| ());
    if let Some(database) = &setup.database {
        run(format!("USE {}", quoted_name(database)))?;
    }
    let mut assignments: Vec<String> = Vec::with_capacity(setup.settings.len() + 1);
    // By this tag the query is found again when it has to be stopped.
    if !setup.settings.iter().any(|(name, _)| name == "log_comment") {
        assignments.push(format!("log_comment = {}", quoted(tag)));
    }
    // `readonly` comes last: once it is set, nothing else can be.
    let (readonly, others): (Vec<_>, Vec<_>) =
        setup.settings.iter().partition(|(name, _)| name == "readonly");
    assignments.extend(
        others
            .iter()
            .map(|(name, value)| format!("{name} = {}", quoted(value))),
    );
    if !assignments.is_empty() {
        run(format!("SET {}", assignments.join(", ")))?;
    }
    match readonly.last() {
        Some((_, value)) if value != "0" || !setup.readonly => {
            run(format!("SET readonly = {}", quoted(value)))
        }
        _ if setup.readonly => run("SET readonly = 2".to_owned()),
        _ => Ok(()),
    }
}

/// A string literal.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A quoted name.
fn quoted_name(text: &str) -> String {
    format!("`{}`", text.replace('\\', "\\\\").replace('`', "\\`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_can_not_be_left() {
        assert_eq!(quoted(r"a'b\"), r"'a\'b\\'");
        assert_eq!(quoted_name("a`; DROP TABLE x"), r"`a\`; DROP TABLE x`");
    }
}
