//! Errors in ClickHouse's format: a code, a text and an HTTP status.

use std::fmt;

use http::StatusCode;

/// Declares the ClickHouse error codes that this crate raises itself. ClickHouse's names are those of the constants.
macro_rules! codes {
    ($($name:ident = $code:literal;)*) => {
        pub(crate) mod code {
            $(pub(crate) const $name: u32 = $code;)*
        }

        fn name(code: u32) -> Option<&'static str> {
            match code {
                $(code::$name => Some(stringify!($name)),)*
                _ => None,
            }
        }
    };
}

codes! {
    CANNOT_READ_ALL_DATA = 33;
    BAD_ARGUMENTS = 36;
    CHECKSUM_DOESNT_MATCH = 40;
    NOT_IMPLEMENTED = 48;
    LOGICAL_ERROR = 49;
    SYNTAX_ERROR = 62;
    UNKNOWN_COMPRESSION_METHOD = 89;
    UNKNOWN_SETTING = 115;
    TOO_LARGE_SIZE_COMPRESSED = 131;
    TOO_MANY_SIMULTANEOUS_QUERIES = 202;
    SOCKET_TIMEOUT = 209;
    NETWORK_ERROR = 210;
    QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING = 216;
    CANNOT_DECOMPRESS = 271;
    TOO_MANY_BYTES = 307;
    INTO_OUTFILE_NOT_ALLOWED = 358;
    SESSION_NOT_FOUND = 372;
    SESSION_IS_LOCKED = 373;
    INVALID_SESSION_TIMEOUT = 374;
    QUERY_WAS_CANCELLED = 394;
    AUTHENTICATION_FAILED = 516;
    UNKNOWN_EXCEPTION = 1002;
}

/// An error of the engine, or of this crate in the engine's format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EngineError {
    /// ClickHouse's error code.
    pub(crate) code: u32,
    /// The whole text, `Code: N. DB::Exception: …`.
    message: String,
}

impl EngineError {
    /// Creates an error of this crate.
    pub(crate) fn new(code: u32, text: impl fmt::Display) -> Self {
        let text = text.to_string();
        let text = text.trim_end_matches('.');
        let message = match name(code) {
            Some(name) => format!("Code: {code}. DB::Exception: {text}. ({name})"),
            None => format!("Code: {code}. DB::Exception: {text}."),
        };
        Self { code, message }
    }

    /// Parses an error text of the engine.
    pub(crate) fn from_engine(text: &str) -> Self {
        let text = text.trim();
        match parse_code(text) {
            Some((start, code)) => Self {
                code,
                message: text[start..].to_owned(),
            },
            None => Self::new(code::UNKNOWN_EXCEPTION, text),
        }
    }

    /// Returns ClickHouse's HTTP status for this code.
    pub(crate) fn status(&self) -> StatusCode {
        status(self.code)
    }

    /// Returns the text for a client, with the server's version and a newline.
    pub(crate) fn to_line(&self, version: &str) -> String {
        if self.message.contains("(version ") {
            format!("{}\n", self.message)
        } else {
            format!("{} (version {version} (embedded build))\n", self.message)
        }
    }

    /// Returns whether the engine can run this kind of statement, but not stream its result.
    pub(crate) fn is_not_streamable(&self) -> bool {
        self.code == code::BAD_ARGUMENTS && self.message.contains("Streaming query is not supported")
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for EngineError {}

/// Finds `Code: N` and returns its position and the code.
fn parse_code(text: &str) -> Option<(usize, u32)> {
    let start = text.find("Code: ")?;
    let digits = &text[start + "Code: ".len()..];
    let end = digits
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(digits.len());
    Some((start, digits[..end].parse().ok()?))
}

/// Maps error codes to HTTP statuses as ClickHouse does.
fn status(code: u32) -> StatusCode {
    match code {
        // REQUIRED_PASSWORD
        194 => StatusCode::UNAUTHORIZED,
        // UNKNOWN_USER, WRONG_PASSWORD, ACCESS_DENIED, SET_NON_GRANTED_ROLE, AUTHENTICATION_FAILED
        192 | 193 | 497 | 512 | 516 => StatusCode::FORBIDDEN,
        // CANNOT_PARSE_*, BAD_ARGUMENTS, type mismatches, SYNTAX_ERROR
        6 | 25 | 26 | 27 | 36 | 38 | 41 | 43 | 53 | 62 | 72 | 117 | 167 | 168 | 223 | 376 | 427 | 456
        | 457 => StatusCode::BAD_REQUEST,
        // UNKNOWN_FUNCTION, _IDENTIFIER, _TYPE, _STORAGE, _TABLE, _AGGREGATE_FUNCTION, _FORMAT,
        // _TYPE_OF_QUERY, _DATABASE, _SETTING, _DATABASE_ENGINE
        46 | 47 | 50 | 56 | 60 | 63 | 73 | 78 | 81 | 115 | 336 => StatusCode::NOT_FOUND,
        // TIMEOUT_EXCEEDED
        159 => StatusCode::REQUEST_TIMEOUT,
        code::TOO_MANY_BYTES => StatusCode::PAYLOAD_TOO_LARGE,
        code::NOT_IMPLEMENTED => StatusCode::NOT_IMPLEMENTED,
        // CANNOT_OPEN_FILE, SOCKET_TIMEOUT, CANNOT_SCHEDULE_TASK, TOO_MANY_SIMULTANEOUS_QUERIES
        76 | code::SOCKET_TIMEOUT | 439 | code::TOO_MANY_SIMULTANEOUS_QUERIES => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Returns the block that ends a response if the query fails after the headers were sent.
///
/// Clients find it by the tag in the `X-ClickHouse-Exception-Tag` header.
pub(crate) fn exception_block(error: &EngineError, version: &str, tag: &str) -> String {
    let line = error.to_line(version);
    format!(
        "\r\n__exception__\r\n{tag}\r\n{line}{} {tag}\r\n__exception__\r\n",
        line.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_errors_keep_their_code() {
        let error =
            EngineError::from_engine("Code: 60. DB::Exception: Table a.b does not exist. (UNKNOWN_TABLE)");
        assert_eq!(error.code, 60);
        assert_eq!(error.status(), StatusCode::NOT_FOUND);
        assert_eq!(
            error.to_line("26.7.2.1"),
            "Code: 60. DB::Exception: Table a.b does not exist. (UNKNOWN_TABLE) (version 26.7.2.1 (embedded build))\n"
        );
    }

    #[test]
    fn version_is_not_repeated() {
        let error =
            EngineError::from_engine("Error: Code: 73. DB::Exception: Unknown format (version 26.7.2.1)");
        assert_eq!(error.code, 73);
        assert_eq!(
            error.to_line("1"),
            "Code: 73. DB::Exception: Unknown format (version 26.7.2.1)\n"
        );
    }

    #[test]
    fn text_without_a_code_is_an_unknown_exception() {
        let error = EngineError::from_engine("Invalid or closed connection");
        assert_eq!(error.code, code::UNKNOWN_EXCEPTION);
        assert_eq!(error.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(
            error
                .to_string()
                .starts_with("Code: 1002. DB::Exception: Invalid or closed connection. (")
        );
        assert_eq!(EngineError::from_engine("Code: x").code, code::UNKNOWN_EXCEPTION);
    }

    #[test]
    fn exception_block_length_includes_the_newline() {
        let error = EngineError::from_engine("Code: 395. DB::Exception: no (version 1)");
        assert_eq!(
            exception_block(&error, "1", "abcdefghijklmnop"),
            "\r\n__exception__\r\nabcdefghijklmnop\r\nCode: 395. DB::Exception: no (version 1)\n\
             41 abcdefghijklmnop\r\n__exception__\r\n"
        );
    }

    #[test]
    fn statuses_match_clickhouse() {
        for (code, status) in [
            (516, 403),
            (62, 400),
            (60, 404),
            (81, 404),
            (159, 408),
            (48, 501),
            (241, 500),
        ] {
            assert_eq!(
                EngineError::new(code, "x").status().as_u16(),
                status,
                "code {code}"
            );
        }
    }
}
