//! The routes of batches, with their documentation.

use axum::extract::DefaultBodyLimit;
use precis_schemas::ErrorCode::*;
use precis_schemas::batch_view::{BatchLine, BatchView};
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::batches::routes;
use crate::gateway::state::AppState;
use crate::openapi::schema::{batch_id, idempotency_key, name, of, text};
use crate::openapi::{Operation, QUEUE_ERRORS, Route, Tag};

const BATCH_ID: &str = "Id of the batch, as returned by its submission";

/// Returns all of them.
pub(crate) fn all() -> Vec<Route<AppState>> {
    vec![
        Route::new("/v1/batches")
            .post(routes::submit, submit())
            // `upload.rs` limits the body while it reads.
            .map(|handlers| handlers.layer(DefaultBodyLimit::disable())),
        Route::new("/v1/batches/{id}")
            .get(
                routes::show,
                Operation::new(Tag::Batches, "showBatch", "Get the progress of a batch")
                    .path("id", BATCH_ID, batch_id)
                    .returns::<BatchView>(200, "The number of rows in each state")
                    .with_headers(200, &["cache-control"])
                    .errors(&[InvalidRequest, BatchNotFound, QueueUnavailable, NeedsQueue]),
            )
            .delete(
                routes::cancel,
                Operation::new(Tag::Batches, "cancelBatch", "Cancel the rest of a batch")
                    .describe(
                        "Cancels the rows that have not ended; rows that have ended keep their results. Idempotent. While \
                         the upload runs, only the rows that were recorded so far are cancelled.",
                    )
                    .path("id", BATCH_ID, batch_id)
                    .returns::<BatchView>(200, "The batch after the cancellation")
                    .errors(&[InvalidRequest, BatchNotFound, QueueUnavailable, NeedsQueue]),
            ),
        Route::new("/v1/batches/{id}/results").get(
            routes::results,
            Operation::new(Tag::Batches, "batchResults", "Download the results of a batch")
                .describe("One line for each row, in the order of the upload, with the row's current state.")
                .path("id", BATCH_ID, batch_id)
                .query(
                    "format",
                    "`jsonl` or `csv`; the default comes from `Accept`",
                    format,
                )
                .returns_as(200, "One `BatchLine` per line", "application/x-ndjson", lines)
                .returns_as(200, "A header and one record for each row", "text/csv", text)
                .with_headers(200, &["cache-control"])
                .errors(&[InvalidParameter, BatchNotFound, QueueUnavailable, NeedsQueue]),
        ),
    ]
}

fn submit() -> Operation {
    Operation::new(Tag::Batches, "submitBatch", "Submit a file of texts")
        .describe(
            "Each row becomes a job. Invalid rows count as `refused` and have a line in the results. The body may be \
             streamed. See docs/guide/batches.md.",
        )
        .query("model", "Name of a served model", name)
        .query("priority", "Priority of the rows; default `bulk`", lane)
        .query("ttl_seconds", "Deadline of the rows, in seconds from now; at most as long as results are kept (`queue.result_ttl_hours`)", seconds)
        .query("params", "Generation parameters of the rows, as a JSON object", params)
        .query("callback_url", "URL of a signed webhook that is sent when the batch ends", url)
        .query(
            "id_column",
            "Column (CSV) or metadata key (JSON) that identifies a row; the results repeat it as `row_id`",
            text,
        )
        .query(
            "columns",
            "Comma-separated columns of a CSV file that the results repeat; default: all except the texts",
            text,
        )
        .header(
            "Idempotency-Key",
            "The same key, query and upload return the same batch for 24 hours",
            idempotency_key,
        )
        .body_as("text/csv", text)
        .body_as("application/x-ndjson", text)
        .body_as("application/json", rows)
        .body_as("multipart/form-data", form)
        .returns::<BatchView>(202, "Every row is queued or refused")
        .with_headers(202, &["location", "retry-after", "idempotent-replayed"])
        .errors(&[InvalidParameter, UnknownModel, CallbackRefused, NeedsQueue])
        .errors(&[IdempotencyKeyReused, IdempotencyKeyInUse, BatchNotFound])
        .errors(&QUEUE_ERRORS)
}

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

/// Rows as a JSON array.
fn rows(_: &mut SchemaGenerator) -> Schema {
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

/// JSON Lines. OpenAPI describes them as text; the schema of one line is registered beside them.
fn lines(generator: &mut SchemaGenerator) -> Schema {
    of::<BatchLine>(generator);
    text(generator)
}
