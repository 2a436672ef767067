//! The routes of batches.

use precis_schemas::ErrorCode::*;
use precis_schemas::batch_view::BatchView;
use schemars::{Schema, SchemaGenerator, json_schema};

use super::operation::{Operation, of, text};
use super::paths::{Entry, QUEUE, batch_id, idempotency_key, name};

fn lane(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"enum": ["high", "normal", "bulk"]})
}

fn seconds(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "minimum": 1})
}

fn url(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "uri"})
}

fn format(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"enum": ["jsonl", "csv"]})
}

fn params(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "contentMediaType": "application/json",
        "examples": ["{\"num_beams\": 4}"],
    })
}

/// A JSON list of rows.
fn list(_: &mut SchemaGenerator) -> Schema {
    let row = json_schema!({
        "type": "object",
        "properties": {
            "article": {"type": "string"},
            "summ": {"type": ["string", "null"]},
            "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
        },
        "required": ["article"],
    });
    json_schema!({"type": "array", "minItems": 1, "items": {"anyOf": [{"type": "string"}, row]}})
}

/// A form with a file.
fn form(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "properties": {"file": {"type": "string", "contentMediaType": "text/csv"}},
        "required": ["file"],
    })
}

/// All of them.
pub(super) fn all() -> Vec<Entry> {
    vec![
        (
            "/v1/batches",
            "post",
            Operation::new("Batches", "submitBatch", "Submit a file of texts")
                .describe(
                    "A row is a job. Rows that can't be one are counted as `refused`, and have a line in the results. The body is \
                     read as it comes. See docs/guide/batches.md.",
                )
                .query("model", "Name of a served model", name)
                .query("priority", "Priority of the rows; `bulk` without one", lane)
                .query("ttl_seconds", "Deadline of the rows, in seconds from now", seconds)
                .query("params", "Generation parameters of the rows, as a JSON object", params)
                .query("callback_url", "Post the batch's end to this address, signed", url)
                .header(
                    "Idempotency-Key",
                    "The same key, query and upload mean the same batch for 24 hours",
                    idempotency_key,
                )
                .body_as("text/csv", text)
                .body_as("application/x-ndjson", text)
                .body_as("application/json", list)
                .body_as("multipart/form-data", form)
                .answers::<BatchView>(202, "Every row is queued or refused")
                .with(202, "location")
                .with(202, "retry-after")
                .with(202, "idempotent-replayed")
                .refuses(&[InvalidParameter, UnknownModel, CallbackRefused, NeedsQueue])
                .refuses(&[IdempotencyKeyReused, IdempotencyKeyInUse, BatchNotFound])
                .refuses(&QUEUE),
        ),
        (
            "/v1/batches/{id}",
            "get",
            Operation::new("Batches", "showBatch", "How far a batch has come")
                .path("id", "The batch's id, as its submission gave it", batch_id)
                .answers::<BatchView>(200, "Its rows by their state")
                .with(200, "cache-control")
                .refuses(&[InvalidRequest, BatchNotFound, QueueUnavailable, NeedsQueue]),
        ),
        (
            "/v1/batches/{id}/results",
            "get",
            Operation::new("Batches", "batchResults", "The results of a batch, in the order of its rows")
                .describe("A line for every row, each as it is at the moment.")
                .path("id", "The batch's id, as its submission gave it", batch_id)
                .query("format", "`jsonl` or `csv`; else what `Accept` names", format)
                .answers_as(200, "A `BatchLine` a line", "application/x-ndjson", of_line)
                .answers_as(200, "A header, and a record for each row", "text/csv", text)
                .with(200, "cache-control")
                .refuses(&[InvalidParameter, BatchNotFound, QueueUnavailable, NeedsQueue]),
        ),
    ]
}

/// Lines that are objects by themselves. The schema of one stands in the document.
fn of_line(generator: &mut SchemaGenerator) -> Schema {
    of::<precis_schemas::batch_view::BatchLine>(generator);
    text(generator)
}
