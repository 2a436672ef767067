//! The HTTP interface: `/`, `/ping` and `/replicas_status`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{Method, StatusCode, header};

use crate::auth::{Account, check_local};
use crate::body::BodyLimits;
use crate::engine::{Engine, Setup};
use crate::errors::{EngineError, code};
use crate::request::RequestHead;
use crate::respond::Stamp;
use crate::select::{self, Answer};
use crate::{insert, multipart, sql};

/// The most that is read into memory of a statement, its data included when it isn't streamed.
const MAX_STATEMENT: u64 = 256 << 20;

/// What every request shares.
pub(crate) struct Shared {
    /// The engine.
    pub(crate) engine: Arc<Engine>,
    /// Who may ask.
    pub(crate) account: Account,
    /// How much a request may send.
    pub(crate) limits: BodyLimits,
}

/// The routes.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", axum::routing::any(query))
        .route("/ping", get(alive))
        .route("/replicas_status", get(alive))
        .fallback(nothing_here)
        .with_state(shared)
}

async fn alive() -> &'static str {
    "Ok.\n"
}

async fn nothing_here(request: Request) -> Response {
    let text = format!(
        "There is no handle {}\n\nUse / or /ping for health checks.\n\nSend queries from your program with POST method or GET /?query=...\n",
        request.uri().path()
    );
    (StatusCode::NOT_FOUND, text).into_response()
}

/// Answers one request; whatever fails becomes ClickHouse's kind of error.
async fn query(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD | Method::POST) {
        return (
            StatusCode::METHOD_NOT_ALLOWED,
            [(header::ALLOW, "GET, HEAD, POST")],
        )
            .into_response();
    }
    let identity = shared.engine.identity().clone();
    let mut stamp = Stamp::new(&identity, String::new());
    match answer(&shared, request, &mut stamp).await {
        Ok(response) => response,
        Err(error) => {
            tracing::debug!(query_id = stamp.query_id, %error, "a ClickHouse request failed");
            stamp.failed(&error)
        }
    }
}

async fn answer(shared: &Shared, request: Request, stamp: &mut Stamp<'_>) -> Result<Response, EngineError> {
    let (parts, body) = request.into_parts();
    check_local(&parts.headers)?;
    let mut head = RequestHead::parse(&parts)?;
    stamp.query_id.clone_from(&head.query_id);
    shared.account.check(&head.credentials)?;
    let buffered = BodyLimits {
        bytes: shared.limits.bytes.min(MAX_STATEMENT),
        ..shared.limits
    };
    if let Some(boundary) = head.boundary.take() {
        let form = insert::collect(body, head.encoding, false, buffered).await?;
        for (name, value) in multipart::fields(&form, &boundary)? {
            head.take(&name, value)?;
        }
        let text = std::mem::take(&mut head.sql).into_bytes();
        return run(shared, &head, text, stamp).await;
    }
    if head.readonly {
        let text = std::mem::take(&mut head.sql).into_bytes();
        if text.is_empty() {
            return Ok("Ok.\n".into_response());
        }
        return run(shared, &head, text, stamp).await;
    }
    if let Some(split) = sql::split_insert(&head.sql) {
        let output = insert::run(&shared.engine, &head, setup(&head), split, body, shared.limits).await?;
        return Ok(stamp.whole(None, output));
    }
    // A statement in the URL goes on in the body.
    let rest = insert::collect(body, head.encoding, head.decompress, buffered).await?;
    let mut text = std::mem::take(&mut head.sql).into_bytes();
    if text.is_empty() {
        text = rest;
    } else if !rest.is_empty() {
        text.push(b'\n');
        text.extend_from_slice(&rest);
    }
    run(shared, &head, text, stamp).await
}

async fn run(
    shared: &Shared,
    head: &RequestHead,
    text: Vec<u8>,
    stamp: &Stamp<'_>,
) -> Result<Response, EngineError> {
    if sql::is_blank(&text) {
        return Err(EngineError::new(code::SYNTAX_ERROR, "Syntax error: Empty query"));
    }
    let outline = sql::outline(&text);
    let format = select::effective_format(head, &outline);
    let answer = select::run(&shared.engine, head, setup(head), text, outline, &stamp.tag).await?;
    Ok(match answer {
        Answer::Whole(output) => stamp.whole(Some(&format), output),
        Answer::Streamed(body) => stamp.streamed(&format, body),
    })
}

fn setup(head: &RequestHead) -> Setup {
    Setup {
        database: head.database.clone(),
        settings: head.settings.clone(),
        readonly: head.readonly,
    }
}
