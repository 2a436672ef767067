//! `[http]`: the HTTP servers of all roles and their patience with slow clients.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::lists::texts;
use super::{ConfigError, Section, check};

/// The HTTP servers of all roles and their patience with slow clients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(documented::Documented, documented::DocumentedFields))]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Time limit for the head of a request, and for an idle connection. 1 to 3600.
    pub header_timeout_seconds: u64,
    /// Time limit for the body of a request, 1 to 3600. Uploads have their own limits in `[batches]`.
    pub body_timeout_seconds: u64,
    /// How long a client may leave a response unread before the connection is closed. 1 to 3600.
    pub write_timeout_seconds: u64,
    /// Maximum size of the head of a request, 8192 to 1048576. A larger one gets status 431.
    pub max_header_bytes: usize,
    /// Maximum number of header fields of a request, 10 to 1000. More get status 431.
    pub max_headers: usize,
    /// Maximum size of path and query at the gateway, 256 to 65534. A larger one gets status 414.
    pub max_uri_bytes: usize,
    /// Maximum number of open connections of a listener. Further ones wait.
    pub max_connections: usize,
    /// Host names under which clients may reach listeners without keys, or `*` for all. IP addresses and `localhost` always
    /// work. Other names are refused, because a web page can point its own name at this machine (DNS rebinding).
    #[serde(deserialize_with = "texts")]
    pub allowed_hosts: Vec<String>,
    /// Origins whose pages may call the gateway (CORS): `https://app.example.com`, or `*` for all. Empty: none.
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
            allowed_hosts: Vec::new(),
            cors_origins: Vec::new(),
        }
    }
}

impl HttpConfig {
    /// Returns the time limit for the head of a request.
    pub fn header_timeout(&self) -> Duration {
        Duration::from_secs(self.header_timeout_seconds)
    }

    /// Returns the time limit for the body of a request.
    pub fn body_timeout(&self) -> Duration {
        Duration::from_secs(self.body_timeout_seconds)
    }

    /// Returns the time limit for an unread response.
    pub fn write_timeout(&self) -> Duration {
        Duration::from_secs(self.write_timeout_seconds)
    }
}

impl Section for HttpConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let hour = 1..=3_600;
        check::within(
            "http.header_timeout_seconds",
            self.header_timeout_seconds,
            hour.clone(),
        )?;
        check::within(
            "http.body_timeout_seconds",
            self.body_timeout_seconds,
            hour.clone(),
        )?;
        check::within("http.write_timeout_seconds", self.write_timeout_seconds, hour)?;
        check::within("http.max_header_bytes", self.max_header_bytes, 8_192..=1 << 20)?;
        check::within("http.max_headers", self.max_headers, 10..=1_000)?;
        check::within("http.max_uri_bytes", self.max_uri_bytes, 256..=65_534)?;
        check::positive("http.max_connections", self.max_connections)?;
        self.allowed_hosts.iter().try_for_each(|name| {
            let problem = format!("must list names such as precis.example.com, or *; {name:?} is neither");
            check::require(is_host_name(name), "http.allowed_hosts", problem)
        })?;
        self.cors_origins.iter().try_for_each(|origin| {
            let problem =
                format!("must list origins such as https://app.example.com, or *; {origin:?} is neither");
            check::require(is_origin(origin), "http.cors_origins", problem)
        })
    }
}

/// Reports whether `text` is a host name without scheme and port.
fn is_host_name(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    text == "*" || (!text.is_empty() && text.bytes().all(is_part))
}

fn is_origin(text: &str) -> bool {
    let is_host =
        |host: &str| !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    text == "*"
        || text
            .split_once("://")
            .is_some_and(|(scheme, host)| matches!(scheme, "http" | "https") && is_host(host))
}

#[cfg(test)]
mod tests {
    use crate::Config;

    #[test]
    fn origins_with_a_path_hosts_with_a_port_and_zero_timeouts_are_rejected() {
        let problem = |text: &str| {
            Config::from_toml(&format!("[http]\n{text}"))
                .unwrap_err()
                .to_string()
        };
        for origin in ["https://a.example/", "a.example", "ftp://a.example", ""] {
            assert!(problem(&format!("cors_origins = ['{origin}']")).contains("http.cors_origins"));
        }
        for host in ["http://a.example", "a.example:8000", "*.example", ""] {
            assert!(problem(&format!("allowed_hosts = ['{host}']")).contains("http.allowed_hosts"));
        }
        assert!(problem("header_timeout_seconds = 0").contains("http.header_timeout_seconds"));
        let good = "[http]\ncors_origins = 'https://a.example, http://localhost:3000'";
        assert_eq!(Config::from_toml(good).unwrap().http.cors_origins.len(), 2);
    }
}
