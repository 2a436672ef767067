//! A fault for tests: to die where it hurts most, when rows are stored and their messages are not acknowledged.

use super::block::Block;

/// The kind of blocks (`results`, `references`) after the first of which the process dies. Only builds with debug
/// assertions look.
const VARIABLE: &str = "PRECIS_FAULT_DIE_AFTER_INSERT";

/// Ends the process at once if a test has asked for it.
pub(super) fn die_before_acknowledging(block: &Block) {
    if cfg!(debug_assertions) && std::env::var_os(VARIABLE).is_some_and(|kind| kind == block.kind()) {
        std::process::abort();
    }
}
