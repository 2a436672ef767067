//! Batches: many rows in one upload, many results in one download.
//!
//! | file | purpose |
//! | --- | --- |
//! | `endpoints.rs`, `routes.rs` | the routes with their documentation, and their handlers |
//! | `upload.rs`, `form.rs` | read a request body as a stream of chunks, bounded in size and time |
//! | `rows.rs`, `columns/` | make rows of the records of a file; a malformed row is a row with an error |
//! | `ingest.rs`, `options.rs`, `pending.rs` | turn an upload into a batch, row by row |
//! | `publisher.rs` | publishes the job of a row |
//! | `upload_key.rs` | idempotent uploads |
//! | `store.rs` | reads and writes batch records in the stream `BATCHES` |
//! | `progress.rs` | counts the rows by status, from the queue and the results |
//! | `results.rs` | streams the results in row order, as JSON Lines or CSV |

mod columns;
pub(crate) mod endpoints;
mod form;
mod ingest;
mod options;
mod pending;
pub(crate) mod progress;
mod publisher;
mod results;
mod routes;
mod rows;
mod store;
mod upload;
mod upload_key;

pub(crate) use progress::intake_ended_at;
pub(crate) use routes::view;
pub(crate) use store::head;
