//! W3C trace context of requests and messages.

use async_nats::HeaderMap;
use precis_schemas::headers;

/// A `traceparent` and an optional vendor `tracestate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    parent: String,
    state: Option<String>,
}

/// Maximum length of a header field, in bytes.
const MAX_BYTES: usize = 512;

/// Parses a `traceparent` into the format of version 00: `00-<32 hex>-<16 hex>-<2 hex>` with nonzero ids. Higher
/// versions start with the same fields; the rest is dropped (W3C Trace Context, 4.3).
fn read_parent(text: &str) -> Option<String> {
    let mut parts = text.splitn(5, '-');
    let hex = |part: &str, length: usize| {
        part.len() == length
            && part
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let real = |part: &str| part.bytes().any(|byte| byte != b'0');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let more = parts.next();
    let is_known = match version {
        "00" => more.is_none(),
        "ff" => false,
        higher => hex(higher, 2) && text.len() <= MAX_BYTES,
    };
    let is_one = is_known && hex(trace, 32) && hex(span, 16) && hex(flags, 2) && real(trace) && real(span);
    // Version 00 defines only the sampled flag.
    let sampled = u8::from_str_radix(flags, 16).unwrap_or_default() & 1;
    match version {
        "00" => is_one.then(|| text.to_owned()),
        _ => is_one.then(|| format!("00-{trace}-{span}-{sampled:02x}")),
    }
}

impl TraceContext {
    /// Reads the trace context of a request.
    pub fn read(parent: Option<&str>, state: Option<&str>) -> Option<Self> {
        Some(Self {
            parent: read_parent(parent?)?,
            state: state.filter(|text| text.len() <= MAX_BYTES).map(str::to_owned),
        })
    }

    /// Continues the trace of a request, or starts a new one.
    pub fn continue_or_begin(parent: Option<&str>, state: Option<&str>) -> Self {
        Self::read(parent, state).unwrap_or_else(Self::begin)
    }

    /// Starts a new trace.
    pub fn begin() -> Self {
        let trace = uuid::Uuid::now_v7().simple().to_string();
        let span = uuid::Uuid::now_v7().simple().to_string();
        Self {
            parent: format!("00-{trace}-{}-01", &span[16..]),
            state: None,
        }
    }

    /// Reads the trace context of a NATS message.
    pub fn from_message(message: Option<&HeaderMap>) -> Option<Self> {
        let headers = message?;
        let parent = read_parent(headers.get(headers::TRACEPARENT)?.as_str())?;
        Some(Self {
            parent,
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

    /// Returns the `traceparent`.
    pub fn parent(&self) -> &str {
        &self.parent
    }

    /// Returns the trace id: 32 hexadecimal digits.
    pub fn trace_id(&self) -> &str {
        self.parent.get(3..35).unwrap_or_default()
    }

    /// Returns the span id: 16 hexadecimal digits.
    pub fn span_id(&self) -> &str {
        self.parent.get(36..52).unwrap_or_default()
    }

    /// Reports whether the trace is recorded.
    pub fn is_sampled(&self) -> bool {
        let flags = self.parent.get(53..).unwrap_or_default();
        u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1)
    }

    /// Returns the `tracestate`.
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// Creates the context of a span.
    pub(crate) fn of_ids(trace_id: &str, span_id: &str, sampled: bool, state: Option<String>) -> Self {
        let flags = u8::from(sampled);
        Self {
            parent: format!("00-{trace_id}-{span_id}-{flags:02x}"),
            state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_carry_the_trace_context() {
        let begun = TraceContext::begin();
        assert_eq!(read_parent(begun.parent()).as_deref(), Some(begun.parent()));
        let mut headers = HeaderMap::new();
        begun.write_to(&mut headers);
        assert_eq!(TraceContext::from_message(Some(&headers)), Some(begun));
    }

    #[test]
    fn contexts_expose_their_parts() {
        let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = TraceContext::continue_or_begin(Some(given), Some("a=1"));
        assert_eq!(context.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(
            (context.span_id(), context.state()),
            ("00f067aa0ba902b7", Some("a=1"))
        );
        assert!(context.is_sampled());
        let again = TraceContext::of_ids(context.trace_id(), context.span_id(), true, Some("a=1".into()));
        assert_eq!(again, context);
    }

    #[test]
    fn higher_versions_are_read_as_version_00() {
        let ids = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
        for (given, flags) in [
            (format!("01-{ids}-03"), "01"),
            (format!("cc-{ids}-00-what-else"), "00"),
        ] {
            let context = TraceContext::read(Some(&given), None).unwrap();
            assert_eq!(context.parent(), format!("00-{ids}-{flags}"));
        }
        for bad in [
            format!("ff-{ids}-01"),
            format!("00-{ids}-01-x"),
            format!("1-{ids}-01"),
            format!("01-{ids}-01x"),
        ] {
            assert_eq!(TraceContext::read(Some(&bad), None), None, "{bad}");
        }
    }

    #[test]
    fn invalid_trace_contexts_start_a_new_trace() {
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
