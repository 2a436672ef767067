//! The engine's C interface, and all unsafe code of this crate.
//!
//! The shared library is opened at run time, and its functions are declared by hand, so that a build needs neither a header
//! nor the 566 MB library. Every C handle is owned by a type whose `Drop` releases it.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use bytes::Bytes;

use crate::errors::{EngineError, code};

mod page_out;
mod streams;
pub(crate) use page_out::page_out;
pub(crate) use streams::{InsertStream, SelectStream};

/// `chdb_connection`: an opaque pointer.
type RawConnection = *mut c_void;
/// `chdb_result *`: an opaque pointer.
type RawResult = *mut c_void;
/// `chdb_insert_stream`: an opaque pointer.
type RawInsert = *mut c_void;
/// `chdb_state`: 0 is success.
type State = c_int;
/// Takes a statement, a format, parameter names and values (each with its length), and their count. Returns a result or an
/// insert stream.
type WithParameters = unsafe extern "C" fn(
    RawConnection,
    *const u8,
    usize,
    *const u8,
    usize,
    *const *const u8,
    *const usize,
    *const *const u8,
    *const usize,
    usize,
) -> *mut c_void;

/// Declares the table of C functions and resolves it from the library.
macro_rules! functions {
    ($($name:ident: $function:ty;)*) => {
        /// The engine's functions, by their C names.
        struct Functions { $($name: $function,)* }

        impl Functions {
            fn resolve(library: &libloading::Library) -> Result<Self, libloading::Error> {
                Ok(Self {
                    $(
                        // SAFETY: the type is the C declaration of this function in the header of
                        // the pinned release; the library is never unloaded (see `Library::load`).
                        $name: unsafe { *library.get(concat!(stringify!($name), "\0").as_bytes())? },
                    )*
                })
            }
        }
    };
}

functions! {
    chdb_set_signal_handlers_enabled: unsafe extern "C" fn(c_int);
    chdb_connect: unsafe extern "C" fn(c_int, *const *const c_char) -> *mut RawConnection;
    chdb_close_conn: unsafe extern "C" fn(*mut RawConnection);
    chdb_classify_query_n:
        unsafe extern "C" fn(RawConnection, *const u8, usize, *const u8, usize, *mut RawAnalysis) -> State;
    chdb_query_with_params_n: WithParameters;
    chdb_stream_query_with_params_n: WithParameters;
    chdb_stream_insert_with_params_n: WithParameters;
    chdb_stream_fetch_result: unsafe extern "C" fn(RawConnection, RawResult) -> RawResult;
    chdb_stream_cancel_query: unsafe extern "C" fn(RawConnection, RawResult);
    chdb_destroy_query_result: unsafe extern "C" fn(RawResult);
    chdb_result_buffer: unsafe extern "C" fn(RawResult) -> *const u8;
    chdb_result_length: unsafe extern "C" fn(RawResult) -> usize;
    chdb_result_error: unsafe extern "C" fn(RawResult) -> *const c_char;
    chdb_result_rows_read: unsafe extern "C" fn(RawResult) -> u64;
    chdb_result_storage_rows_read: unsafe extern "C" fn(RawResult) -> u64;
    chdb_result_storage_bytes_read: unsafe extern "C" fn(RawResult) -> u64;
    chdb_result_rows_written: unsafe extern "C" fn(RawResult) -> u64;
    chdb_result_bytes_written: unsafe extern "C" fn(RawResult) -> u64;
    chdb_stream_insert_error: unsafe extern "C" fn(RawInsert) -> *const c_char;
    chdb_stream_append: unsafe extern "C" fn(RawInsert, *const c_void, usize) -> State;
    chdb_stream_done: unsafe extern "C" fn(RawInsert) -> RawResult;
    chdb_stream_cancel_insert: unsafe extern "C" fn(RawInsert);
    chdb_destroy_insert_stream: unsafe extern "C" fn(RawInsert);
}

/// `chdb_query_analysis_v1`.
#[repr(C)]
#[derive(Default)]
struct RawAnalysis {
    struct_size: u32,
    statement_count: u32,
    flags: u32,
    query_class: u32,
}

/// The library can't be opened.
#[derive(Debug, thiserror::Error)]
#[error("loading the ClickHouse engine {} failed: {reason}", path.display())]
pub(crate) struct LoadError {
    path: PathBuf,
    reason: libloading::Error,
}

/// The engine's shared library. It stays mapped until the process ends, because the engine's threads run in it.
pub(crate) struct Library {
    functions: Functions,
}

impl Library {
    /// Opens the library and resolves its functions.
    pub(crate) fn load(path: &Path) -> Result<Arc<Self>, LoadError> {
        let failed = |reason| LoadError {
            path: path.to_owned(),
            reason,
        };
        // SAFETY: loading runs the static initializers of the pinned, checksummed engine or of a file that the operator
        // configured. The engine supports being loaded at run time.
        let library = unsafe { libloading::Library::new(path) }.map_err(failed)?;
        let library: &'static libloading::Library = Box::leak(Box::new(library));
        let functions = Functions::resolve(library).map_err(failed)?;
        // SAFETY: the function takes a flag by value. It must run before the first connection: otherwise the engine replaces
        // this process' handlers for SIGINT, SIGTERM and faults.
        unsafe { (functions.chdb_set_signal_handlers_enabled)(0) };
        Ok(Arc::new(Self { functions }))
    }

    /// Opens a connection. The first one starts the engine; later ones must pass the same path.
    pub(crate) fn connect(self: &Arc<Self>, arguments: &[CString]) -> Result<Connection, EngineError> {
        let pointers: Vec<*const c_char> = arguments.iter().map(|argument| argument.as_ptr()).collect();
        let count = c_int::try_from(pointers.len())
            .map_err(|_| EngineError::new(code::BAD_ARGUMENTS, "too many engine arguments"))?;
        // SAFETY: `pointers` holds `count` NUL-terminated strings that outlive the call; the engine
        // copies what it keeps.
        let handle = unsafe { (self.functions.chdb_connect)(count, pointers.as_ptr()) };
        let failed = || {
            EngineError::new(
                code::NETWORK_ERROR,
                "the engine refused the connection: its data directory may be damaged, not writable, or in use",
            )
        };
        let handle = NonNull::new(handle).ok_or_else(failed)?;
        let connection = Connection {
            library: Arc::clone(self),
            handle,
        };
        if connection.raw().is_null() {
            Err(failed())
        } else {
            Ok(connection)
        }
    }

    /// Copies a result and destroys it.
    fn take(&self, raw: RawResult) -> Result<Output, EngineError> {
        let result = RawResultGuard::new(self, raw)?;
        result.check()?;
        let functions = &self.functions;
        // SAFETY: the guard holds a live result, which owns the buffer of `length` bytes. The copy is made before the guard
        // destroys the result.
        unsafe {
            let buffer = (functions.chdb_result_buffer)(result.raw);
            let length = (functions.chdb_result_length)(result.raw);
            let data = if buffer.is_null() || length == 0 {
                Bytes::new()
            } else {
                Bytes::copy_from_slice(std::slice::from_raw_parts(buffer, length))
            };
            Ok(Output {
                data,
                result_rows: (functions.chdb_result_rows_read)(result.raw),
                read_rows: (functions.chdb_result_storage_rows_read)(result.raw),
                read_bytes: (functions.chdb_result_storage_bytes_read)(result.raw),
                written_rows: (functions.chdb_result_rows_written)(result.raw),
                written_bytes: (functions.chdb_result_bytes_written)(result.raw),
            })
        }
    }
}

/// Parses an error text of the engine. Returns `None` for a null pointer or an empty text.
///
/// # Safety
/// `text` must be null or a NUL-terminated string that outlives the call.
unsafe fn error_text(text: *const c_char) -> Option<EngineError> {
    if text.is_null() {
        return None;
    }
    // SAFETY: guaranteed by the caller.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    (!text.is_empty()).then(|| EngineError::from_engine(&text))
}

/// Makes the process exit without running destructors, because the engine's destructors crash its running threads.
/// Acknowledged data is on disk by then.
///
/// Exit handlers run in reverse order of registration, and the engine keeps registering destructors, so this must be
/// called repeatedly. Handlers registered earlier don't run.
pub(crate) fn skip_destructors_at_exit() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn on_exit(function: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
            fn _exit(status: c_int) -> !;
        }
        extern "C" fn leave(status: c_int, _: *mut c_void) {
            // SAFETY: ends the process with its exit status. Rust flushes its output before exit handlers run.
            unsafe { _exit(status) }
        }
        // SAFETY: the function pointer is valid for the whole program, its argument is unused, and `on_exit` is thread-safe.
        // If memory runs out, it registers nothing.
        unsafe { on_exit(leave, ptr::null_mut()) };
    }
}

/// Owns a result and destroys it on drop.
struct RawResultGuard<'a> {
    library: &'a Library,
    raw: RawResult,
}

impl<'a> RawResultGuard<'a> {
    fn new(library: &'a Library, raw: RawResult) -> Result<Self, EngineError> {
        if raw.is_null() {
            return Err(EngineError::new(
                code::LOGICAL_ERROR,
                "the engine returned no result",
            ));
        }
        Ok(Self { library, raw })
    }

    fn check(&self) -> Result<(), EngineError> {
        // SAFETY: the result is alive and owns its error text.
        match unsafe { error_text((self.library.functions.chdb_result_error)(self.raw)) } {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

impl Drop for RawResultGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: the result came from the engine, is not null, and is destroyed exactly once.
        unsafe { (self.library.functions.chdb_destroy_query_result)(self.raw) };
    }
}

/// The result of a statement, or one chunk of a streamed result.
#[derive(Debug, Default, Clone)]
pub(crate) struct Output {
    /// The formatted rows.
    pub(crate) data: Bytes,
    /// Rows in `data`.
    pub(crate) result_rows: u64,
    /// Rows read from storage.
    pub(crate) read_rows: u64,
    /// Bytes read from storage.
    pub(crate) read_bytes: u64,
    /// Rows written, including materialized views.
    pub(crate) written_rows: u64,
    /// Bytes written, including materialized views.
    pub(crate) written_bytes: u64,
}

/// A connection: a session with its own settings, database and temporary tables. It runs one statement at a time, which
/// `&mut self` enforces.
pub(crate) struct Connection {
    library: Arc<Library>,
    handle: NonNull<RawConnection>,
}

// SAFETY: the engine allows calls from any thread, one at a time. Methods that call it take `&mut self` or consume `self`, so
// two threads can't use a connection at the same time.
unsafe impl Send for Connection {}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: the handle came from `chdb_connect` and is closed exactly once. Streams borrow the connection, so none
        // exists any more.
        unsafe { (self.library.functions.chdb_close_conn)(self.handle.as_ptr()) };
    }
}

impl Connection {
    fn raw(&self) -> RawConnection {
        // SAFETY: the handle points to the engine's connection pointer until it is closed.
        unsafe { *self.handle.as_ptr() }
    }

    /// Counts the statements in `sql` without running them. Returns 0 if it doesn't parse.
    pub(crate) fn statement_count(&mut self, sql: &[u8]) -> u32 {
        let mut analysis = RawAnalysis {
            struct_size: u32::try_from(size_of::<RawAnalysis>()).unwrap_or(u32::MAX),
            ..RawAnalysis::default()
        };
        // SAFETY: `sql` and `analysis` outlive the call, a null target database skips that check, and `struct_size` limits what
        // the engine writes.
        let state = unsafe {
            (self.library.functions.chdb_classify_query_n)(
                self.raw(),
                sql.as_ptr(),
                sql.len(),
                ptr::null(),
                0,
                &raw mut analysis,
            )
        };
        if state == 0 { analysis.statement_count } else { 0 }
    }

    /// Calls a function that takes a statement, a format and parameters.
    fn call(
        &self,
        function: WithParameters,
        sql: &[u8],
        format: &str,
        parameters: &[(String, String)],
    ) -> *mut c_void {
        let lengths = |part: fn(&(String, String)) -> &String| -> (Vec<*const u8>, Vec<usize>) {
            parameters
                .iter()
                .map(|parameter| (part(parameter).as_ptr(), part(parameter).len()))
                .unzip()
        };
        let (names, name_lengths) = lengths(|(name, _)| name);
        let (values, value_lengths) = lengths(|(_, value)| value);
        // SAFETY: every pointer comes with its length and outlives the call. The engine copies the parameters before it returns,
        // in the streaming functions too.
        unsafe {
            function(
                self.raw(),
                sql.as_ptr(),
                sql.len(),
                format.as_ptr(),
                format.len(),
                names.as_ptr(),
                name_lengths.as_ptr(),
                values.as_ptr(),
                value_lengths.as_ptr(),
                parameters.len(),
            )
        }
    }

    /// Runs a statement and returns its whole result.
    pub(crate) fn query(
        &mut self,
        sql: &[u8],
        format: &str,
        parameters: &[(String, String)],
    ) -> Result<Output, EngineError> {
        let raw = self.call(
            self.library.functions.chdb_query_with_params_n,
            sql,
            format,
            parameters,
        );
        self.library.take(raw)
    }

    /// Starts a `SELECT` and returns its result as a stream of chunks.
    pub(crate) fn stream(
        &mut self,
        sql: &[u8],
        format: &str,
        parameters: &[(String, String)],
    ) -> Result<SelectStream<'_>, EngineError> {
        let raw = self.call(
            self.library.functions.chdb_stream_query_with_params_n,
            sql,
            format,
            parameters,
        );
        SelectStream::start(self, raw)
    }

    /// Starts an `INSERT` that takes its data in chunks. `sql` must have neither `FORMAT` nor data.
    pub(crate) fn insert(
        &mut self,
        sql: &[u8],
        format: &str,
        parameters: &[(String, String)],
    ) -> Result<InsertStream<'_>, EngineError> {
        let raw = self.call(
            self.library.functions.chdb_stream_insert_with_params_n,
            sql,
            format,
            parameters,
        );
        InsertStream::start(self, raw)
    }
}
