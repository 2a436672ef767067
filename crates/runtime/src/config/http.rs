//! `[http]`: how the gateway speaks HTTP, and how long it bears with a slow client.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::lists::texts;

/// `[http]`: how the gateway speaks HTTP, and how long it bears with a slow client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// How long the head of a request may take to arrive, and how long a connection may idle, in seconds.
    pub header_timeout_seconds: u64,
    /// How long the body of a request may take to arrive, in seconds. Uploads have limits of their own.
    pub body_timeout_seconds: u64,
    /// How long a client may leave an answer unread before it is cut off, in seconds.
    pub write_timeout_seconds: u64,
    /// Largest head of a request, in bytes; a larger one is answered 431. At least 8192.
    pub max_header_bytes: usize,
    /// Most header fields of a request; more are answered 431.
    pub max_headers: usize,
    /// Longest path and query, in bytes; a longer one is answered 414.
    pub max_uri_bytes: usize,
    /// Most connections at once; further ones wait to be accepted.
    pub max_connections: usize,
    /// Origins whose pages may call the gateway (CORS): `https://app.example.com`, or `*` for all. None: no page may.
    #[serde(deserialize_with = "texts")]
    pub cors_origins: Vec<String>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            header_timeout_seconds: 30,
            body_timeout_seconds: 30,
            write_timeout_seconds: 60,
            max_header_bytes: 32 << 10,
            max_headers: 100,
            max_uri_bytes: 8 << 10,
            max_connections: 10_000,
            cors_origins: Vec::new(),
        }
    }
}

impl HttpConfig {
    /// How long the head of a request may take.
    pub fn header_timeout(&self) -> Duration {
        Duration::from_secs(self.header_timeout_seconds)
    }

    /// How long the body of a request may take.
    pub fn body_timeout(&self) -> Duration {
        Duration::from_secs(self.body_timeout_seconds)
    }

    /// How long an answer may stay unread.
    pub fn write_timeout(&self) -> Duration {
        Duration::from_secs(self.write_timeout_seconds)
    }

    /// Checks what types alone don't.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let seconds = |value: u64| (1..=3_600).contains(&value);
        let checks = [
            (
                "http.header_timeout_seconds",
                seconds(self.header_timeout_seconds),
                "must be 1 to 3600",
            ),
            (
                "http.body_timeout_seconds",
                seconds(self.body_timeout_seconds),
                "must be 1 to 3600",
            ),
            (
                "http.write_timeout_seconds",
                seconds(self.write_timeout_seconds),
                "must be 1 to 3600",
            ),
            (
                "http.max_header_bytes",
                (8_192..=1 << 20).contains(&self.max_header_bytes),
                "must be 8192 to 1048576",
            ),
            (
                "http.max_headers",
                (10..=1_000).contains(&self.max_headers),
                "must be 10 to 1000",
            ),
            (
                "http.max_uri_bytes",
                (256..=65_534).contains(&self.max_uri_bytes),
                "must be 256 to 65534",
            ),
            (
                "http.max_connections",
                self.max_connections > 0,
                "must be above 0",
            ),
        ];
        for (key, fine, problem) in checks {
            if !fine {
                let problem = problem.to_owned();
                return Err(ConfigError::Invalid { key, problem });
            }
        }
        for origin in &self.cors_origins {
            let plain = origin.split_once("://").is_some_and(|(scheme, host)| {
                matches!(scheme, "http" | "https")
                    && !host.is_empty()
                    && host.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
            });
            if origin != "*" && !plain {
                return Err(ConfigError::Invalid {
                    key: "http.cors_origins",
                    problem: format!(
                        "an origin is a scheme and a host, such as https://app.example.com, or *; {origin:?} is not"
                    ),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::Config;

    #[test]
    fn an_origin_has_no_path_and_a_timeout_is_above_zero() {
        let problem = |text: &str| {
            Config::from_toml(&format!("[http]\n{text}"))
                .unwrap_err()
                .to_string()
        };
        for origin in ["https://a.example/", "a.example", "ftp://a.example", ""] {
            assert!(problem(&format!("cors_origins = ['{origin}']")).contains("http.cors_origins"));
        }
        assert!(problem("header_timeout_seconds = 0").contains("http.header_timeout_seconds"));
        let good = "[http]\ncors_origins = 'https://a.example, http://localhost:3000'";
        assert_eq!(Config::from_toml(good).unwrap().http.cors_origins.len(), 2);
    }
}
