//! Authentication, permissions and limits of callers.
//!
//! | file | content |
//! | --- | --- |
//! | `gate.rs` | authenticates a request by its key and applies the key's rate limit |
//! | `key.rs` | a key with its permissions and limits |
//! | `caller.rs` | the authenticated caller, as handlers see it |
//! | `quota.rs` | a key's limit on queued jobs |
//! | `rate.rs` | a key's rate limit, and the `RateLimit` headers |
//! | `cors.rs` | web pages that may call |

mod caller;
mod cors;
mod gate;
mod key;
mod quota;
mod rate;

pub(crate) use caller::Caller;
pub(crate) use cors::cors;
pub(crate) use gate::Gate;
