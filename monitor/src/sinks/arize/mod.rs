//! Arize AX. Its cloud takes predictions in two ways, which are two sinks: as traces ([`traces`]), and as records of a
//! model ([`records`]).

pub(crate) mod records;
pub(crate) mod traces;

use reqwest::RequestBuilder;

/// A request with headers.
fn with_headers(request: RequestBuilder, headers: &[(&'static str, String)]) -> RequestBuilder {
    headers
        .iter()
        .fold(request, |request, (name, value)| request.header(*name, value))
}
