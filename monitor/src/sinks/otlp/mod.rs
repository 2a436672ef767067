//! OTLP export requests, and predictions as OpenInference spans.

pub(crate) mod export;
pub(crate) mod openinference;
