//! Parses a ClickHouse HTTP request: URL and headers, then form fields.

use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, Method, header};
use precis_runtime::http_server::Flushes;

use crate::auth::Credentials;
use crate::errors::{EngineError, code};
use crate::sessions::{self, SessionName};

/// URL parameters of the HTTP interface that are not settings of the engine and have no effect here.
const IGNORED: &[&str] = &[
    "buffer_size",
    "client_protocol_version",
    "enable_http_compression",
    "http_zlib_compression_level",
    "quota_key",
    "stacktrace",
];

/// The `Content-Encoding` of a request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Uncompressed.
    Plain,
    /// `gzip`
    Gzip,
    /// `deflate` (with the zlib header)
    Deflate,
    /// `lz4`, the frame format
    Lz4,
}

/// A request without its body.
#[derive(Debug)]
pub(crate) struct RequestHead {
    /// Statement in the URL; may be empty.
    pub(crate) sql: String,
    /// Database of unqualified names.
    pub(crate) database: Option<String>,
    /// Output format if the statement has no `FORMAT`.
    pub(crate) default_format: String,
    /// Values for `{name:Type}` placeholders.
    pub(crate) parameters: Vec<(String, String)>,
    /// Engine settings for this request.
    pub(crate) settings: Vec<(String, String)>,
    /// Whether the method forbids writes.
    pub(crate) readonly: bool,
    /// The session, if the request names one.
    session_id: Option<String>,
    session_timeout: Duration,
    session_check: bool,
    /// Query id of the client, or a new one.
    pub(crate) query_id: String,
    /// Whether the body consists of native compressed frames.
    pub(crate) decompress: bool,
    /// Whether to respond with native compressed frames.
    pub(crate) compress: bool,
    /// Whether to respond only after the query has finished.
    pub(crate) wait_end_of_query: bool,
    /// User and password.
    pub(crate) credentials: Credentials,
    /// `Content-Encoding` of the body.
    pub(crate) encoding: Encoding,
    /// The flushes of the connection; `None` in tests.
    pub(crate) flushes: Option<Flushes>,
    /// Boundary of a `multipart/form-data` body.
    pub(crate) boundary: Option<String>,
}

impl RequestHead {
    /// Parses method, URL and headers.
    pub(crate) fn parse(parts: &Parts) -> Result<Self, EngineError> {
        let headers = &parts.headers;
        let mut head = Self {
            sql: String::new(),
            database: text(headers, "x-clickhouse-database"),
            default_format: text(headers, "x-clickhouse-format").unwrap_or_else(|| "TabSeparated".to_owned()),
            parameters: Vec::new(),
            settings: Vec::new(),
            readonly: parts.method != Method::POST,
            flushes: parts.extensions.get::<Flushes>().cloned(),
            session_id: None,
            session_timeout: sessions::DEFAULT_TIMEOUT,
            session_check: false,
            query_id: String::new(),
            decompress: false,
            compress: false,
            wait_end_of_query: false,
            credentials: Credentials::from_headers(headers)?,
            encoding: encoding(headers)?,
            boundary: boundary(headers)?,
        };
        for (name, value) in form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
            head.set(&name, value.into_owned())?;
        }
        if head.query_id.is_empty() {
            head.query_id = uuid::Uuid::now_v7().to_string();
        }
        Ok(head)
    }

    /// Applies a URL parameter or form field.
    pub(crate) fn set(&mut self, name: &str, value: String) -> Result<(), EngineError> {
        match name {
            "query" => self.sql = value,
            "database" if !value.is_empty() => self.database = Some(value),
            "default_format" if !value.is_empty() => self.default_format = value,
            "database" | "default_format" => {}
            "user" => self.credentials.user = Some(value),
            "password" => self.credentials.password = Some(value),
            "query_id" => self.query_id = printable(name, value)?,
            "decompress" => self.decompress = flag(&value),
            "compress" => self.compress = flag(&value),
            "wait_end_of_query" => self.wait_end_of_query = flag(&value),
            "session_id" => self.session_id = Some(printable(name, value)?).filter(|id| !id.is_empty()),
            "session_timeout" => self.session_timeout = session_timeout(&value)?,
            "session_check" => self.session_check = flag(&value),
            "role" => {
                return Err(EngineError::new(
                    code::NOT_IMPLEMENTED,
                    format!("'{name}' is not available in the embedded engine: use a ClickHouse server"),
                ));
            }
            name if IGNORED.contains(&name) => {}
            name => {
                if let Some(parameter) = name.strip_prefix("param_") {
                    self.parameters.push((parameter.to_owned(), value));
                } else if is_setting_name(name) {
                    self.settings.push((name.to_owned(), value));
                } else {
                    return Err(EngineError::new(
                        code::UNKNOWN_SETTING,
                        format!("Unknown setting '{name}'"),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Returns the session, if the request names one.
    pub(crate) fn session(&self) -> Option<SessionName> {
        self.session_id.clone().map(|id| SessionName {
            id,
            timeout: self.session_timeout,
            must_exist: self.session_check,
        })
    }

    /// Returns the value of a setting, the last one if there are several.
    pub(crate) fn setting(&self, name: &str) -> Option<&str> {
        self.settings
            .iter()
            .rev()
            .find(|(setting, _)| setting == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Returns whether a name is a valid setting name, which needs no quotes in `SET`.
fn is_setting_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Parses the lifetime of an idle session, in seconds.
fn session_timeout(value: &str) -> Result<Duration, EngineError> {
    let invalid = |text: String| EngineError::new(code::INVALID_SESSION_TIMEOUT, text);
    let seconds = value
        .parse()
        .map_err(|_| invalid(format!("Invalid session timeout: '{value}'")))?;
    let timeout = Duration::from_secs(seconds);
    let max = sessions::MAX_TIMEOUT;
    if timeout > max {
        return Err(invalid(format!(
            "Session timeout '{value}' is larger than max_session_timeout: {}. Maximum session timeout could be modified in \
             configuration file",
            max.as_secs()
        )));
    }
    Ok(timeout)
}

fn flag(value: &str) -> bool {
    matches!(value, "1" | "true")
}

/// Checks a value that the response returns in a header.
fn printable(name: &str, value: String) -> Result<String, EngineError> {
    if value.len() <= 256 && value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        Ok(value)
    } else {
        Err(EngineError::new(
            code::BAD_ARGUMENTS,
            format!("'{name}' must be at most 256 printable ASCII characters"),
        ))
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    (!value.is_empty()).then(|| value.to_owned())
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, EngineError> {
    let lines = headers.get_all(header::CONTENT_ENCODING).iter();
    // Repeated fields form one list (RFC 9110, 5.3). A body with two codings is not supported.
    let names: Vec<String> = lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(|name| String::from_utf8_lossy(name).trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty() && name != "identity")
        .collect();
    match names.join(", ").as_str() {
        "" => Ok(Encoding::Plain),
        "gzip" | "x-gzip" => Ok(Encoding::Gzip),
        "deflate" => Ok(Encoding::Deflate),
        "lz4" => Ok(Encoding::Lz4),
        other => Err(EngineError::new(
            code::UNKNOWN_COMPRESSION_METHOD,
            format!("Unknown Content-Encoding '{other}': the embedded engine supports gzip, deflate and lz4"),
        )),
    }
}

/// Returns the boundary of a `multipart/form-data` content type.
fn boundary(headers: &HeaderMap) -> Result<Option<String>, EngineError> {
    let Some(value) = text(headers, header::CONTENT_TYPE.as_str()) else {
        return Ok(None);
    };
    let mut pieces = value.split(';').map(str::trim);
    if !pieces
        .next()
        .is_some_and(|kind| kind.eq_ignore_ascii_case("multipart/form-data"))
    {
        return Ok(None);
    }
    pieces
        .filter_map(|piece| piece.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("boundary"))
        .map(|(_, boundary)| boundary.trim().trim_matches('"').to_owned())
        .filter(|boundary| (1..=70).contains(&boundary.len()))
        .map(Some)
        .ok_or_else(|| {
            EngineError::new(
                code::BAD_ARGUMENTS,
                "the multipart/form-data body has no usable boundary",
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: &str, uri: &str, headers: &[(&str, &str)]) -> Result<RequestHead, EngineError> {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        RequestHead::parse(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn url_parameters_are_classified() {
        let head = parse(
            "POST",
            "/?query=SELECT+%7Bx%3AUInt8%7D&param_x=7&max_threads=2&database=d&default_format=JSON&query_id=abc\
             &decompress=1&enable_http_compression=1&user=default&password=&wait_end_of_query=1",
            &[("x-clickhouse-database", "other")],
        )
        .unwrap();
        assert_eq!(head.sql, "SELECT {x:UInt8}");
        assert_eq!(head.parameters, [("x".to_owned(), "7".to_owned())]);
        assert_eq!(head.settings, [("max_threads".to_owned(), "2".to_owned())]);
        assert_eq!(head.database.as_deref(), Some("d"));
        assert_eq!(head.default_format, "JSON");
        assert_eq!(head.query_id, "abc");
        assert!(head.decompress && head.wait_end_of_query && !head.compress && !head.readonly);
        assert_eq!(head.setting("max_threads"), Some("2"));
    }

    #[test]
    fn a_session_is_named_by_its_id() {
        let session = |uri: &str| parse("POST", uri, &[]).unwrap().session();
        assert_eq!(session("/?session_timeout=5"), None);
        assert_eq!(
            session("/?session_id=a&session_timeout=5&session_check=1"),
            Some(SessionName {
                id: "a".to_owned(),
                timeout: Duration::from_secs(5),
                must_exist: true,
            })
        );
    }

    #[test]
    fn headers_set_format_and_database() {
        let head = parse(
            "GET",
            "/",
            &[("X-ClickHouse-Format", "CSV"), ("X-ClickHouse-Database", "m")],
        )
        .unwrap();
        assert!(head.readonly);
        assert_eq!(head.default_format, "CSV");
        assert_eq!(head.database.as_deref(), Some("m"));
        assert_eq!(head.query_id.len(), 36);
        assert_eq!(parse("POST", "/", &[]).unwrap().default_format, "TabSeparated");
    }

    #[test]
    fn unsupported_requests_are_rejected() {
        let code_of = |uri: &str, headers: &[(&str, &str)]| parse("POST", uri, headers).unwrap_err().code;
        assert_eq!(code_of("/?role=r", &[]), code::NOT_IMPLEMENTED);
        assert_eq!(code_of("/?session_timeout=x", &[]), code::INVALID_SESSION_TIMEOUT);
        assert_eq!(
            code_of("/?session_timeout=3601", &[]),
            code::INVALID_SESSION_TIMEOUT
        );
        assert_eq!(code_of("/?a%3D1%2Cb=2", &[]), code::UNKNOWN_SETTING);
        assert_eq!(code_of("/?1a=2", &[]), code::UNKNOWN_SETTING);
        assert_eq!(code_of("/?query_id=a%0d%0ab", &[]), code::BAD_ARGUMENTS);
        assert_eq!(
            code_of("/", &[("content-encoding", "br")]),
            code::UNKNOWN_COMPRESSION_METHOD
        );
        assert_eq!(
            code_of("/", &[("content-type", "multipart/form-data")]),
            code::BAD_ARGUMENTS
        );
    }

    #[test]
    fn boundary_is_parsed() {
        let head = parse(
            "POST",
            "/",
            &[("content-type", "multipart/form-data; boundary=\"a-b\"")],
        )
        .unwrap();
        assert_eq!(head.boundary.as_deref(), Some("a-b"));
        assert_eq!(
            parse("POST", "/", &[("content-type", "text/plain")])
                .unwrap()
                .boundary,
            None
        );
    }
}
