//! When a text is long enough, whatever the model would still say.

use std::fmt;
use std::sync::Arc;

/// Tells of a text so far whether more of it can still change what is kept of it: where only the first sentence is kept,
/// that is known once the second has begun.
///
/// The rule must be one that more text doesn't take back: then what is kept is the same with and without it.
#[derive(Clone)]
pub struct StopRule(Arc<dyn Fn(&str) -> bool + Send + Sync>);

impl StopRule {
    /// Stops when `is_end` says so of the text so far. Clones of one rule are equal, so that requests with them may be.
    pub fn new(is_end: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(is_end))
    }

    /// Whether a request ends with this text.
    pub fn is_end(&self, text: &str) -> bool {
        (self.0)(text)
    }

    /// Tells rules apart.
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
