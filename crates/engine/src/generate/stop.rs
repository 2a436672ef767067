//! Ends a text early.

use std::fmt;
use std::sync::Arc;

/// Decides whether more text can still change the part that is kept. If only the first sentence is kept, that is known
/// as soon as the second one begins.
///
/// The decision must not change with more text. Then the kept part is the same with and without the rule.
#[derive(Clone)]
pub struct StopRule(Arc<dyn Fn(&str) -> bool + Send + Sync>);

impl StopRule {
    /// Creates a rule that stops when `is_end` returns true for the text so far. Clones of a rule compare equal, so
    /// that requests with them do too.
    pub fn new(is_end: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(is_end))
    }

    /// Returns whether the text ends here.
    pub fn is_end(&self, text: &str) -> bool {
        (self.0)(text)
    }

    /// Identifies the rule.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.0).cast::<()>() as usize
    }
}

impl PartialEq for StopRule {
    fn eq(&self, other: &Self) -> bool {
        self.address() == other.address()
    }
}

impl fmt::Debug for StopRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StopRule")
    }
}
