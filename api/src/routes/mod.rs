//! The handlers, one file for each part of the interface.

pub(crate) mod article;
pub(crate) mod errors;
pub(crate) mod home;
pub(crate) mod jobs;
pub(crate) mod summaries;
