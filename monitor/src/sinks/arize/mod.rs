//! Arize AX. Its cloud takes predictions in two ways, which are two sinks: as traces ([`traces`]), and as records of a
//! model ([`records`]).

mod headers;
pub(crate) mod records;
pub(crate) mod traces;
