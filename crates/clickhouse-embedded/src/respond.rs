//! Responses with ClickHouse's headers.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::engine::Identity;
use crate::errors::EngineError;
use crate::ffi::Output;

/// Builds the response to one request.
#[derive(Debug)]
pub(crate) struct Responder<'a> {
    /// Facts about the engine.
    pub(crate) identity: &'a Identity,
    /// Query id.
    pub(crate) query_id: String,
    /// Tag that marks an error after the headers were sent.
    pub(crate) tag: String,
}

impl<'a> Responder<'a> {
    /// Creates a responder with a random tag.
    pub(crate) fn new(identity: &'a Identity, query_id: String) -> Self {
        // Sixteen lower-case letters that can't occur in a result by accident.
        let random = uuid::Uuid::now_v7().as_u128() ^ uuid::Uuid::now_v7().as_u128().rotate_left(64);
        let tag = random
            .to_be_bytes()
            .iter()
            .map(|byte| char::from(b'a' + byte % 26))
            .collect();
        Self {
            identity,
            query_id,
            tag,
        }
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        set(
            &mut headers,
            "x-clickhouse-server-display-name",
            &self.identity.host,
        );
        set(&mut headers, "x-clickhouse-query-id", &self.query_id);
        set(&mut headers, "x-clickhouse-timezone", &self.identity.timezone);
        set(&mut headers, "x-clickhouse-exception-tag", &self.tag);
        headers
    }

    /// Responds with a complete result.
    pub(crate) fn complete(&self, format: Option<&str>, output: Output) -> Response {
        let mut headers = self.headers();
        set(&mut headers, "x-clickhouse-summary", &summary(&output));
        self.respond(StatusCode::OK, headers, format, Body::from(output.data))
    }

    /// Responds with a result that is being streamed.
    pub(crate) fn streamed(&self, format: &str, body: Body) -> Response {
        let mut headers = self.headers();
        set(&mut headers, "x-clickhouse-summary", &summary(&Output::default()));
        self.respond(StatusCode::OK, headers, Some(format), body)
    }

    /// Responds with an error.
    pub(crate) fn failed(&self, error: &EngineError) -> Response {
        let mut headers = self.headers();
        set(
            &mut headers,
            "x-clickhouse-exception-code",
            &error.code.to_string(),
        );
        let status = error.status();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        self.respond(
            status,
            headers,
            None,
            Body::from(error.to_line(&self.identity.version)),
        )
    }

    fn respond(
        &self,
        status: StatusCode,
        mut headers: HeaderMap,
        format: Option<&str>,
        body: Body,
    ) -> Response {
        if let Some(format) = format {
            set(&mut headers, "x-clickhouse-format", format);
        }
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(content_type(format)),
        );
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

/// Sets a header unless its value is invalid.
fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// Returns the `X-ClickHouse-Summary` header: numbers as strings.
fn summary(output: &Output) -> String {
    serde_json::json!({
        "read_rows": output.read_rows.to_string(),
        "read_bytes": output.read_bytes.to_string(),
        "written_rows": output.written_rows.to_string(),
        "written_bytes": output.written_bytes.to_string(),
        "total_rows_to_read": "0",
        "result_rows": if output.written_rows > 0 { output.written_rows } else { output.result_rows }.to_string(),
        "result_bytes": if output.written_rows > 0 { output.written_bytes } else { output.data.len() as u64 }.to_string(),
    })
    .to_string()
}

/// Returns ClickHouse's content type of a format.
fn content_type(format: Option<&str>) -> &'static str {
    match format {
        Some("JSONEachRow" | "JSONLines" | "NDJSON" | "JSONCompactEachRow" | "JSONStringsEachRow") => {
            "application/x-ndjson; charset=UTF-8"
        }
        Some(format) if format.starts_with("JSON") => "application/json; charset=UTF-8",
        Some(format) if format.starts_with("CSV") => "text/csv; charset=UTF-8; header=absent",
        Some(format) if format.starts_with("TabSeparated") || format.starts_with("TSV") => {
            "text/tab-separated-values; charset=UTF-8"
        }
        Some(format)
            if ["RowBinary", "Native", "Parquet", "Arrow", "ORC", "Avro"]
                .iter()
                .any(|prefix| format.starts_with(prefix)) =>
        {
            "application/octet-stream"
        }
        _ => "text/plain; charset=UTF-8",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_have_clickhouse_headers() {
        let identity = Identity {
            version: "1.2".to_owned(),
            timezone: "Etc/UTC".to_owned(),
            host: "here".to_owned(),
        };
        let responder = Responder::new(&identity, "q".to_owned());
        assert_eq!(responder.tag.len(), 16);
        let response = responder.complete(
            Some("JSON"),
            Output {
                written_rows: 3,
                ..Output::default()
            },
        );
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("x-clickhouse-query-id"), "q");
        assert_eq!(header("x-clickhouse-format"), "JSON");
        assert_eq!(header("x-clickhouse-timezone"), "Etc/UTC");
        assert_eq!(header("x-clickhouse-server-display-name"), "here");
        assert_eq!(header("content-type"), "application/json; charset=UTF-8");
        assert!(header("x-clickhouse-summary").contains(r#""written_rows":"3""#));
        let error = EngineError::from_engine("Code: 60. DB::Exception: gone");
        let failed = responder.failed(&error);
        assert_eq!(failed.status(), StatusCode::NOT_FOUND);
        assert_eq!(failed.headers()["x-clickhouse-exception-code"], "60");
    }
}
