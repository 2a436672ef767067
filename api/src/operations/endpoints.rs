//! The routes of operations, with their documentation.

use precis_schemas::ErrorCode::*;
use precis_schemas::rest_operations::{
    DeadLetterList, DeadLetterView, QueueView, Replayed, SampleHistory, StatusView,
};
use schemars::{Schema, SchemaGenerator, json_schema};

use super::{dead_letters, queue, replay, sample_history, status};
use crate::gateway::state::AppState;
use crate::openapi::schema::text;
use crate::openapi::{Operation, QUEUE_ERRORS, Route, Tag};

const SEQUENCE: &str = "Sequence of the dead letter, as in the list";

/// Returns all of them.
pub(crate) fn all() -> Vec<Route<AppState>> {
    vec![
        Route::new("/v1/queue").get(
            queue::show,
            Operation::new(Tag::Operations, "showQueue", "Get the depth of every lane and the live workers")
                .returns::<QueueView>(200, "Lanes and workers")
                .with_headers(200, &["cache-control"])
                .errors(&[QueueUnavailable]),
        ),
        Route::new("/v1/status").get(
            status::show,
            Operation::new(Tag::Operations, "showStatus", "Get the state of NATS, ClickHouse, Arize and Phoenix")
                .describe(
                    "The gateway asks NATS and ClickHouse, and the monitor for what it stores and forwards. Answers also \
                     while parts are down.",
                )
                .returns::<StatusView>(200, "The parts, the webhooks that wait, and the sinks of the monitor")
                .with_headers(200, &["cache-control"]),
        ),
        Route::new("/v1/configuration").get(
            status::configuration,
            Operation::new(Tag::Operations, "showConfiguration", "Get the gateway's configuration, secrets redacted")
                .describe("As `precis dump-config` prints it. With API keys, only for operators.")
                .returns_as(200, "The configuration", "application/toml", text)
                .with_headers(200, &["cache-control"]),
        ),
        Route::new("/v1/sample-history")
            .get(
                sample_history::show,
                samples("showSampleHistory", "Get what is stored of the sample history"),
            )
            .post(
                sample_history::load,
                samples("loadSampleHistory", "Load 30 days of sample predictions")
                    .describe(
                        "Sets up the database and stores about 2,000 invented predictions of the tenant `sample-history`, \
                         over all channels, to see every chart. Charts are complete within a minute. Idempotent.",
                    ),
            )
            .delete(
                sample_history::remove,
                samples("removeSampleHistory", "Remove the sample history with its figures")
                    .describe("Idempotent. Other predictions stay."),
            ),
        Route::new("/v1/dead-letters").get(
            dead_letters::list,
            Operation::new(Tag::Operations, "listDeadLetters", "List dead letters, the latest first")
                .describe("A tenant's key sees the dead letters of its own jobs and webhooks.")
                .query("before", "`next` of the previous page", sequence)
                .query("limit", "Maximum number of dead letters, 1 to 500; default 50", sequence)
                .query("kind", "Kind to select, such as `summarize` or `webhook`", text)
                .query("code", "Error code of the reason to select", text)
                .query("q", "Phrase in the body, the reason or the subject, in any case", text)
                .returns::<DeadLetterList>(200, "A page of dead letters")
                .with_headers(200, &["cache-control"])
                .errors(&[InvalidParameter, QueueUnavailable, NeedsQueue]),
        ),
        Route::new("/v1/dead-letters/{sequence}")
            .get(
                dead_letters::show,
                Operation::new(Tag::Operations, "showDeadLetter", "Get a dead letter with its whole body")
                    .path("sequence", SEQUENCE, sequence)
                    .returns::<DeadLetterView>(200, "The dead letter")
                    .with_headers(200, &["cache-control"])
                    .errors(&[InvalidRequest, DeadLetterNotFound, QueueUnavailable, NeedsQueue]),
            )
            .delete(
                dead_letters::delete,
                Operation::new(Tag::Operations, "deleteDeadLetter", "Delete a dead letter")
                    .describe("Idempotent.")
                    .path("sequence", SEQUENCE, sequence)
                    .returns_empty(204, "Deleted")
                    .errors(&[InvalidRequest, QueueUnavailable, NeedsQueue]),
            ),
        Route::new("/v1/dead-letters/{sequence}/replay").post(
            replay::replay,
            Operation::new(Tag::Operations, "replayDeadLetter", "Replay a dead letter")
                .describe(
                    "A job runs again as a new job with a new deadline. Its metadata holds the first id as `replay_of`, \
                     unless it has no room. A webhook is sent again. The dead letter is then deleted.",
                )
                .path("sequence", SEQUENCE, sequence)
                .returns::<Replayed>(202, "It is in the queue again")
                .errors(&[InvalidRequest, InvalidParameter, DeadLetterNotFound, NotReplayable, Forbidden, NeedsQueue])
                .errors(&QUEUE_ERRORS),
        ),
    ]
}

/// An operation on the sample history.
fn samples(id: &'static str, summary: &'static str) -> Operation {
    Operation::new(Tag::Operations, id, summary)
        .returns::<SampleHistory>(200, "What is stored then")
        .with_headers(200, &["cache-control"])
        .errors(&[AnalyticsUnavailable, QueueUnavailable, NeedsQueue])
}

fn sequence(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "minimum": 1})
}
