//! Query ids: those of running queries, and statements that name one.
//!
//! The engine gives each statement a query id of its own and takes none from a client. The client's id travels in the
//! setting `chdb_client_name`, which has no effect in the engine and shows in `system.processes`. Statements that ask for
//! query ids are translated to that setting.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio::time::Instant;

use crate::errors::{EngineError, code};
use crate::ffi::Connection;
use crate::sql::{Word, words};

/// The setting that carries the client's query id.
pub(crate) const SETTING: &str = "chdb_client_name";
/// Time for a query that has sent its result to leave, so that its id can be used again.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);
/// The table of running queries with the ids of clients.
const TABLE: &str = "precis_processes";

/// Returns the statement that creates the table of running queries with the ids of clients.
pub(crate) fn table_definition() -> String {
    let id = format!("Settings['{SETTING}']");
    format!(
        "CREATE OR REPLACE VIEW system.{TABLE} AS SELECT * REPLACE ({id} AS query_id, {id} AS initial_query_id) FROM \
         system.processes"
    )
}

/// The ids of running queries. Each runs once at a time.
#[derive(Debug, Default)]
pub(crate) struct QueryIds {
    running: Mutex<HashSet<String>>,
    left: Condvar,
}

/// A registered id. Dropping it frees the id.
#[derive(Debug)]
pub(crate) struct RegisteredId {
    ids: Arc<QueryIds>,
    id: String,
}

impl QueryIds {
    /// Registers an id. Blocks for up to a second while a query with this id runs, and longer if it is to be replaced.
    ///
    /// # Errors
    /// If such a query still runs then.
    pub(crate) fn register(
        self: &Arc<Self>,
        id: &str,
        replace: Option<&dyn Fn() -> Result<(), EngineError>>,
    ) -> Result<RegisteredId, EngineError> {
        let mut running = self.running.lock();
        let mut kills = 0;
        // Every query that ends wakes all that wait, so a timeout per wake-up might never pass.
        let mut deadline = (Instant::now() + LEAVE_TIMEOUT).into_std();
        while running.contains(id) {
            let in_time = !self.left.wait_until(&mut running, deadline).timed_out();
            if in_time || !running.contains(id) {
                continue;
            }
            deadline = (Instant::now() + LEAVE_TIMEOUT).into_std();
            match replace {
                // Repeat, because the query may not have reached the engine yet.
                Some(kill) if kills < 5 => {
                    kills += 1;
                    parking_lot::MutexGuard::unlocked(&mut running, kill)?;
                }
                _ => {
                    return Err(EngineError::new(
                        code::QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING,
                        format!("Query with id = {id} is already running"),
                    ));
                }
            }
        }
        running.insert(id.to_owned());
        Ok(RegisteredId {
            ids: Arc::clone(self),
            id: id.to_owned(),
        })
    }
}

impl Drop for RegisteredId {
    fn drop(&mut self) {
        self.ids.running.lock().remove(&self.id);
        self.ids.left.notify_all();
    }
}

/// Replaces the engine's query ids in a statement by those of clients: in `KILL QUERY`, `system.processes`, `SHOW
/// PROCESSLIST` and `queryID()`.
pub(crate) fn translate(sql: &[u8]) -> Cow<'_, [u8]> {
    let all: Vec<Word<'_>> = match words(sql).next() {
        // Data may follow an INSERT.
        Some(first) if !first.is("INSERT") => words(sql).collect(),
        _ => return Cow::Borrowed(sql),
    };
    let starts_with = |first: &str, second: &str| {
        all.first().is_some_and(|word| word.is(first))
            && all
                .get(1)
                .is_some_and(|word| word.is(second) && word.follows(&all[0]))
    };
    let mut edits: Vec<(usize, usize, String)> = Vec::new();
    if starts_with("SHOW", "PROCESSLIST") {
        edits.push((
            all[0].start,
            all[1].end,
            format!("SELECT * FROM system.{TABLE} ORDER BY elapsed DESC"),
        ));
    }
    let kills = starts_with("KILL", "QUERY");
    for (index, word) in all.iter().enumerate() {
        let names_id = ["query_id", "initial_query_id"]
            .iter()
            .any(|name| word.text == name.as_bytes());
        let names_function = names_id
            || ["queryID", "initialQueryID"]
                .iter()
                .any(|name| word.text == name.as_bytes());
        if names_function && let Some(end) = empty_call(sql, word.end) {
            edits.push((word.start, end, format!("getSetting('{SETTING}')")));
        } else if kills && names_id {
            edits.push((word.start, word.end, format!("Settings['{SETTING}']")));
        } else if word.text == b"processes"
            && index > 0
            && all[index - 1].text == b"system"
            && sql[all[index - 1].end..word.start].trim_ascii() == b"."
        {
            edits.push((word.start, word.end, TABLE.to_owned()));
        }
    }
    if edits.is_empty() {
        return Cow::Borrowed(sql);
    }
    let mut translated = Vec::with_capacity(sql.len() + 64);
    let mut copied = 0;
    for (start, end, text) in edits {
        translated.extend_from_slice(&sql[copied..start]);
        translated.extend_from_slice(text.as_bytes());
        copied = end;
    }
    translated.extend_from_slice(&sql[copied..]);
    Cow::Owned(translated)
}

/// The engine's ids of running queries with those of their clients.
#[derive(Debug, Default)]
pub(crate) struct EngineIds(Vec<(String, String)>);

impl EngineIds {
    /// Reads the ids of all running queries.
    pub(crate) fn read(connection: &mut Connection) -> Result<Self, EngineError> {
        let sql = format!("SELECT query_id, Settings['{SETTING}'] FROM system.processes");
        let output = connection.query(sql.as_bytes(), "TabSeparatedRaw", &[])?;
        let text = String::from_utf8_lossy(&output.data);
        // An id that some format would have to quote stays the engine's.
        let is_plain = |id: &str| {
            id.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
        };
        let pairs = text.lines().filter_map(|line| line.split_once('\t'));
        let named = pairs.filter(|(_, id)| !id.is_empty() && is_plain(id));
        Ok(Self(
            named
                .map(|(engine, id)| (engine.to_owned(), id.to_owned()))
                .collect(),
        ))
    }

    /// Replaces the engine's ids in the result of a `KILL QUERY`. Binary formats, which count bytes, stay as they are.
    pub(crate) fn replaced(&self, data: Bytes, format: &str) -> Bytes {
        let text_formats = ["TabSeparated", "TSV", "CSV", "JSON", "Vertical", "Values", "XML"];
        let is_text = text_formats.iter().any(|prefix| format.starts_with(prefix));
        match std::str::from_utf8(&data) {
            Ok(text) if is_text && !self.0.is_empty() => {
                let replace = |text: String, (engine, id): &(String, String)| text.replace(engine, id);
                self.0.iter().fold(text.to_owned(), replace).into()
            }
            _ => data,
        }
    }
}

/// Returns the end of the `()` at `position`, if there is one.
fn empty_call(sql: &[u8], position: usize) -> Option<usize> {
    let mut rest = sql.iter().enumerate().skip(position);
    let mut next = || rest.find(|(_, byte)| !byte.is_ascii_whitespace());
    match (next()?, next()?) {
        ((_, b'('), (end, b')')) => Some(end + 1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(sql: &str) -> String {
        String::from_utf8(translate(sql.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn statements_about_query_ids_see_those_of_clients() {
        assert_eq!(
            translated("KILL QUERY WHERE query_id='a' /* query_id */ AND query != 'query_id' ASYNC"),
            "KILL QUERY WHERE Settings['chdb_client_name']='a' /* query_id */ AND query != 'query_id' ASYNC"
        );
        assert_eq!(
            translated("SELECT query_id FROM system.processes AS p WHERE query_id != queryID ( )"),
            "SELECT query_id FROM system.precis_processes AS p WHERE query_id != getSetting('chdb_client_name')"
        );
        assert_eq!(
            translated("show processlist FORMAT JSON"),
            "SELECT * FROM system.precis_processes ORDER BY elapsed DESC FORMAT JSON"
        );
    }

    #[test]
    fn other_statements_are_unchanged() {
        for sql in [
            "SELECT query_id FROM mine.processes",
            "SELECT 'system.processes', query_id -- queryID()",
            "INSERT INTO t SELECT queryID() FROM system.processes",
            "KILL MUTATION WHERE mutation_id = 'x'",
            "",
        ] {
            assert_eq!(translated(sql), sql);
        }
    }

    #[test]
    fn results_of_kill_query_name_the_clients_ids() {
        let ids = EngineIds(vec![("f1eb43ce".to_owned(), "mine".to_owned())]);
        let rows = Bytes::from_static(b"waiting\tf1eb43ce\tdefault\n");
        assert_eq!(
            ids.replaced(rows.clone(), "TabSeparated"),
            "waiting\tmine\tdefault\n"
        );
        assert_eq!(ids.replaced(rows.clone(), "RowBinary"), rows);
    }

    #[test]
    fn an_id_runs_once_at_a_time() {
        let ids = Arc::new(QueryIds::default());
        let first = ids.register("a", None).unwrap();
        let error = ids.register("a", None).unwrap_err();
        assert_eq!(error.code, 216);
        assert!(ids.register("b", None).is_ok());
        let first = Mutex::new(Some(first));
        let replace = || {
            first.lock().take();
            Ok(())
        };
        assert!(ids.register("a", Some(&replace)).is_ok());
    }
}
