//! Batches: many rows in one upload, many results in one download.
//!
//! | file | what |
//! | --- | --- |
//! | `upload.rs` | the body of the request, in whichever form, as chunks of bytes: bounded in size and time |
//! | `rows.rs`, `csv.rs`, `json_lines.rs` | bytes to rows; a bad row is a row too |
//! | `intake.rs` | an upload to a batch, row by row; what is kept of it is written as it grows |
//! | `publisher.rs` | a row to a job in the queue |
//! | `key.rs` | `Idempotency-Key`: the same upload twice is one batch |
//! | `store.rs` | what is kept of a batch |
//! | `tally.rs` | how far it has come: states read off the queue and the results |
//! | `results.rs` | the results in the order of the rows, as JSON Lines or CSV |

mod csv;
pub(crate) mod endpoints;
mod intake;
mod json_lines;
mod key;
mod publisher;
mod results;
mod routes;
mod rows;
mod store;
mod tally;
mod upload;

pub(crate) use intake::{Options, Taken, take};
pub(crate) use results::{Format, stream};
pub(crate) use store::head;
pub(crate) use tally::{Tallies, intake_ended_at, view, view_of_head};
