//! Contract tests: compare requests, field by field, with those captured from Arize's own clients.

mod harness;
mod records;
mod spans;
