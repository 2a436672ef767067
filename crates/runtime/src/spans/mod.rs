//! Traces of the product itself: OpenTelemetry spans, exported by OTLP over HTTP when `telemetry.otlp_endpoint` is set.
//!
//! One trace follows a job from its request to its row: `traceparent` goes along in the headers of its messages, and each
//! role adds its spans below the one before. Work on many jobs at once (a pull, an insert) is a span of its own that is
//! *linked* with those of the jobs.
//!
//! Most spans are made after the fact, from the times that are measured anyway. While no endpoint is set, nothing is made
//! at all: a [`Span`] is then only the context that it would have been begun in.

mod export;

use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, Status, TraceContextExt as _, TraceFlags, TraceId,
    TraceState, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};

pub use export::ExportError;
pub use opentelemetry::trace::SpanKind;

use crate::config::TelemetryConfig;
use crate::trace_context::TraceContext;

/// Most links of a span: an insert has one for each of its rows that belongs to a trace.
const MAX_LINKS: u32 = 1_000;
/// How long the last spans may take to get away when the process ends.
const LONGEST_FLUSH: Duration = Duration::from_secs(3);

struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

static TRACES: OnceLock<Traces> = OnceLock::new();

/// Begins to export the spans of `role`, such as `precis-api`, if the configuration has an endpoint. Called from within
/// the asynchronous runtime. Later calls change nothing.
///
/// # Errors
/// When the endpoint is no URL.
pub fn start(settings: &TelemetryConfig, role: &'static str) -> Result<(), ExportError> {
    let Some(endpoint) = &settings.otlp_endpoint else {
        return Ok(());
    };
    if TRACES.get().is_some() {
        return Ok(());
    }
    let exporter = export::exporter(endpoint, settings)?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(
            settings.trace_sampling_rate,
        ))))
        .with_max_links_per_span(MAX_LINKS)
        .with_resource(export::resource(role))
        .build();
    let tracer = provider.tracer("precis");
    let _already_started = TRACES.set(Traces { provider, tracer });
    tracing::info!(endpoint = %endpoint, "traces are exported");
    Ok(())
}

/// Exports what is left; called when the role has ended, outside of the asynchronous runtime.
pub(crate) fn shutdown() {
    if let Some(traces) = TRACES.get()
        && let Err(error) = traces.provider.shutdown_with_timeout(LONGEST_FLUSH)
    {
        tracing::warn!(%error, "the last spans could not be exported");
    }
}

/// Whether spans are made.
pub fn enabled() -> bool {
    TRACES.get().is_some()
}

/// A span that has begun. Without an endpoint it is the context of its parent and nothing else.
#[derive(Debug)]
pub struct Span {
    inner: Option<opentelemetry_sdk::trace::Span>,
    context: TraceContext,
}

/// How a span begins.
#[derive(Debug)]
pub struct SpanStart<'a> {
    /// What is done, such as `process jobs`. One of a few: what differs from job to job is an attribute.
    pub name: Cow<'static, str>,
    /// Which side of a conversation it is.
    pub kind: SpanKind,
    /// The span that it is a part of; none: a trace begins here.
    pub parent: Option<&'a TraceContext>,
    /// When it began; none: now.
    pub at: Option<Timestamp>,
}

impl<'a> SpanStart<'a> {
    /// A span that begins now, below `parent`.
    pub fn now(name: &'static str, kind: SpanKind, parent: &'a TraceContext) -> Self {
        Self {
            name: name.into(),
            kind,
            parent: Some(parent),
            at: None,
        }
    }

    /// A span that began at `at`, below `parent`.
    pub fn at(name: &'static str, kind: SpanKind, parent: &'a TraceContext, at: Timestamp) -> Self {
        Self {
            at: Some(at),
            ..Self::now(name, kind, parent)
        }
    }
}

impl Span {
    /// Begins a span.
    pub fn begin(begin: SpanStart<'_>) -> Self {
        let Some(traces) = TRACES.get() else {
            return Self {
                inner: None,
                context: begin.parent.cloned().unwrap_or_else(TraceContext::begin),
            };
        };
        let mut builder = SpanBuilder::from_name(begin.name).with_kind(begin.kind);
        builder.start_time = begin.at.map(system_time);
        let above = match begin.parent.and_then(span_context) {
            Some(parent) => Context::new().with_remote_span_context(parent),
            None => Context::new(),
        };
        let inner = traces.tracer.build_with_context(builder, &above);
        let context = trace_context(inner.span_context());
        Self {
            inner: Some(inner),
            context,
        }
    }

    /// What is handed on, so that others can add spans below this one.
    pub fn context(&self) -> &TraceContext {
        &self.context
    }

    /// Adds an attribute.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(inner) = &mut self.inner {
            inner.set_attribute(KeyValue::new(key, value));
        }
    }

    /// Says that this has to do with another span, of this trace or of another.
    pub fn link(&mut self, other: &TraceContext) {
        if let (Some(inner), Some(other)) = (&mut self.inner, span_context(other)) {
            inner.add_link(other, vec![]);
        }
    }

    /// Says that what was done has failed.
    pub fn fail(&mut self, why: &str) {
        if let Some(inner) = &mut self.inner {
            inner.set_status(Status::error(why.to_owned()));
        }
    }

    /// Ends the span now; dropping it does the same.
    pub fn end(self) {}

    /// Ends the span at a moment that has passed.
    pub fn end_at(mut self, at: Timestamp) {
        if let Some(inner) = &mut self.inner {
            inner.end_with_timestamp(system_time(at));
        }
    }
}

/// Spans are about the present, so that what lies before 1970 is only a clock that is not set.
fn system_time(at: Timestamp) -> SystemTime {
    let nanos = u64::try_from(at.as_nanosecond()).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos)
}

fn span_context(context: &TraceContext) -> Option<SpanContext> {
    let trace_id = TraceId::from_hex(context.trace_id()).ok()?;
    let span_id = SpanId::from_hex(context.span_id()).ok()?;
    let flags = if context.is_sampled() {
        TraceFlags::SAMPLED
    } else {
        TraceFlags::NOT_SAMPLED
    };
    let state = context.state().and_then(|state| state.parse::<TraceState>().ok());
    Some(SpanContext::new(
        trace_id,
        span_id,
        flags,
        true,
        state.unwrap_or_default(),
    ))
}

fn trace_context(span: &SpanContext) -> TraceContext {
    let state = span.trace_state().header();
    TraceContext::of_ids(
        &span.trace_id().to_string(),
        &span.span_id().to_string(),
        span.is_sampled(),
        (!state.is_empty()).then_some(state),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_endpoint_a_span_is_its_parents_context() {
        let parent = TraceContext::begin();
        let mut span = Span::begin(SpanStart::now("work", SpanKind::Internal, &parent));
        span.set("key", 3);
        span.link(&TraceContext::begin());
        assert_eq!(span.context(), &parent);
    }

    #[test]
    fn a_context_survives_the_way_through_a_span_context() {
        let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        let context = TraceContext::continue_or_begin(Some(given), Some("vendor=1"));
        let there = span_context(&context).unwrap();
        assert!(!there.is_sampled());
        assert_eq!(trace_context(&there), context);
    }
}
