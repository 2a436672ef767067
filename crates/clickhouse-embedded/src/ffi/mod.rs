//! The engine's C interface: the only unsafe code of the ClickHouse front.
//!
//! The shared library is opened at run time and its functions are declared here by hand, so that
//! building needs neither a header nor the 566 MB library. Every handle that C hands out is wrapped
//! in a type whose `Drop` gives it back, on every path.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use bytes::Bytes;

use crate::errors::{EngineError, code};

mod streams;
pub(crate) use streams::{InsertStream, SelectStream};

/// `chdb_connection`: an opaque pointer.
type RawConnection = *mut c_void;
/// `chdb_result *`: an opaque pointer.
type RawResult = *mut c_void;
/// `chdb_insert_stream`: an opaque pointer.
type RawInsert = *mut c_void;
/// `chdb_state`: 0 is success.
type State = c_int;
/// A statement, a format, parameter names and values (each with its length), and their count. What
/// comes back is a result or an insert stream.
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

/// Declares the table of C functions and how it is filled from the library.
macro_rules! functions {
    ($($name:ident: $function:ty;)*) => {
        /// The functions of the engine that are used, by their C names.
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

/// Why the library could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("the ClickHouse engine {} could not be loaded: {reason}", path.display())]
pub(crate) struct LoadError {
    path: PathBuf,
    reason: libloading::Error,
}

/// The engine's shared library, once opened. It stays mapped until the process ends, because the
/// engine's own threads run in it.
pub(crate) struct Library {
    functions: Functions,
}

impl Library {
    /// Opens the library and resolves every function it must have.
    pub(crate) fn load(path: &Path) -> Result<Arc<Self>, LoadError> {
        let failed = |reason| LoadError {
            path: path.to_owned(),
            reason,
        };
        // SAFETY: loading runs the library's static initializers. They are those of the pinned,
        // checksummed engine (or of a file that the operator named), which expects to be opened so.
        let library = unsafe { libloading::Library::new(path) }.map_err(failed)?;
        let library: &'static libloading::Library = Box::leak(Box::new(library));
        let functions = Functions::resolve(library).map_err(failed)?;
        // SAFETY: no arguments beyond the flag. Must come before the first connection: the engine
        // would otherwise replace this process' handlers for SIGINT, SIGTERM and faults.
        unsafe { (functions.chdb_set_signal_handlers_enabled)(0) };
        Ok(Arc::new(Self { functions }))
    }

    /// Opens a connection. The first one starts the engine; the others must name the same path.
    pub(crate) fn connect(self: &Arc<Self>, arguments: &[CString]) -> Result<Connection, EngineError> {
        let pointers: Vec<*const c_char> = arguments.iter().map(|argument| argument.as_ptr()).collect();
        let count = c_int::try_from(pointers.len())
            .map_err(|_| EngineError::new(code::BAD_ARGUMENTS, "too many engine arguments"))?;
        // SAFETY: `pointers` holds `count` NUL-terminated strings that outlive the call; the engine
        // copies what it keeps.
        let handle = unsafe { (self.functions.chdb_connect)(count, pointers.as_ptr()) };
        let refused = || {
            EngineError::new(
                code::NETWORK_ERROR,
                "the engine refused the connection: its data folder may be damaged, not writable, or in use",
            )
        };
        let handle = NonNull::new(handle).ok_or_else(refused)?;
        let connection = Connection {
            library: Arc::clone(self),
            handle,
        };
        if connection.raw().is_null() {
            Err(refused())
        } else {
            Ok(connection)
        }
    }

    /// Takes what is in a result and destroys it.
    fn take(&self, raw: RawResult) -> Result<Output, EngineError> {
        let result = RawResultGuard::new(self, raw)?;
        result.check()?;
        let functions = &self.functions;
        // SAFETY: the guard holds a live result. The buffer belongs to it and is `length` bytes
        // long; it is copied before the guard gives the result back.
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

/// Reads an error text of the engine; `None` when there is none.
///
/// # Safety
/// `text` is null or a NUL-terminated string that lives for the duration of the call.
unsafe fn error_text(text: *const c_char) -> Option<EngineError> {
    if text.is_null() {
        return None;
    }
    // SAFETY: by the contract of this function.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    (!text.is_empty()).then(|| EngineError::from_engine(&text))
}

/// Has the process end without running destructors, those of the engine among them: they would pull
/// the ground from under its threads. What is acknowledged is on disk by then.
///
/// What was registered last runs first, and the engine registers destructors as it goes, so this has
/// to be repeated. Handlers that were registered before don't run any more.
pub(crate) fn skip_destructors_at_exit() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn on_exit(function: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
            fn _exit(status: c_int) -> !;
        }
        extern "C" fn leave(status: c_int, _: *mut c_void) {
            // SAFETY: ends the process at once with the status it was ending with; Rust's own output
            // was flushed before the exit handlers.
            unsafe { _exit(status) }
        }
        // SAFETY: a function pointer that is valid as long as the program, and an argument that isn't
        // used; `on_exit` is thread-safe. If it fails, for want of memory, nothing is registered.
        unsafe { on_exit(leave, ptr::null_mut()) };
    }
}

/// A result that is destroyed when this goes out of scope.
struct RawResultGuard<'a> {
    library: &'a Library,
    raw: RawResult,
}

impl<'a> RawResultGuard<'a> {
    fn new(library: &'a Library, raw: RawResult) -> Result<Self, EngineError> {
        if raw.is_null() {
            return Err(EngineError::new(code::LOGICAL_ERROR, "the engine gave no result"));
        }
        Ok(Self { library, raw })
    }

    fn check(&self) -> Result<(), EngineError> {
        // SAFETY: the result is alive, and its error text lives as long as it.
        match unsafe { error_text((self.library.functions.chdb_result_error)(self.raw)) } {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

impl Drop for RawResultGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: the result came from the engine, isn't null, and is given back exactly once.
        unsafe { (self.library.functions.chdb_destroy_query_result)(self.raw) };
    }
}

/// What a finished statement, or one chunk of a streamed one, brought.
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
    /// Rows written, those of materialized views included.
    pub(crate) written_rows: u64,
    /// Bytes written, those of materialized views included.
    pub(crate) written_bytes: u64,
}

/// One connection: one session with its own settings, database and temporary tables. Statements on
/// it run one at a time, which `&mut self` enforces.
pub(crate) struct Connection {
    library: Arc<Library>,
    handle: NonNull<RawConnection>,
}

// SAFETY: the engine's connections may be used from any thread, one call at a time; every method
// takes `&mut self` (or consumes it), so two threads can't be inside one connection.
unsafe impl Send for Connection {}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: the handle came from `chdb_connect` and is closed exactly once. Streams borrow the
        // connection mutably, so none is left.
        unsafe { (self.library.functions.chdb_close_conn)(self.handle.as_ptr()) };
    }
}

impl Connection {
    fn raw(&self) -> RawConnection {
        // SAFETY: the handle points at the engine's own connection pointer until it is closed.
        unsafe { *self.handle.as_ptr() }
    }

    /// Counts the statements in `sql` without running it; zero when it doesn't parse.
    pub(crate) fn statement_count(&mut self, sql: &[u8]) -> u32 {
        let mut analysis = RawAnalysis {
            struct_size: u32::try_from(size_of::<RawAnalysis>()).unwrap_or(u32::MAX),
            ..RawAnalysis::default()
        };
        // SAFETY: `sql` and `analysis` outlive the call; a null target database skips that check;
        // `struct_size` tells how much the engine may write.
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

    /// Calls one of the functions that take a statement, a format and parameters.
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
        // SAFETY: every pointer is paired with its length and outlives the call; the engine captures
        // the parameters before it returns, in the streaming functions too.
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

    /// Runs a statement and keeps the whole result.
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

    /// Starts a `SELECT` whose result is read in chunks.
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

    /// Starts an `INSERT` whose data is sent in chunks. `sql` has neither `FORMAT` nor data.
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
