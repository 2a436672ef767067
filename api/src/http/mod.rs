//! HTTP, independent of any resource: the server, the layers around all routes, and the extractors and errors that
//! handlers share.

pub(crate) mod error_pages;
pub(crate) mod extract;
mod idle;
pub(crate) mod layers;
pub(crate) mod media_type;
pub(crate) mod prefer;
pub(crate) mod problem;
pub(crate) mod serve;
mod write_timeout;
