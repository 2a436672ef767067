//! A fake of a server that tests cannot reach: Arize's cloud, or an OTLP collector. It records requests and answers
//! as the test decides.

use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::Value;

/// A recorded request.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its path.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Time of arrival.
    pub at: Instant,
}

impl Request {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    /// Decodes the spans of the body, each with its service name.
    pub fn spans(&self) -> Vec<(String, Span)> {
        let request = ExportTraceServiceRequest::decode(&self.body[..]).expect("a request for traces");
        let mut spans = vec![];
        for resource in request.resource_spans {
            let about = resource
                .resource
                .map(|resource| resource.attributes)
                .unwrap_or_default();
            let service = text_of(&about, "service.name").unwrap_or_default();
            let inner = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            spans.extend(inner.map(|span| (service.clone(), span)));
        }
        spans
    }
}

/// Returns an attribute's text.
pub fn text_of(attributes: &[KeyValue], key: &str) -> Option<String> {
    match attributes
        .iter()
        .find(|one| one.key == key)?
        .value
        .as_ref()?
        .value
        .as_ref()?
    {
        Any::StringValue(text) => Some(text.clone()),
        _ => None,
    }
}

/// Returns the numbers of a list attribute.
pub fn numbers_of(attributes: &[KeyValue], key: &str) -> Option<Vec<f64>> {
    match attributes
        .iter()
        .find(|one| one.key == key)?
        .value
        .as_ref()?
        .value
        .as_ref()?
    {
        Any::ArrayValue(list) => list
            .values
            .iter()
            .map(|value| match value.value {
                Some(Any::DoubleValue(number)) => Some(number),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}

/// How to answer a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Accept it.
    Take,
    /// Answer with this status.
    Status(u16),
    /// Answer with this status and a `Retry-After` of this many seconds.
    Later(u16, u64),
    /// Answer with 200 and a web page, as a sign-in proxy does.
    Page,
    /// Never answer.
    Hang,
    /// Reset the connection.
    Reset,
}

type Decide = Box<dyn FnMut(&Request) -> Answer + Send>;

struct Shared {
    decide: Mutex<Decide>,
    all: Mutex<Vec<(Request, Answer)>>,
}

/// The server.
pub struct Receiver {
    /// Its address, such as `http://127.0.0.1:4318`.
    pub url: String,
    shared: Arc<Shared>,
}

impl Receiver {
    /// Starts a server that accepts everything.
    pub async fn start() -> Self {
        let shared = Arc::new(Shared {
            decide: Mutex::new(Box::new(|_| Answer::Take)),
            all: Mutex::default(),
        });
        let routes = Router::new().fallback(receive).with_state(shared.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("it has an address"));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url, shared }
    }

    /// Answers all further requests as `decide` returns.
    pub fn answers(&self, decide: impl FnMut(&Request) -> Answer + Send + 'static) {
        *self.shared.decide.lock().unwrap() = Box::new(decide);
    }

    /// Returns all accepted requests on this path.
    pub fn taken(&self, path: &str) -> Vec<Request> {
        let all = self.shared.all.lock().unwrap();
        let taken = all
            .iter()
            .filter(|(request, answer)| *answer == Answer::Take && request.path == path);
        taken.map(|(request, _)| request.clone()).collect()
    }

    /// Returns the time between the first request with this answer and the next request that started after it, if any.
    pub fn left_alone_after(&self, answer: Answer) -> Option<Duration> {
        const AT_THE_SAME_TIME: Duration = Duration::from_secs(1);
        let all = self.shared.all.lock().unwrap();
        let place = all.iter().position(|(_, given)| *given == answer)?;
        let later = all[place + 1..].iter().map(|(next, _)| next.at - all[place].0.at);
        later.into_iter().find(|after| *after > AT_THE_SAME_TIME)
    }

    /// Returns the number of requests with this answer.
    pub fn answered(&self, with: Answer) -> usize {
        let all = self.shared.all.lock().unwrap();
        all.iter().filter(|(_, answer)| *answer == with).count()
    }

    /// Returns all accepted spans with their services.
    pub fn spans(&self) -> Vec<(String, Span)> {
        self.taken("/v1/traces").iter().flat_map(Request::spans).collect()
    }
}

async fn receive(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let request = Request {
        path: uri.path().to_owned(),
        headers,
        body,
        at: Instant::now(),
    };
    let answer = (shared.decide.lock().unwrap())(&request);
    shared.all.lock().unwrap().push((request, answer));
    let status = |code: u16| StatusCode::from_u16(code).expect("a status");
    match answer {
        Answer::Take => StatusCode::OK.into_response(),
        Answer::Status(code) => (status(code), "as the test wants it").into_response(),
        Answer::Later(code, seconds) => {
            (status(code), [(header::RETRY_AFTER, seconds.to_string())]).into_response()
        }
        Answer::Page => axum::response::Html("<html>Sign in</html>").into_response(),
        Answer::Hang => {
            tokio::time::sleep(Duration::from_secs(3_600)).await;
            StatusCode::OK.into_response()
        }
        // A panic ends the task and thus resets the connection. `resume_unwind` skips the panic message.
        Answer::Reset => std::panic::resume_unwind(Box::new(())),
    }
}
