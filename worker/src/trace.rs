//! The spans of a job in this worker. They are created when the job ends, from the times in its result.

use jiff::{SignedDuration, Timestamp};
use precis_runtime::spans::{self, Span, SpanKind, SpanStart};
use precis_runtime::trace_context::TraceContext;
use precis_schemas::topology::{JOBS, RESULTS};
use precis_schemas::{JobResult, Outcome};

use crate::delivery::{Delivery, Fetched};

/// Creates a span for jobs that were fetched together, and links each of them with it. Does nothing while no traces are
/// exported.
pub fn link_fetch(fetched: &mut [Fetched]) {
    if !spans::enabled() || fetched.is_empty() {
        return;
    }
    let mut span = Span::begin(SpanStart {
        name: "receive jobs".into(),
        kind: SpanKind::Consumer,
        parent: None,
        at: fetched.iter().map(|job| job.delivery.received_at).min(),
    });
    span.set("messaging.system", "nats");
    span.set("messaging.operation.type", "receive");
    span.set("messaging.destination.name", JOBS);
    span.set("messaging.batch.message_count", fetched.len() as i64);
    for job in fetched {
        if let Some(trace) = &job.delivery.trace {
            span.link(trace);
        }
        job.delivery.fetch_span = Some(span.context().clone());
    }
}

/// The span of a job in this worker, from its receipt to its settlement.
#[derive(Debug)]
pub struct JobSpan {
    span: Option<Span>,
    /// The context that the job came with, passed on while no traces are exported.
    parent: Option<TraceContext>,
}

impl JobSpan {
    /// Starts the span at the job's receipt, as a child of the span that published the job.
    pub fn start(delivery: &Delivery) -> Self {
        let parent = delivery.trace.clone();
        let span = spans::enabled().then(|| {
            let mut span = Span::begin(SpanStart {
                name: "process jobs".into(),
                kind: SpanKind::Consumer,
                parent: parent.as_ref(),
                at: Some(delivery.received_at),
            });
            span.set("messaging.system", "nats");
            span.set("messaging.operation.type", "process");
            span.set("messaging.destination.name", JOBS);
            span.set("precis.job.sequence", delivery.sequence as i64);
            span.set("precis.job.attempt", delivery.attempt as i64);
            if let Some(fetch) = &delivery.fetch_span {
                span.link(fetch);
            }
            span
        });
        Self { span, parent }
    }

    /// Adds the outcome, the sizes and a child span for each stage.
    pub fn describe(&mut self, result: &JobResult) {
        let Some(span) = &mut self.span else {
            return;
        };
        span.set("messaging.message.id", result.id.to_string());
        span.set("precis.outcome", result.outcome.as_str());
        span.set("precis.batch.size", result.sizes.batch_size as i64);
        span.set("precis.text.tokens", result.sizes.text_tokens as i64);
        span.set("precis.summary.tokens", result.sizes.summary_tokens as i64);
        if let Some(error) = &result.error {
            span.set("error.type", error.code.as_str());
            if result.outcome == Outcome::Failed {
                span.fail(&error.message);
            }
        }
        for (name, start, end) in stages(result) {
            Span::begin(SpanStart::at(name, SpanKind::Internal, span.context(), start)).end_at(end);
        }
    }

    /// Ends the span of a job that is delivered again.
    pub fn handed_back(mut self, reason: &str) {
        if let Some(span) = &mut self.span {
            span.set("precis.outcome", "handed_back");
            span.fail(reason);
        }
    }

    /// Starts the span of publishing the result.
    pub fn start_publish(&self) -> Option<Span> {
        let span = self.span.as_ref()?;
        let mut publish = Span::begin(SpanStart::now(
            "publish results",
            SpanKind::Producer,
            span.context(),
        ));
        publish.set("messaging.system", "nats");
        publish.set("messaging.operation.type", "send");
        publish.set("messaging.destination.name", RESULTS);
        Some(publish)
    }

    /// Returns the trace context that the result carries.
    pub fn context_for<'a>(&'a self, publish: Option<&'a Span>) -> Option<&'a TraceContext> {
        publish.map(Span::context).or(self.parent.as_ref())
    }
}

/// Returns name, start and end of each stage that took time, in order.
fn stages(result: &JobResult) -> Vec<(&'static str, Timestamp, Timestamp)> {
    let Some(received_at) = result.started_at else {
        return vec![];
    };
    let timings = &result.timings;
    let mut start = received_at;
    let mut stages = vec![];
    for (name, ms) in [
        ("wait", timings.batch_wait_ms + timings.tokenize_ms),
        ("encode", timings.encode_ms),
        ("decode", timings.decode_ms),
    ] {
        let end = SignedDuration::try_from_secs_f64(ms / 1e3)
            .ok()
            .and_then(|time| start.checked_add(time).ok())
            .unwrap_or(start)
            .min(result.finished_at.max(start));
        if ms > 0.0 {
            stages.push((name, start, end));
        }
        start = end;
    }
    stages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_contiguous_and_end_with_the_job() {
        let json = include_str!("../../schemas/wire/v1/result.succeeded.json");
        let result: JobResult = serde_json::from_str(json).unwrap();
        let stages = stages(&result);
        let names: Vec<&str> = stages.iter().map(|(name, ..)| *name).collect();
        assert_eq!(names, ["wait", "encode", "decode"]);
        assert_eq!(Some(stages[0].1), result.started_at);
        assert!(stages.windows(2).all(|pair| pair[0].2 == pair[1].1));
        assert!(stages[2].2 <= result.finished_at);
    }

    #[test]
    fn a_job_that_never_reached_the_model_has_no_stages() {
        let json = include_str!("../../schemas/wire/v1/result.failed.json");
        let result: JobResult = serde_json::from_str(json).unwrap();
        assert_eq!(stages(&result), []);
    }
}
