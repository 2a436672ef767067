//! The console: the page that browsers get at `/`.
//!
//! | file | what |
//! | --- | --- |
//! | `files.rs` | the page's own files, the samples and the libraries |
//! | `routes.rs` | serves them, compressed and with entity tags |
//! | `endpoints.rs` | the routes with their documentation |
//!
//! The page uses only the public routes. Its own files are in `console/app/` and part of the program; a debug build reads
//! them from there at each request. The libraries are downloaded: without them, the page says how to get them.

pub(crate) mod endpoints;
mod files;
pub(crate) mod routes;
