//! The spans of a job in this worker. They are made when the job is done, from the times that its result has anyway.

use jiff::{SignedDuration, Timestamp};
use precis_runtime::spans::{self, Begin, Span, SpanKind};
use precis_runtime::trace_context::TraceContext;
use precis_schemas::topology::{JOBS, RESULTS};
use precis_schemas::{JobResult, Outcome};

use crate::stages::decode::Delivery;
use crate::stages::fetch::Fetched;

/// The span of what was pulled together, linked with every job in it; none while no traces are exported.
pub fn pulled(fetched: &[Fetched]) -> Option<TraceContext> {
    if !spans::is_on() || fetched.is_empty() {
        return None;
    }
    let mut span = Span::begin(Begin {
        name: "receive jobs".into(),
        kind: SpanKind::Consumer,
        parent: None,
        at: fetched.iter().map(|one| one.received_at).min(),
    });
    span.set("messaging.system", "nats");
    span.set("messaging.operation.type", "receive");
    span.set("messaging.destination.name", JOBS);
    span.set("messaging.batch.message_count", fetched.len() as i64);
    for one in fetched {
        if let Some(trace) = TraceContext::from_message(one.message.headers.as_ref()) {
            span.link(&trace);
        }
    }
    Some(span.context().clone())
}

/// A job's time in this worker, from its receipt to its acknowledgement.
#[derive(Debug)]
pub struct JobSpan {
    span: Option<Span>,
    /// The context that the job came with, for when no spans are made.
    given: Option<TraceContext>,
}

impl JobSpan {
    /// Begins at the job's receipt, below the span that published it.
    pub fn begin(delivery: &Delivery) -> Self {
        let given = delivery.trace.clone();
        let span = spans::is_on().then(|| {
            let mut span = Span::begin(Begin {
                name: "process jobs".into(),
                kind: SpanKind::Consumer,
                parent: given.as_ref(),
                at: Some(delivery.received_at),
            });
            span.set("messaging.system", "nats");
            span.set("messaging.operation.type", "process");
            span.set("messaging.destination.name", JOBS);
            span.set("precis.job.sequence", delivery.sequence as i64);
            span.set("precis.job.attempt", delivery.attempt as i64);
            if let Some(pull) = &delivery.pull {
                span.link(pull);
            }
            span
        });
        Self { span, given }
    }

    /// Adds what the result says: the stages that it went through, and how it ended.
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
        for (name, begun, ended) in stages(result) {
            Span::begin(Begin::at(name, SpanKind::Internal, span.context(), begun)).end_at(ended);
        }
    }

    /// Says that the job was not finished here.
    pub fn handed_back(mut self, why: &str) {
        if let Some(span) = &mut self.span {
            span.set("precis.outcome", "handed_back");
            span.fail(why);
        }
    }

    /// The span of the result's publish, whose context goes along with it.
    pub fn publishing(&self) -> Option<Span> {
        let span = self.span.as_ref()?;
        let mut publish = Span::begin(Begin::now("publish results", SpanKind::Producer, span.context()));
        publish.set("messaging.system", "nats");
        publish.set("messaging.operation.type", "send");
        publish.set("messaging.destination.name", RESULTS);
        Some(publish)
    }

    /// The context that goes along with a result, `publish` being the span of that.
    pub fn handed_on<'a>(&'a self, publish: Option<&'a Span>) -> Option<&'a TraceContext> {
        publish.map(Span::context).or(self.given.as_ref())
    }
}

/// The stages of a job in their order, as far as it came: name, beginning, end.
fn stages(result: &JobResult) -> Vec<(&'static str, Timestamp, Timestamp)> {
    let Some(received) = result.started_at else {
        return vec![];
    };
    let timings = &result.timings;
    let mut at = received;
    let mut stages = vec![];
    for (name, ms) in [
        ("wait", timings.batch_wait_ms),
        ("encode", timings.encode_ms),
        ("decode", timings.decode_ms),
    ] {
        let end = SignedDuration::try_from_secs_f64(ms / 1e3)
            .ok()
            .and_then(|time| at.checked_add(time).ok())
            .unwrap_or(at)
            .min(result.finished_at.max(at));
        if ms > 0.0 {
            stages.push((name, at, end));
        }
        at = end;
    }
    stages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_follow_each_other_and_end_with_the_job() {
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
    fn a_job_that_the_model_has_not_seen_has_no_stages() {
        let json = include_str!("../../schemas/wire/v1/result.failed.json");
        let result: JobResult = serde_json::from_str(json).unwrap();
        assert_eq!(stages(&result), []);
    }
}
