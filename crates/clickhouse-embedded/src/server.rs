//! The HTTP interface: `/`, `/ping` and `/replicas_status`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{Method, StatusCode, header};
use precis_runtime::browser_guard::BrowserGuard;
use precis_schemas::error_code::Refusal;

use crate::auth::Account;
use crate::body::BodyLimits;
use crate::engine::{Engine, SessionOptions};
use crate::errors::{EngineError, code};
use crate::request::RequestHead;
use crate::respond::Responder;
use crate::select::{self, StatementResult};
use crate::{insert, multipart, query_ids, sql};

/// Maximum bytes of a statement in memory, including its data if that isn't streamed.
const MAX_STATEMENT_BYTES: u64 = 256 << 20;

/// State that all requests share.
pub(crate) struct ServerState {
    /// The engine.
    pub(crate) engine: Arc<Engine>,
    /// The user that may send requests.
    pub(crate) account: Account,
    /// Limits on request bodies.
    pub(crate) limits: BodyLimits,
}

/// Returns the routes.
pub(crate) fn router(shared: Arc<ServerState>, browsers: BrowserGuard) -> Router {
    let routes = Router::new()
        .route("/", axum::routing::any(query))
        .route("/ping", get(alive))
        .route("/replicas_status", get(alive))
        .fallback(not_found)
        .with_state(shared);
    browsers.wrap(routes, refuse)
}

/// Answers a foreign web page in ClickHouse's format.
fn refuse(refusal: Refusal) -> Response {
    let error = EngineError::new(code::AUTHENTICATION_FAILED, refusal.message);
    let code = [("x-clickhouse-exception-code", error.code.to_string())];
    (error.status(), code, format!("{error}\n")).into_response()
}

async fn alive() -> &'static str {
    "Ok.\n"
}

async fn not_found(request: Request) -> Response {
    let text = format!(
        "There is no handle {}\n\nUse / or /ping for health checks.\n\nSend queries from your program with POST method or GET /?query=...\n",
        request.uri().path()
    );
    (StatusCode::NOT_FOUND, text).into_response()
}

/// Handles a request. Errors have ClickHouse's format.
async fn query(State(shared): State<Arc<ServerState>>, request: Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD | Method::POST) {
        return (
            StatusCode::METHOD_NOT_ALLOWED,
            [(header::ALLOW, "GET, HEAD, POST")],
        )
            .into_response();
    }
    let identity = shared.engine.identity().clone();
    let mut responder = Responder::new(&identity, String::new());
    match handle(&shared, request, &mut responder).await {
        Ok(response) => response,
        Err(error) => {
            tracing::debug!(query_id = responder.query_id, %error, "a ClickHouse request failed");
            responder.failed(&error)
        }
    }
}

async fn handle(
    shared: &ServerState,
    request: Request,
    responder: &mut Responder<'_>,
) -> Result<Response, EngineError> {
    let (parts, body) = request.into_parts();
    let mut head = RequestHead::parse(&parts)?;
    responder.query_id.clone_from(&head.query_id);
    shared.account.check(&head.credentials)?;
    let buffered = BodyLimits {
        bytes: shared.limits.bytes.min(MAX_STATEMENT_BYTES),
        ..shared.limits
    };
    if let Some(boundary) = head.boundary.take() {
        let form = insert::collect(body, head.encoding, false, buffered).await?;
        for (name, value) in multipart::fields(&form, &boundary)? {
            head.set(&name, value)?;
        }
        let text = std::mem::take(&mut head.sql).into_bytes();
        return run(shared, &head, text, responder).await;
    }
    if head.readonly {
        let text = std::mem::take(&mut head.sql).into_bytes();
        if text.is_empty() {
            return Ok("Ok.\n".into_response());
        }
        return run(shared, &head, text, responder).await;
    }
    if let Some(split) = sql::split_insert(&head.sql) {
        let output = insert::run(
            &shared.engine,
            &head,
            session_options(&head),
            split,
            body,
            shared.limits,
        )
        .await?;
        return Ok(responder.complete(None, output));
    }
    // A statement in the URL continues in the body.
    let rest = insert::collect(body, head.encoding, head.decompress, buffered).await?;
    let mut text = std::mem::take(&mut head.sql).into_bytes();
    if text.is_empty() {
        text = rest;
    } else if !rest.is_empty() {
        text.push(b'\n');
        text.extend_from_slice(&rest);
    }
    run(shared, &head, text, responder).await
}

async fn run(
    shared: &ServerState,
    head: &RequestHead,
    text: Vec<u8>,
    responder: &Responder<'_>,
) -> Result<Response, EngineError> {
    if sql::is_blank(&text) {
        return Err(EngineError::new(code::SYNTAX_ERROR, "Syntax error: Empty query"));
    }
    let text = query_ids::translate(&text).into_owned();
    let info = sql::inspect(&text);
    let format = match info.mentions_format {
        true => select::stated_format(&shared.engine, &text).await?,
        false => None,
    };
    let format = format.unwrap_or_else(|| head.default_format.clone());
    let result = select::run(
        &shared.engine,
        head,
        session_options(head),
        text,
        info,
        format.clone(),
        &responder.tag,
    )
    .await?;
    Ok(match result {
        StatementResult::Complete(output) => responder.complete(Some(&format), output),
        StatementResult::Streamed(body) => responder.streamed(&format, body),
    })
}

fn session_options(head: &RequestHead) -> SessionOptions {
    SessionOptions {
        database: head.database.clone(),
        settings: head.settings.clone(),
        readonly: head.readonly,
        query_id: Some(head.query_id.clone()),
        user: head.credentials.user.clone().unwrap_or_default(),
        session: head.session(),
    }
}
