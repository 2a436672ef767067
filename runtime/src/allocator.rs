//! The allocator of every role.
//!
//! A job on its way is many small allocations that are freed on other threads, and some of its length: with glibc's
//! allocator that was a fifth of the gateway's processor time.

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;
