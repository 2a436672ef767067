//! The allocator of every role.
//!
//! A job on its way is many small allocations that are freed on other threads, and some of its length: with glibc's
//! allocator that was a fifth of the gateway's processor time.

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// A variable of the environment, and its value, with which a process gives large blocks back to the system as soon as they
/// are free: right for one that holds a model, whose load and caches otherwise leave 80 MB behind.
pub const RETURN_MEMORY_ENV: (&str, &str) = ("MIMALLOC_DISALLOW_ARENA_ALLOC", "1");
