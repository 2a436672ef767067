//! Who is calling, what they may do, and how much of it.
//!
//! | file | what |
//! | --- | --- |
//! | `gate.rs` | what is before every route: finds the caller by the key, and keeps the key's rate |
//! | `caller.rs` | what a handler knows of the caller: the tenant, and what the key allows |
//! | `quota.rs` | how many jobs of a tenant may be in the queue at once |
//! | `rate.rs` | requests in a minute, and the `RateLimit` headers |
//! | `cors.rs` | which web pages may call |

mod caller;
mod cors;
mod gate;
mod key;
mod quota;
mod rate;

pub(crate) use caller::Caller;
pub(crate) use cors::cors;
pub(crate) use gate::Gate;
