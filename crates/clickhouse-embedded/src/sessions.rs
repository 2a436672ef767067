//! Named sessions: connections that stay open between the requests of a client, with their settings, current database and
//! temporary tables.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::time::Instant;

use crate::engine::{SessionOptions, quoted, quoted_name};
use crate::errors::{EngineError, code};
use crate::ffi::Connection;

/// Lifetime of an idle session, unless the request sets one.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum lifetime of an idle session.
pub(crate) const MAX_TIMEOUT: Duration = Duration::from_secs(3600);
/// Maximum number of sessions.
const MAX_SESSIONS: usize = 1000;
/// Time for the previous request to leave the session after it has sent its result.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// The session that a request names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionName {
    /// `session_id`.
    pub(crate) id: String,
    /// Lifetime after the last request.
    pub(crate) timeout: Duration,
    /// Whether the session must exist already.
    pub(crate) must_exist: bool,
}

/// User and id of a session.
type Key = (String, String);

enum Slot {
    Idle { connection: Connection, until: Instant },
    Busy,
}

/// All sessions.
#[derive(Default)]
pub(crate) struct Sessions {
    slots: Mutex<HashMap<Key, Slot>>,
    left: Condvar,
}

impl Sessions {
    /// Takes the connection of a session, or opens one for a new session. Blocks for up to a second while another request
    /// uses it.
    ///
    /// # Errors
    /// If the session is in use, does not exist although it must, or there are too many.
    pub(crate) fn lease(
        self: &Arc<Self>,
        user: &str,
        name: &SessionName,
        open: impl FnOnce() -> Result<Connection, EngineError>,
    ) -> Result<(Connection, Lease), EngineError> {
        self.close_expired();
        let key = (user.to_owned(), name.id.clone());
        // Every session that is left wakes all that wait, so a timeout per wake-up might never pass.
        let deadline = (Instant::now() + LEAVE_TIMEOUT).into_std();
        let mut slots = self.slots.lock();
        while matches!(slots.get(&key), Some(Slot::Busy)) {
            if self.left.wait_until(&mut slots, deadline).timed_out() {
                return Err(EngineError::new(
                    code::SESSION_IS_LOCKED,
                    format!("Session {} is locked by a concurrent client", name.id),
                ));
            }
        }
        let idle = match slots.remove(&key) {
            Some(Slot::Idle { connection, .. }) => Some(connection),
            _ if name.must_exist => {
                return Err(EngineError::new(
                    code::SESSION_NOT_FOUND,
                    format!("Session {} not found", name.id),
                ));
            }
            _ if slots.len() >= MAX_SESSIONS => {
                return Err(EngineError::new(
                    code::TOO_MANY_SIMULTANEOUS_QUERIES,
                    format!("Too many sessions: the embedded engine keeps {MAX_SESSIONS}"),
                ));
            }
            _ => None,
        };
        slots.insert(key.clone(), Slot::Busy);
        drop(slots);
        let lease = Lease {
            sessions: Arc::clone(self),
            key,
            timeout: name.timeout,
            returned: None,
        };
        let connection = match idle {
            Some(connection) => connection,
            None => open()?,
        };
        Ok((connection, lease))
    }

    /// Closes sessions whose lifetime has passed.
    pub(crate) fn close_expired(&self) {
        let now = Instant::now();
        self.close_if(|until| until <= now);
    }

    /// Closes every idle session.
    pub(crate) fn close_all(&self) {
        self.close_if(|_| true);
    }

    fn close_if(&self, ends: impl Fn(Instant) -> bool) {
        let is_over = |slot: &Slot| matches!(slot, Slot::Idle { until, .. } if ends(*until));
        let over: Vec<Slot> = {
            let mut slots = self.slots.lock();
            slots
                .extract_if(|_, slot| is_over(slot))
                .map(|(_, slot)| slot)
                .collect()
        };
        // Closing connections takes time, so the lock is free by now.
        drop(over);
    }
}

/// A request's hold on a session. Dropping it without [`Lease::give_back`] ends the session.
pub(crate) struct Lease {
    sessions: Arc<Sessions>,
    key: Key,
    timeout: Duration,
    returned: Option<Connection>,
}

impl Lease {
    /// Returns the connection to the session.
    pub(crate) fn give_back(mut self, connection: Connection) {
        self.returned = Some(connection);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut slots = self.sessions.slots.lock();
        match self.returned.take() {
            Some(connection) => {
                let until = Instant::now() + self.timeout;
                slots.insert(self.key.clone(), Slot::Idle { connection, until });
            }
            None => {
                slots.remove(&self.key);
            }
        }
        self.sessions.left.notify_all();
    }
}

/// Statements that undo the database and the settings of one request, which must not stay in its session.
pub(crate) struct Undo(Vec<String>);

impl Undo {
    /// Reads what the request is going to change.
    pub(crate) fn record(connection: &mut Connection, options: &SessionOptions) -> Result<Self, EngineError> {
        let mut statements = Vec::new();
        // First, because a read-only connection refuses the others. The engine accepts DEFAULT even then.
        if options.readonly {
            statements.push("SET readonly = DEFAULT".to_owned());
        }
        let mut read = |sql: &str| -> Result<String, EngineError> {
            let output = connection.query(sql.as_bytes(), "TabSeparatedRaw", &[])?;
            Ok(String::from_utf8_lossy(&output.data)
                .trim_end_matches('\n')
                .to_owned())
        };
        if options.database.is_some() {
            statements.push(format!("USE {}", quoted_name(&read("SELECT currentDatabase()")?)));
        }
        for (name, _) in &options.settings {
            let changed = format!(
                "SELECT value FROM system.settings WHERE name = {} AND changed",
                quoted(name)
            );
            let value = match read(&changed)? {
                value if value.is_empty() => "DEFAULT".to_owned(),
                value => quoted(&value),
            };
            statements.push(format!("SET {name} = {value}"));
        }
        Ok(Self(statements))
    }

    /// Runs the statements. The last one also removes the request's query from the engine's list.
    pub(crate) fn run(self, connection: &mut Connection) {
        for sql in self.0.iter().map(String::as_str).chain(["SELECT 1"]) {
            if let Err(error) = connection.query(sql.as_bytes(), "Null", &[]) {
                tracing::debug!(%error, sql, "restoring a ClickHouse session failed");
            }
        }
    }
}
