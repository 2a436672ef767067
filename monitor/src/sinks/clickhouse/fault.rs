//! A fault that tests inject: the process dies between an insert and its acknowledgements.

use super::block::Block;

/// The kind of block (`results`, `references`) after whose first insert the process dies. Only builds with debug assertions
/// read it.
const VARIABLE: &str = "PRECIS_FAULT_DIE_AFTER_INSERT";

/// Aborts the process if a test injected the fault.
pub(super) fn die_before_acknowledging(block: &Block) {
    if cfg!(debug_assertions) && std::env::var_os(VARIABLE).is_some_and(|kind| kind == block.kind()) {
        std::process::abort();
    }
}
