//! Results and inserts in chunks.
#![allow(unsafe_code)]

use super::{Connection, Library, Output, RawConnection, RawInsert, RawResult, RawResultGuard, error_text};
use crate::errors::{EngineError, code};

/// A running `SELECT`. Dropping it before its end cancels the query.
pub(crate) struct SelectStream<'a> {
    connection: RawConnection,
    result: RawResultGuard<'a>,
    finished: bool,
}

impl<'a> SelectStream<'a> {
    /// Wraps the engine's result for a statement on `connection`.
    pub(super) fn start(connection: &'a mut Connection, raw: RawResult) -> Result<Self, EngineError> {
        let handle = connection.raw();
        let result = RawResultGuard::new(&connection.library, raw)?;
        result.check()?;
        Ok(Self {
            connection: handle,
            result,
            finished: false,
        })
    }

    /// Returns the next chunk, or `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Output>, EngineError> {
        if self.finished {
            return Ok(None);
        }
        let library = self.result.library;
        // SAFETY: the stream borrows its connection mutably, so both are alive and the connection runs nothing else.
        let raw = unsafe { (library.functions.chdb_stream_fetch_result)(self.connection, self.result.raw) };
        let output = library.take(raw).inspect_err(|_| self.finished = true)?;
        if output.data.is_empty() {
            self.finished = true;
            return Ok(None);
        }
        Ok(Some(output))
    }
}

impl Drop for SelectStream<'_> {
    fn drop(&mut self) {
        if !self.finished {
            // SAFETY: connection and stream are alive; the guard destroys the stream afterwards.
            unsafe {
                (self.result.library.functions.chdb_stream_cancel_query)(self.connection, self.result.raw);
            }
        }
    }
}

/// A running `INSERT`. Dropping it before [`InsertStream::finish`] discards the incomplete block.
pub(crate) struct InsertStream<'a> {
    library: &'a Library,
    raw: RawInsert,
    finished: bool,
}

impl<'a> InsertStream<'a> {
    /// Wraps the engine's stream for an `INSERT` on `connection`.
    pub(super) fn start(connection: &'a mut Connection, raw: RawInsert) -> Result<Self, EngineError> {
        if raw.is_null() {
            return Err(EngineError::new(
                code::LOGICAL_ERROR,
                "the engine returned no insert stream",
            ));
        }
        let stream = Self {
            library: &connection.library,
            raw,
            finished: false,
        };
        stream.error().map_or(Ok(stream), Err)
    }

    fn error(&self) -> Option<EngineError> {
        // SAFETY: the stream is alive and owns its error text.
        unsafe { error_text((self.library.functions.chdb_stream_insert_error)(self.raw)) }
    }

    /// Sends a chunk of data. Blocks while the engine is busy.
    pub(crate) fn append(&mut self, data: &[u8]) -> Result<(), EngineError> {
        // SAFETY: the stream is alive; the engine copies `data` before it returns.
        let state = unsafe {
            (self.library.functions.chdb_stream_append)(self.raw, data.as_ptr().cast(), data.len())
        };
        if state == 0 {
            return Ok(());
        }
        Err(self
            .error()
            .unwrap_or_else(|| EngineError::new(code::LOGICAL_ERROR, "the engine rejected a chunk of data")))
    }

    /// Commits the data.
    pub(crate) fn finish(mut self) -> Result<Output, EngineError> {
        self.finished = true;
        // SAFETY: the stream is alive, and `self` is consumed, so it is finished only once.
        let raw = unsafe { (self.library.functions.chdb_stream_done)(self.raw) };
        self.library.take(raw)
    }
}

impl Drop for InsertStream<'_> {
    fn drop(&mut self) {
        // SAFETY: the stream is alive. It is cancelled at most once, only if it wasn't committed, and destroyed exactly once.
        unsafe {
            if !self.finished {
                (self.library.functions.chdb_stream_cancel_insert)(self.raw);
            }
            (self.library.functions.chdb_destroy_insert_stream)(self.raw);
        }
    }
}
