//! OTLP: export requests, and predictions as OpenInference spans in them.

pub(crate) mod export;
pub(crate) mod openinference;
