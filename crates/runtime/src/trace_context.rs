//! W3C trace context: read from a request or message, or begun here, and handed on.

use async_nats::HeaderMap;
use precis_schemas::headers;

/// The `traceparent` of what is being done, and the vendor's `tracestate` if there was one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    parent: String,
    state: Option<String>,
}

/// Longest header field that is read.
const MOST_BYTES: usize = 512;

/// A `traceparent` as version 00 writes it: `00-<32 hex>-<16 hex>-<2 hex>` with ids that are not all zero. Of a higher
/// version the beginning is read, which is the same, and what follows is left out (W3C Trace Context, 4.3).
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
        higher => hex(higher, 2) && text.len() <= MOST_BYTES,
    };
    let is_one = is_known && hex(trace, 32) && hex(span, 16) && hex(flags, 2) && real(trace) && real(span);
    // Of the flags only those of version 00 are known.
    let sampled = u8::from_str_radix(flags, 16).unwrap_or_default() & 1;
    match version {
        "00" => is_one.then(|| text.to_owned()),
        _ => is_one.then(|| format!("00-{trace}-{span}-{sampled:02x}")),
    }
}

impl TraceContext {
    /// The trace that a request brings, if it brings one.
    pub fn read(parent: Option<&str>, state: Option<&str>) -> Option<Self> {
        Some(Self {
            parent: read_parent(parent?)?,
            state: state.filter(|text| text.len() <= MOST_BYTES).map(str::to_owned),
        })
    }

    /// Goes on with the trace of a request if it brings one, else begins one.
    pub fn continue_or_begin(parent: Option<&str>, state: Option<&str>) -> Self {
        Self::read(parent, state).unwrap_or_else(Self::begin)
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

    /// The `traceparent`.
    pub fn parent(&self) -> &str {
        &self.parent
    }

    /// The trace's id, 32 hexadecimal digits, for log lines.
    pub fn trace_id(&self) -> &str {
        self.parent.get(3..35).unwrap_or_default()
    }

    /// The id of the span that this is the context of, 16 hexadecimal digits.
    pub fn span_id(&self) -> &str {
        self.parent.get(36..52).unwrap_or_default()
    }

    /// Whether the trace is recorded.
    pub fn is_sampled(&self) -> bool {
        let flags = self.parent.get(53..).unwrap_or_default();
        u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1)
    }

    /// The vendor's part.
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// The context of a span.
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
    fn a_trace_goes_on_through_a_message() {
        let begun = TraceContext::begin();
        assert_eq!(read_parent(begun.parent()).as_deref(), Some(begun.parent()));
        let mut headers = HeaderMap::new();
        begun.write_to(&mut headers);
        assert_eq!(TraceContext::from_message(Some(&headers)), Some(begun));
    }

    #[test]
    fn a_context_tells_its_parts() {
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
    fn a_higher_version_goes_on_as_this_one() {
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
