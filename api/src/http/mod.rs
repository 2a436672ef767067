//! Everything about HTTP that is not about a particular resource: the router, the layers around it, the server, and the
//! extractors and errors that all handlers share.

pub(crate) mod error_pages;
pub(crate) mod extract;
pub(crate) mod home;
mod idle;
pub(crate) mod layers;
pub(crate) mod media_type;
pub(crate) mod prefer;
pub(crate) mod problem;
pub(crate) mod router;
pub(crate) mod serve;
mod slow;
