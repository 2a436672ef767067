//! Arize AX. Its cloud accepts predictions as traces ([`traces`]) and as records of a model ([`records`]). Each is a
//! target.

mod headers;
pub(crate) mod records;
pub(crate) mod traces;
