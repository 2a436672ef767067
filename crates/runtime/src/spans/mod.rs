//! OpenTelemetry spans of Precis itself, exported over OTLP if `telemetry.otlp_endpoint` is set.
//!
//! One trace follows a job from its request to its row. `traceparent` travels in message headers, and each role adds
//! child spans. Work on many jobs at once (a pull, an insert) has its own span, which *links* to those of the jobs.
//!
//! Most spans are created afterwards, from measured times. Without an endpoint no spans are created: a [`Span`] then
//! only holds its parent's context.

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

/// Maximum number of links per span. An insert has one for each traced row.
const MAX_LINKS: u32 = 1_000;
/// Time limit for exporting the last spans on shutdown.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

static TRACES: OnceLock<Traces> = OnceLock::new();

/// Starts exporting the spans of `role`, such as `precis-api`, if an endpoint is configured. Call it within the
/// asynchronous runtime. Only the first call has an effect.
///
/// # Errors
/// If the endpoint is not a URL.
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
    tracing::info!(endpoint = %endpoint, "exporting traces");
    Ok(())
}

/// Exports the remaining spans. Call it after the role has ended, outside of the asynchronous runtime.
pub(crate) fn shutdown() {
    if let Some(traces) = TRACES.get()
        && let Err(error) = traces.provider.shutdown_with_timeout(FLUSH_TIMEOUT)
    {
        tracing::warn!(%error, "exporting the last spans failed");
    }
}

/// Reports whether spans are created.
pub fn enabled() -> bool {
    TRACES.get().is_some()
}

/// A started span. Without an endpoint it only holds its parent's context.
#[derive(Debug)]
pub struct Span {
    inner: Option<opentelemetry_sdk::trace::Span>,
    context: TraceContext,
}

/// Name, kind, parent and start of a span.
#[derive(Debug)]
pub struct SpanStart<'a> {
    /// Name of the operation, such as `process jobs`. Names have low cardinality; details are attributes.
    pub name: Cow<'static, str>,
    /// Kind of the span.
    pub kind: SpanKind,
    /// Parent span; `None` starts a trace.
    pub parent: Option<&'a TraceContext>,
    /// Start time; `None`: now.
    pub at: Option<Timestamp>,
}

impl<'a> SpanStart<'a> {
    /// Starts now, as a child of `parent`.
    pub fn now(name: &'static str, kind: SpanKind, parent: &'a TraceContext) -> Self {
        Self {
            name: name.into(),
            kind,
            parent: Some(parent),
            at: None,
        }
    }

    /// Started at `at`, as a child of `parent`.
    pub fn at(name: &'static str, kind: SpanKind, parent: &'a TraceContext, at: Timestamp) -> Self {
        Self {
            at: Some(at),
            ..Self::now(name, kind, parent)
        }
    }
}

impl Span {
    /// Starts a span.
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

    /// Returns the context that child spans need.
    pub fn context(&self) -> &TraceContext {
        &self.context
    }

    /// Sets an attribute.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(inner) = &mut self.inner {
            inner.set_attribute(KeyValue::new(key, value));
        }
    }

    /// Links to another span, in this trace or another.
    pub fn link(&mut self, other: &TraceContext) {
        if let (Some(inner), Some(other)) = (&mut self.inner, span_context(other)) {
            inner.add_link(other, vec![]);
        }
    }

    /// Marks the span as failed.
    pub fn fail(&mut self, why: &str) {
        if let Some(inner) = &mut self.inner {
            inner.set_status(Status::error(why.to_owned()));
        }
    }

    /// Ends the span now, as dropping it does.
    pub fn end(self) {}

    /// Ends the span at an earlier time.
    pub fn end_at(mut self, at: Timestamp) {
        if let Some(inner) = &mut self.inner {
            inner.end_with_timestamp(system_time(at));
        }
    }
}

/// Converts a time. Times before 1970 come from a clock that is not set, and become 1970.
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
    fn without_an_endpoint_spans_hold_their_parents_context() {
        let parent = TraceContext::begin();
        let mut span = Span::begin(SpanStart::now("work", SpanKind::Internal, &parent));
        span.set("key", 3);
        span.link(&TraceContext::begin());
        assert_eq!(span.context(), &parent);
    }

    #[test]
    fn contexts_round_trip_through_span_contexts() {
        let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        let context = TraceContext::continue_or_begin(Some(given), Some("vendor=1"));
        let there = span_context(&context).unwrap();
        assert!(!there.is_sampled());
        assert_eq!(trace_context(&there), context);
    }
}
