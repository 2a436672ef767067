//! A prediction as spans with the attributes of OpenInference, which Arize and Phoenix read.
//!
//! Each job is one trace, with ids derived from the job's id. The model's work is an `LLM` span; the embeddings are an
//! `EMBEDDING` span below it. <https://github.com/Arize-ai/openinference/blob/main/spec/semantic_conventions.md>

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{Span, Status, span::SpanKind, status::StatusCode};
use precis_schemas::JobId;
use precis_schemas::embedding::EmbeddingVector;
use precis_schemas::time::millis_between;
use serde_json::json;

use super::export::{double, id_of, int, list, nanos, text};
use crate::sinks::forward::item::{Item, ItemScores};
use crate::sinks::forward::limits;

/// Returns the id of a job's trace.
pub(crate) fn trace_of(job: &JobId) -> Vec<u8> {
    id_of::<16>("trace", job)
}

/// Returns the id of the span for the model's work on a job.
pub(crate) fn llm_span_of(job: &JobId) -> Vec<u8> {
    id_of::<8>("llm", job)
}

/// What spans contain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpanOptions {
    /// Whether to send texts.
    pub(crate) texts: bool,
    /// Whether to send scores as attributes, for a target without annotations.
    pub(crate) scores: bool,
}

/// Returns the spans of a prediction: the model's work, and the embeddings if there are any.
pub(crate) fn spans(item: &Item, options: SpanOptions) -> Vec<Span> {
    let mut spans = vec![llm(item, options)];
    spans.extend(embedding(item, options));
    spans
}

fn span(item: &Item, name: &str, part: &str) -> Span {
    let id = &item.result.id;
    Span {
        trace_id: trace_of(id),
        span_id: id_of::<8>(part, id),
        name: name.into(),
        kind: SpanKind::Internal.into(),
        // Bit 8 alone says that the parent is known to be in the same process.
        flags: 0x100,
        ..Span::default()
    }
}

fn llm(item: &Item, options: SpanOptions) -> Span {
    let result = &item.result;
    let mut attributes = vec![text("openinference.span.kind", "LLM")];
    if options.texts {
        let input = limits::cut(&result.text, limits::TEXT_CHARS);
        attributes.extend([
            text("input.value", input),
            text("input.mime_type", "text/plain"),
            text("llm.input_messages.0.message.role", "user"),
            text("llm.input_messages.0.message.content", input),
        ]);
        if let Some(summary) = &result.summary {
            let output = limits::cut(summary, limits::TEXT_CHARS);
            attributes.extend([
                text("output.value", output),
                text("output.mime_type", "text/plain"),
                text("llm.output_messages.0.message.role", "assistant"),
                text("llm.output_messages.0.message.content", output),
            ]);
        }
    }
    let sizes = &result.sizes;
    attributes.extend([
        text("llm.model_name", item.model_name()),
        text("llm.system", "custom"),
        // Serializing numbers and flags never fails.
        text(
            "llm.invocation_parameters",
            serde_json::to_string(&result.params).unwrap_or_default(),
        ),
        int("llm.token_count.prompt", sizes.text_tokens),
        int("llm.token_count.completion", sizes.summary_tokens),
        int("llm.token_count.total", sizes.text_tokens + sizes.summary_tokens),
        text("metadata", metadata(item)),
        list("tag.tags", tags(item).map(Value::StringValue)),
    ]);
    // A batch is shown as one session.
    attributes.extend(
        result
            .batch
            .iter()
            .map(|batch| text("session.id", batch.id.to_string())),
    );
    if options.scores {
        attributes.extend(item.scores.iter().flat_map(evaluations));
    }
    Span {
        start_time_unix_nano: nanos(item.began_at()),
        end_time_unix_nano: nanos(result.finished_at.max(item.began_at())),
        attributes,
        status: Some(status(item)),
        ..span(item, "summarize", "llm")
    }
}

fn status(item: &Item) -> Status {
    if item.succeeded() {
        return Status {
            code: StatusCode::Ok.into(),
            message: String::new(),
        };
    }
    let message = item.result.error.as_ref().map_or_else(String::new, |error| {
        format!(
            "{}: {}",
            error.code,
            limits::cut(&error.message, limits::TAG_CHARS)
        )
    });
    Status {
        code: StatusCode::Error.into(),
        message,
    }
}

/// Returns all other fields, as the JSON text that OpenInference expects.
fn metadata(item: &Item) -> String {
    let (result, timings) = (&item.result, &item.result.timings);
    let mut metadata = json!({
        "prediction_id": result.id,
        "model_version": item.revision(),
        "model_source": item.device(),
        "latency_ms": millis_between(result.submitted_at, result.finished_at),
        "queue_ms": timings.queue_ms,
        "batch_wait_ms": timings.batch_wait_ms,
        "tokenize_ms": timings.tokenize_ms,
        "encode_ms": timings.encode_ms,
        "decode_ms": timings.decode_ms,
        "batch_size": result.sizes.batch_size,
        "truncated_tokens": result.sizes.truncated_tokens,
        "attempt": result.attempt,
        "tenant": result.tenant,
        "channel": result.channel,
        "lane": result.lane,
    });
    if let Some(worker) = &result.worker {
        metadata["worker"] = json!(worker.id);
    }
    if let Some(trace_id) = &item.trace_id {
        metadata["trace_id"] = json!(trace_id);
    }
    if !result.metadata.is_empty() {
        let notes: &BTreeMap<String, String> = &result.metadata;
        metadata["notes"] = json!(notes);
    }
    metadata.to_string()
}

fn tags(item: &Item) -> impl Iterator<Item = String> {
    let tags = ["production", item.device()];
    tags.map(str::to_owned).into_iter().filter(|tag| !tag.is_empty())
}

fn embedding(item: &Item, options: SpanOptions) -> Option<Span> {
    let result = &item.result;
    let embeddings = result.embeddings.as_ref()?;
    let texts = [
        (&embeddings.document, Some(result.text.as_str())),
        (&embeddings.summary, result.summary.as_deref()),
    ];
    let given = texts
        .into_iter()
        .filter_map(|(vector, text)| accepted_vector(vector.as_ref()).map(|vector| (vector, text)));
    let mut attributes = vec![
        text("openinference.span.kind", "EMBEDDING"),
        text("embedding.model_name", item.model_name()),
    ];
    let mut count = 0;
    for (index, (vector, of)) in given.enumerate() {
        let prefix = format!("embedding.embeddings.{index}.embedding");
        if let Some(of) = of.filter(|_| options.texts) {
            let of = limits::cut(of, limits::TEXT_CHARS);
            attributes.push(text(format!("{prefix}.text"), of));
        }
        let numbers = vector
            .as_slice()
            .iter()
            .map(|number| Value::DoubleValue(f64::from(*number)));
        attributes.push(list(format!("{prefix}.vector"), numbers));
        count += 1;
    }
    if count == 0 {
        return None;
    }
    let (start, end) = encoder_times(item);
    Some(Span {
        parent_span_id: llm_span_of(&result.id),
        start_time_unix_nano: nanos(start),
        end_time_unix_nano: nanos(end),
        attributes,
        status: Some(Status {
            code: StatusCode::Ok.into(),
            message: String::new(),
        }),
        ..span(item, "embed", "embedding")
    })
}

/// Returns the vector if targets accept it.
pub(crate) fn accepted_vector(vector: Option<&EmbeddingVector>) -> Option<&EmbeddingVector> {
    vector.filter(|vector| {
        let numbers = vector.as_slice();
        limits::VECTOR.contains(&numbers.len()) && numbers.iter().all(|number| number.is_finite())
    })
}

/// Returns when the encoder started and ended. The decoder follows it and ends with the job.
fn encoder_times(item: &Item) -> (Timestamp, Timestamp) {
    let (result, timings) = (&item.result, &item.result.timings);
    let back = |from: Timestamp, ms: f64| {
        let earlier = SignedDuration::try_from_secs_f64(ms / 1e3)
            .ok()
            .and_then(|wait| from.checked_sub(wait).ok());
        earlier.unwrap_or(from).max(item.began_at()).min(from)
    };
    let end = back(result.finished_at, timings.decode_ms);
    (back(end, timings.encode_ms), end)
}

/// Returns scores as attributes, under Arize's names for evaluation columns.
fn evaluations(scores: &ItemScores) -> Vec<KeyValue> {
    let named = scores.named().into_iter();
    named
        .map(|(name, score)| double(format!("eval.{name}.score"), score))
        .collect()
}

/// Returns a span with late scores, below the model's work. A span that was sent can't be changed.
pub(crate) fn late_scores(item: &Item, scores: &ItemScores, options: SpanOptions, now: Timestamp) -> Span {
    let values: serde_json::Map<String, serde_json::Value> = scores
        .named()
        .into_iter()
        .map(|(name, score)| (name.to_owned(), json!(score)))
        .collect();
    let mut attributes = vec![
        text("openinference.span.kind", "EVALUATOR"),
        text("output.value", serde_json::Value::Object(values).to_string()),
        text("output.mime_type", "application/json"),
    ];
    if let Some(reference) = item.result.reference.as_ref().filter(|_| options.texts) {
        attributes.push(text("input.value", limits::cut(reference, limits::TEXT_CHARS)));
        attributes.push(text("input.mime_type", "text/plain"));
    }
    attributes.extend(evaluations(scores));
    // The id depends on the reference: another reference makes another span.
    let part = format!("scores {}", item.result.reference.as_deref().unwrap_or_default());
    Span {
        parent_span_id: llm_span_of(&item.result.id),
        start_time_unix_nano: nanos(now),
        end_time_unix_nano: nanos(now),
        attributes,
        status: Some(Status {
            code: StatusCode::Ok.into(),
            message: String::new(),
        }),
        ..span(item, "score", &part)
    }
}
