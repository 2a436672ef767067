//! Contract tests: requests to Arize and Phoenix, field by field against those captured from Arize's own clients.

mod harness;
mod records;
mod spans;
