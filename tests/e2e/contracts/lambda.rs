//! The router inside a Lambda function. The Lambda runtime API is replaced by a server on loopback, since Lambda cannot
//! run here. Every captured event goes through it, and the function's answers are compared.
//!
//! The capture comes from a small program with the same routes. Intended differences:
//!
//! | event | captured | here | reason |
//! | --- | --- | --- | --- |
//! | `online-predict`, `base64-body` | a JSON string | the text itself | clients read it as it is |
//! | `score-error-status` | 422 | 200 with the scores | the program always refused |
//! | `rest-api-v1` | 404 | 200 | the stage is removed from the path |
//! | `not-found`, `bad-json`, `wrong-content-type` | no body, or text | problem details | as on every route |

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use precis_tests::process::Process;
use precis_tests::{Options, Product};
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};

use super::captured;
use crate::PROGRAM;

/// An answer of the function: `response` or `error`, the error type, and the body.
struct Posted {
    id: String,
    way: String,
    error_type: String,
    body: Value,
}

#[derive(Clone)]
struct Runtime {
    events: Arc<Mutex<mpsc::Receiver<(String, Value)>>>,
    posted: mpsc::Sender<Posted>,
}

async fn next(State(runtime): State<Runtime>) -> impl IntoResponse {
    let Some((id, event)) = runtime.events.lock().await.recv().await else {
        // All events are done. The function waits for more until it is stopped.
        return std::future::pending().await;
    };
    let deadline = (precis_runtime::clock::now() + Duration::from_secs(60)).as_millisecond();
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("lambda-runtime-aws-request-id", id),
        ("lambda-runtime-deadline-ms", deadline.to_string()),
        (
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:us-east-1:000000000000:function:summarizer".to_owned(),
        ),
    ];
    (headers, event.to_string())
}

async fn take(
    State(runtime): State<Runtime>,
    Path((id, way)): Path<(String, String)>,
    headers: HeaderMap,
    body: String,
) -> StatusCode {
    let error_type = headers.get("lambda-runtime-function-error-type");
    let posted = Posted {
        id,
        way,
        error_type: error_type.map_or(String::new(), |value| value.to_str().unwrap().to_owned()),
        body: serde_json::from_str(&body).unwrap_or(Value::String(body)),
    };
    runtime.posted.send(posted).await.unwrap();
    StatusCode::ACCEPTED
}

/// A running function, and the runtime API that sends it events.
struct Function {
    events: mpsc::Sender<(String, Value)>,
    answers: mpsc::Receiver<Posted>,
    process: Process,
    /// Owns the folder of the process.
    _product: Product,
}

impl Function {
    async fn start() -> Self {
        let (events_in, events) = mpsc::channel(64);
        let (posted, answers) = mpsc::channel(64);
        let runtime = Runtime {
            events: Arc::new(Mutex::new(events)),
            posted,
        };
        let routes = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/{way}", post(take))
            .with_state(runtime);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let product = Product::new(PROGRAM, Options::default());
        let environment = [
            ("AWS_LAMBDA_RUNTIME_API", address.as_str()),
            ("AWS_LAMBDA_FUNCTION_NAME", "summarizer"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1024"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", "g"),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "s"),
            ("PRECIS__ACCESS__INSECURE", "true"),
        ];
        let arguments = ["api".to_owned(), "--stop-with-parent".to_owned()];
        let program: &std::path::Path = PROGRAM.as_ref();
        let process = Process::start_with(program, &arguments, &environment, product.dir(), "lambda");
        Self {
            events: events_in,
            answers,
            process,
            _product: product,
        }
    }

    /// Sends an event and waits for the answer.
    async fn invoke(&mut self, id: &str, event: &Value) -> Posted {
        self.events.send((id.to_owned(), event.clone())).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(60), self.answers.recv()).await;
        let answer = answer
            .unwrap_or_else(|_| panic!("no answer:\n{}", self.process.output()))
            .unwrap();
        assert_eq!(answer.id, id);
        answer
    }
}

#[tokio::test]
async fn a_function_without_keys_needs_access_insecure() {
    let product = Product::new(PROGRAM, Options::default());
    let environment = [
        // Nothing listens there, and nothing is contacted.
        ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1"),
        ("AWS_LAMBDA_FUNCTION_NAME", "summarizer"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1024"),
    ];
    let program: &std::path::Path = PROGRAM.as_ref();
    let mut process = Process::start_with(
        program,
        &["api".to_owned()],
        &environment,
        product.dir(),
        "lambda",
    );
    assert_eq!(process.ended(Duration::from_secs(60)).await.code(), Some(1));
    assert!(
        process.output().contains("access.insecure"),
        "{}",
        process.output()
    );
}

#[tokio::test]
async fn every_captured_event_is_answered() {
    let mut function = Function::start().await;
    let captures = captured("lambda/exchanges.json");
    let captures: HashMap<&str, &Value> = captures
        .as_array()
        .unwrap()
        .iter()
        .map(|capture| (capture["name"].as_str().unwrap(), capture))
        .collect();
    let sent = captured("lambda/events.json");
    assert_eq!(sent.as_array().unwrap().len(), captures.len());
    for event in sent.as_array().unwrap() {
        let name = event["name"].as_str().unwrap();
        let answer = function.invoke(name, &event["event"]).await;
        let capture = captures[name];
        let path = capture["post_path"].as_str().unwrap();
        assert!(path.ends_with(&answer.way), "{name}: {}", answer.way);
        compare(&answer, capture);
    }
}

/// Events as AWS documents them; these two services could not be captured.
#[tokio::test]
async fn load_balancers_and_function_urls_are_supported() {
    let mut function = Function::start().await;
    let article = json!({"article": "Rain fell over the hills all night. The river rose."}).to_string();
    let balancer = json!({
        "requestContext": {"elb": {"targetGroupArn":
            "arn:aws:elasticloadbalancing:us-east-1:000000000000:targetgroup/summarizer/0123456789abcdef"}},
        "httpMethod": "POST",
        "path": "/article/summarize",
        "queryStringParameters": {},
        "headers": {
            "content-type": "application/json",
            "host": "lb-1.us-east-1.elb.amazonaws.com",
            "x-forwarded-for": "203.0.113.7",
            "x-forwarded-port": "80",
            "x-forwarded-proto": "http",
        },
        "body": article,
        "isBase64Encoded": false,
    });
    let answer = function.invoke("load-balancer", &balancer).await;
    assert_eq!(answer.way, "response");
    assert_eq!(answer.body["statusCode"], 200, "{}", answer.body);
    assert_eq!(answer.body["isBase64Encoded"], false);
    let text = answer.body["body"].as_str().unwrap();
    assert!(serde_json::from_str::<String>(text).is_ok(), "{text}");

    let answer = function
        .invoke("function-url", &over_http("POST", "/article/summarize", &article))
        .await;
    assert_eq!(answer.body["statusCode"], 200, "{}", answer.body);
    assert_eq!(answer.body["headers"]["content-type"], "application/json");
}

/// A function finishes accepted jobs before it is frozen: the next invocation finds the result.
#[tokio::test]
async fn a_job_is_finished_when_its_submission_is_answered() {
    let mut function = Function::start().await;
    let body = json!({"text": "Rain fell over the hills all night. The river rose.", "params": {
        "min_new_tokens": 100, "max_new_tokens": 100, "first_sentence": false,
    }});
    let submitted = over_http("POST", "/v1/summaries", &body.to_string());
    let answer = function.invoke("submit", &submitted).await;
    assert_eq!(answer.body["statusCode"], 202, "{}", answer.body);
    let job: Value = serde_json::from_str(answer.body["body"].as_str().unwrap()).unwrap();
    let path = job["links"]["self"].as_str().unwrap();
    let answer = function.invoke("look", &over_http("GET", path, "")).await;
    let job: Value = serde_json::from_str(answer.body["body"].as_str().unwrap()).unwrap();
    assert_eq!(job["status"], "succeeded", "{job}");
}

/// A request to a function URL.
fn over_http(method: &str, path: &str, body: &str) -> Value {
    let mut event = json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {
            "content-type": "application/json",
            "host": "abcdef0123456789.lambda-url.us-east-1.on.aws",
            "x-forwarded-for": "203.0.113.7",
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https",
        },
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "abcdef0123456789",
            "domainName": "abcdef0123456789.lambda-url.us-east-1.on.aws",
            "domainPrefix": "abcdef0123456789",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "203.0.113.7",
                "userAgent": "curl/8.5.0",
            },
            "requestId": "11111111-2222-3333-4444-555555555555",
            "routeKey": "$default",
            "stage": "$default",
            "time": "25/Nov/2026:01:00:00 +0000",
            "timeEpoch": 1_795_568_400_000_i64,
        },
        "isBase64Encoded": false,
    });
    if !body.is_empty() {
        event["body"] = body.into();
    }
    event
}

fn compare(answer: &Posted, capture: &Value) {
    let (name, body, expected) = (answer.id.as_str(), &answer.body, &capture["post_body"]);
    if answer.way == "error" {
        assert_eq!(
            capture["post_headers"]["lambda-runtime-function-error-type"],
            answer.error_type
        );
        assert_eq!(body["errorType"], expected["errorType"]);
        assert_eq!(body["errorMessage"], expected["errorMessage"]);
        return;
    }
    let keys = |object: &Value| object.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(body), keys(expected), "{name}");
    assert_eq!(body["isBase64Encoded"], expected["isBase64Encoded"], "{name}");
    let status = match name {
        "score-error-status" | "rest-api-v1" => 200,
        _ => expected["statusCode"].as_u64().unwrap(),
    };
    assert_eq!(body["statusCode"], status, "{name}: {body}");
    let text = body["body"].as_str().unwrap();
    // A REST API receives all headers as lists.
    let content_type = body["headers"]["content-type"]
        .as_str()
        .or(body["multiValueHeaders"]["content-type"][0].as_str())
        .unwrap_or_else(|| panic!("{name}: {body}"));
    match name {
        "online-predict" | "base64-body" | "rest-api-v1" => {
            assert_eq!(content_type, "text/plain; charset=utf-8", "{name}");
            assert!(!text.is_empty() && !text.starts_with('"'), "{name}: {text}");
        }
        "batch-predict" => {
            assert_eq!(
                content_type,
                expected["headers"]["content-type"].as_str().unwrap()
            );
            assert_eq!(serde_json::from_str::<Vec<String>>(text).unwrap().len(), 2);
        }
        "score-error-status" => {
            let scores: HashMap<String, f64> = serde_json::from_str(text).unwrap();
            assert_eq!(scores.len(), 4, "{text}");
        }
        "get" => assert!(text.starts_with("ok"), "{text}"),
        _ => assert_eq!(content_type, "application/problem+json", "{name}"),
    }
}
