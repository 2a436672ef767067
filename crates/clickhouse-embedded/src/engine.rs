//! The engine and its connections.
//!
//! A request opens a connection and closes it afterwards, which takes 0.2 ms. Settings, current database and temporary tables
//! end with the connection, so nothing has to be reset. The number of running requests is limited: further ones wait for a
//! while and then fail. A request that names a session uses the connection of that session instead.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::errors::{EngineError, code};
use crate::ffi::{self, Connection, Library};
use crate::lock::DataLock;
use crate::query_ids::{self, QueryIds, RegisteredId};
use crate::sessions::{SessionName, Sessions, Undo};
use crate::task::{EngineTask, FinishedOnDrop, TaskState};
use crate::{ServerError, ServerOptions};

/// Whether this process has started an engine. The library supports one, and can't restart it.
static STARTED: AtomicBool = AtomicBool::new(false);

/// The started engine.
///
/// The engine and its lock live until the process ends. The library's own shutdown sometimes crashes in its background
/// threads, but exiting the process is always safe.
static RUNNING: OnceLock<Arc<Engine>> = OnceLock::new();

/// Facts about the engine that responses carry in headers.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// Version, such as `26.7.2.1`.
    pub(crate) version: String,
    /// Time zone, such as `Etc/UTC`.
    pub(crate) timezone: String,
    /// Host name of this machine.
    pub(crate) host: String,
}

/// The running engine.
pub(crate) struct Engine {
    library: Arc<Library>,
    arguments: Vec<CString>,
    /// Keeps the engine alive between requests.
    root: Mutex<Connection>,
    /// Set on shutdown: no more connections are opened.
    closed: AtomicBool,
    opened: AtomicU64,
    permits: Arc<Semaphore>,
    query_ids: Arc<QueryIds>,
    sessions: Arc<Sessions>,
    connections: u32,
    queue_wait: Duration,
    identity: Identity,
    _lock: DataLock,
}

/// State that a request sets on its connection before its statement runs.
#[derive(Debug, Default, Clone)]
pub(crate) struct SessionOptions {
    /// The current database.
    pub(crate) database: Option<String>,
    /// Settings, by name.
    pub(crate) settings: Vec<(String, String)>,
    /// Forbids writes. The statement may still change settings.
    pub(crate) readonly: bool,
    /// The client's query id. No other running query may have it.
    pub(crate) query_id: Option<String>,
    /// The user, who owns the session.
    pub(crate) user: String,
    /// The session, if the request names one.
    pub(crate) session: Option<SessionName>,
}

impl Engine {
    /// Loads the library and starts the engine. Blocks for up to a few seconds.
    ///
    /// # Errors
    /// If another process uses the data directory, the library can't be loaded, or the engine refuses to start.
    pub(crate) fn start(options: &ServerOptions) -> Result<Arc<Self>, ServerError> {
        let lock = DataLock::acquire(&options.data_dir)?;
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
                    EngineError::new(
                        code::BAD_ARGUMENTS,
                        "the path of the data directory contains a NUL byte",
                    )
                })?;
            let mut root = library.connect(&arguments)?;
            root.query(query_ids::table_definition().as_bytes(), "Null", &[])?;
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
            query_ids: Arc::default(),
            sessions: Arc::default(),
            connections,
            queue_wait: options.queue_wait,
            identity,
            _lock: lock,
        });
        ffi::skip_destructors_at_exit();
        let _ = RUNNING.set(Arc::clone(&engine));
        Ok(engine)
    }

    /// Returns facts about the engine.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns the named sessions.
    pub(crate) fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// Opens a connection. Fails after [`Engine::close`].
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

    /// Runs `work` with a new connection on a blocking thread.
    ///
    /// # Errors
    /// If no connection becomes free in time.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        session: SessionOptions,
        work: impl FnOnce(&mut Connection) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<EngineTask<T>, EngineError> {
        let permit = self.acquire_permit().await?;
        let id = session.query_id.clone();
        let state = TaskState::new(id.unwrap_or_else(|| uuid::Uuid::now_v7().to_string()));
        let (engine, shared) = (Arc::clone(self), Arc::clone(&state));
        let handle = tokio::task::spawn_blocking(move || {
            let _permit: OwnedSemaphorePermit = permit;
            let _finished = FinishedOnDrop(Arc::clone(&shared));
            let _id = engine.register(&session)?;
            let run = |connection: &mut Connection| {
                prepare(connection, &session, &shared.tag)?;
                shared.check()?;
                work(connection)
            };
            let Some(name) = &session.session else {
                return run(&mut engine.connect()?);
            };
            let open = || engine.connect();
            let (mut connection, lease) = engine.sessions.lease(&session.user, name, open)?;
            let undo = Undo::record(&mut connection, &session)?;
            let outcome = run(&mut connection);
            undo.run(&mut connection);
            lease.give_back(connection);
            outcome
        });
        let engine = Arc::clone(self);
        let kill = Arc::new(move |tag: &str| engine.kill(Some(tag)));
        Ok(EngineTask::new(kill, &state, handle))
    }

    /// Registers the query id of a request, if it has one.
    fn register(&self, session: &SessionOptions) -> Result<Option<RegisteredId>, EngineError> {
        let Some(id) = &session.query_id else {
            return Ok(None);
        };
        let replaces = |(name, value): &(String, String)| {
            name == "replace_running_query" && ["1", "true"].contains(&value.as_str())
        };
        let kill = || self.kill(Some(id));
        let replace = session.settings.iter().any(replaces);
        let replace: Option<&dyn Fn() -> Result<(), EngineError>> = replace.then_some(&kill as _);
        self.query_ids.register(id, replace).map(Some)
    }

    /// Waits for a free connection.
    async fn acquire_permit(&self) -> Result<OwnedSemaphorePermit, EngineError> {
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

    /// Asks the query with this tag to stop, or every query if `tag` is `None`.
    pub(crate) fn kill(&self, tag: Option<&str>) -> Result<(), EngineError> {
        let filter = match tag {
            Some(tag) => format!("Settings['{}'] = {}", query_ids::SETTING, quoted(tag)),
            None => "query_id != queryID()".to_owned(),
        };
        let sql = format!("KILL QUERY WHERE {filter} ASYNC");
        self.connect()?.query(sql.as_bytes(), "Null", &[]).map(|_| ())
    }

    /// Waits for running queries, stops those that take longer than `timeout`, and flushes the engine.
    ///
    /// Afterwards the process can exit.
    pub(crate) async fn close(self: Arc<Self>, timeout: Duration) {
        let all_permits = || Arc::clone(&self.permits).acquire_many_owned(self.connections);
        if tokio::time::timeout(timeout, all_permits()).await.is_err() {
            tracing::warn!(
                timeout_seconds = timeout.as_secs(),
                "stopping ClickHouse queries that are still running"
            );
            let engine = Arc::clone(&self);
            let _ = tokio::task::spawn_blocking(move || engine.kill(None)).await;
            if tokio::time::timeout(Duration::from_secs(5), all_permits())
                .await
                .is_err()
            {
                tracing::warn!("a ClickHouse query did not stop; closing the engine anyway");
            }
        }
        self.permits.close();
        let flushed = tokio::task::spawn_blocking(move || {
            self.closed.store(true, Ordering::SeqCst);
            self.sessions.close_all();
            let mut root = self.root.lock();
            // An exit discards running merges. They start again with the engine.
            for sql in ["SYSTEM FLUSH ASYNC INSERT QUEUE", "SYSTEM STOP MERGES"] {
                if let Err(error) = root.query(sql.as_bytes(), "Null", &[]) {
                    tracing::debug!(%error, sql, "flushing the ClickHouse engine failed");
                }
            }
            ffi::skip_destructors_at_exit();
        });
        if flushed.await.is_err() {
            tracing::warn!("the ClickHouse engine did not flush cleanly; acknowledged data is on disk");
        }
    }
}

/// Queries version, time zone and host name.
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

/// Sets database and settings on a new connection.
fn prepare(connection: &mut Connection, session: &SessionOptions, tag: &str) -> Result<(), EngineError> {
    let mut run = |sql: String| connection.query(sql.as_bytes(), "Null", &[]).map(|_| ());
    if let Some(database) = &session.database {
        run(format!("USE {}", quoted_name(database)))?;
    }
    let mut assignments: Vec<String> = Vec::with_capacity(session.settings.len() + 1);
    // `readonly` comes last, because no setting can change after it.
    let (readonly, others): (Vec<_>, Vec<_>) =
        session.settings.iter().partition(|(name, _)| name == "readonly");
    assignments.extend(
        others
            .iter()
            .map(|(name, value)| format!("{name} = {}", quoted(value))),
    );
    // `kill` finds the query by this tag.
    assignments.push(format!("{} = {}", query_ids::SETTING, quoted(tag)));
    run(format!("SET {}", assignments.join(", ")))?;
    match readonly.last() {
        Some((_, value)) if value != "0" || !session.readonly => {
            run(format!("SET readonly = {}", quoted(value)))
        }
        _ if session.readonly => run("SET readonly = 2".to_owned()),
        _ => Ok(()),
    }
}

/// Quotes a string literal.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Quotes an identifier.
pub(crate) fn quoted_name(text: &str) -> String {
    format!("`{}`", text.replace('\\', "\\\\").replace('`', "\\`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_escaped() {
        assert_eq!(quoted(r"a'b\"), r"'a\'b\\'");
        assert_eq!(quoted_name("a`; DROP TABLE x"), r"`a\`; DROP TABLE x`");
    }
}
