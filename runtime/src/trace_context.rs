//! W3C trace context: read from a request or message, or begun here, and handed on.

use async_nats::HeaderMap;
use precis_schemas::headers;

/// The `traceparent` of what is being done, and the vendor's `tracestate` if there was one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    parent: String,
    state: Option<String>,
}

/// True for `00-<32 hex>-<16 hex>-<2 hex>` with ids that are not all zero.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &str, length: usize| {
        part.len() == length
            && part
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let real = |part: &str| part.bytes().any(|byte| byte != b'0');
    matches!(parts[..], [version, trace, span, flags]
        if version == "00" && hex(trace, 32) && hex(span, 16) && hex(flags, 2) && real(trace) && real(span))
}

impl TraceContext {
    /// Goes on with the trace of a request if it brings one, else begins one.
    pub fn continue_or_begin(parent: Option<&str>, state: Option<&str>) -> Self {
        match parent {
            Some(parent) if is_traceparent(parent) => Self {
                parent: parent.to_owned(),
                state: state.filter(|text| text.len() <= 512).map(str::to_owned),
            },
            _ => Self::begin(),
        }
    }

    /// Begins a trace.
    pub fn begin() -> Self {
        let trace = uuid::Uuid::now_v7().simple().to_string();
        let span = uuid::Uuid::now_v7().simple().to_string();
        Self {
            parent: format!("00-{trace}-{}-01", &span[16..]),
            state: None,
        }
    }

    /// Goes on with the trace of a NATS message if it brings one.
    pub fn from_message(message: Option<&HeaderMap>) -> Option<Self> {
        let headers = message?;
        let parent = headers.get(headers::TRACEPARENT)?.as_str();
        is_traceparent(parent).then(|| Self {
            parent: parent.to_owned(),
            state: headers
                .get(headers::TRACESTATE)
                .map(|value| value.as_str().to_owned()),
        })
    }

    /// Writes the context into the headers of a NATS message.
    pub fn write_to(&self, message: &mut HeaderMap) {
        message.insert(headers::TRACEPARENT, self.parent.as_str());
        if let Some(state) = &self.state {
            message.insert(headers::TRACESTATE, state.as_str());
        }
    }

    /// The `traceparent`.
    pub fn parent(&self) -> &str {
        &self.parent
    }

    /// The trace's id, 32 hexadecimal digits, for log lines.
    pub fn trace_id(&self) -> &str {
        self.parent.get(3..35).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_goes_on_through_a_message() {
        let begun = TraceContext::begin();
        assert!(is_traceparent(begun.parent()), "{}", begun.parent());
        let mut headers = HeaderMap::new();
        begun.write_to(&mut headers);
        assert_eq!(TraceContext::from_message(Some(&headers)), Some(begun));
    }

    #[test]
    fn what_is_no_trace_context_begins_a_new_one() {
        for bad in [
            "",
            "00-0-0-0",
            "00-00000000000000000000000000000000-0000000000000001-01",
            "no\r\nheader",
        ] {
            let context = TraceContext::continue_or_begin(Some(bad), None);
            assert_ne!(context.parent(), bad);
        }
        let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(TraceContext::continue_or_begin(Some(given), None).parent(), given);
    }
}
