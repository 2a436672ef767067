//! Checks that the sections share.

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use precis_schemas::Token;

use super::ConfigError;
use super::secret::{Secret, ServerUrl};

/// Fails with `problem` unless `holds`.
pub(super) fn require(holds: bool, key: &'static str, problem: impl Into<String>) -> Result<(), ConfigError> {
    if holds {
        return Ok(());
    }
    let problem = problem.into();
    Err(ConfigError::Invalid { key, problem })
}

/// Fails unless `value` lies within `range`.
#[allow(clippy::needless_pass_by_value, reason = "callers write ranges as literals")]
pub(super) fn within<T: Copy + PartialOrd + Display>(
    key: &'static str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<(), ConfigError> {
    let problem = format!("must be {} to {}", range.start(), range.end());
    require(range.contains(&value), key, problem)
}

/// Fails unless `value` is at most `max`.
pub(super) fn at_most(key: &'static str, value: u64, max: u64) -> Result<(), ConfigError> {
    require(value <= max, key, format!("must be at most {max}"))
}

/// Fails unless `value` is above 0. NaN fails too.
pub(super) fn positive<T: Copy + PartialOrd + Default>(
    key: &'static str,
    value: T,
) -> Result<(), ConfigError> {
    require(value > T::default(), key, "must be above 0")
}

/// Fails if `text` is blank.
pub(super) fn not_blank(key: &'static str, text: &str) -> Result<(), ConfigError> {
    require(!text.trim().is_empty(), key, "must not be empty")
}

/// Fails unless `text` can be one token of a NATS subject.
pub(super) fn token(key: &'static str, text: &str) -> Result<(), ConfigError> {
    match Token::new("the name", text) {
        Ok(_) => Ok(()),
        Err(error) => require(false, key, error.to_string()),
    }
}

/// Fails unless `url`, if set, is an HTTP URL.
pub(super) fn http_url(key: &'static str, url: Option<&ServerUrl>) -> Result<(), ConfigError> {
    let is_http = |url: &ServerUrl| {
        let url = url.expose();
        url.starts_with("http://") || url.starts_with("https://")
    };
    require(
        url.is_none_or(is_http),
        key,
        "must begin with http:// or https://",
    )
}

/// Fails if a server of `url` is an address to listen on, such as `0.0.0.0`: no client can connect to it.
pub(super) fn connectable(key: &'static str, url: &ServerUrl) -> Result<(), ConfigError> {
    let shown = url.shown();
    let mut hosts = shown.split(',').map(|server| {
        let server = server
            .split_once("://")
            .map_or(server, |(_, server)| server)
            .trim();
        let authority = server.split(['/', '?', '#']).next().unwrap_or_default();
        match authority.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => authority.split(':').next().unwrap_or_default(),
        }
    });
    let listens = hosts.any(|host| host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()));
    require(
        !listens,
        key,
        "must be an address that clients can connect to; 0.0.0.0 and [::] are addresses to listen on (for NATS, see \
         standalone.nats_listen)",
    )
}

/// Fails unless `secret`, if set, fits into an HTTP header.
pub(super) fn header_value(key: &'static str, secret: Option<&Secret>) -> Result<(), ConfigError> {
    let is_visible = |secret: &Secret| secret.expose().bytes().all(|byte| byte.is_ascii_graphic());
    require(
        secret.is_none_or(is_visible),
        key,
        "must be visible ASCII characters without spaces",
    )
}
