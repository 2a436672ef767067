//! HTTP, independent of any resource: the extractors, headers and errors that handlers share.

pub(crate) mod accept;
pub(crate) mod caching;
pub(crate) mod charset;
pub(crate) mod error_pages;
pub(crate) mod extract;
pub(crate) mod media_type;
pub(crate) mod prefer;
pub(crate) mod problem;
pub(crate) mod unread_body;
