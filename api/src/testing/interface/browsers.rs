//! Requests that a web page of another origin can send without asking: no route takes one.

use super::*;
use crate::gateway::router::routes;

/// Returns the method and path of every operation, with a value for each parameter.
fn operations() -> Vec<(String, String)> {
    let routes = routes(&Readiness::default());
    let named = routes
        .iter()
        .flat_map(|route| route.operations().collect::<Vec<_>>());
    named
        .map(|operation| {
            let (method, path) = operation.split_once(' ').unwrap();
            let parts = path
                .split('/')
                .map(|part| if part.starts_with('{') { "x" } else { part });
            (method.to_owned(), parts.collect::<Vec<_>>().join("/"))
        })
        .collect()
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &'static str) -> Request<Body> {
    let request = Request::builder().method(method).uri(path);
    let request = headers
        .iter()
        .fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(Body::from(body)).unwrap()
}

#[tokio::test]
async fn no_route_takes_a_simple_request_of_a_foreign_page() {
    let api = with_worker();
    let host = ("host", "127.0.0.1:8000");
    let bodies = [
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("multipart/form-data; boundary=x"),
        None,
    ];
    for (method, path) in operations() {
        for sender in [
            ("origin", "https://evil.example"),
            ("sec-fetch-site", "cross-site"),
        ] {
            for media_type in bodies {
                let mut headers = vec![host, sender];
                headers.extend(media_type.map(|media_type| ("content-type", media_type)));
                let answer = api
                    .raw(request(&method, &path, &headers, r#"{"text": "It rained."}"#))
                    .await;
                assert_eq!(answer.status, 403, "{method} {path} {headers:?}");
            }
        }
        let rebound = request(&method, &path, &[("host", "evil.example:8000")], "");
        let answer = api.raw(rebound).await;
        assert!(
            matches!(answer.status, 400 | 421),
            "{method} {path}: {}",
            answer.status
        );
    }
    assert_eq!(api.queue.jobs.lock().unwrap().len(), 0);
    let refused = request("POST", "/v1/summaries", &[host, ("origin", "null")], "{}");
    api.refused(refused, 403, "cross_origin_refused").await;
    let rebound = request("GET", "/healthz", &[("host", "evil.example")], "");
    api.refused(rebound, 421, "host_not_allowed").await;
}

#[tokio::test]
async fn own_pages_and_programs_may_call() {
    let api = with_worker();
    for headers in [
        &[("host", "127.0.0.1:8000")][..],
        &[("host", "localhost:8000"), ("origin", "http://localhost:8000")],
        &[("host", "localhost:8000"), ("sec-fetch-site", "same-origin")],
        &[],
    ] {
        let json = [headers, &[("content-type", "application/json")]].concat();
        let body = r#"{"text": "It rained."}"#;
        assert_eq!(
            api.call(request("POST", "/v1/summaries", &json, body))
                .await
                .status,
            202
        );
    }
}
