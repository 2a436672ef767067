//! Who may ask: only programs of this machine, as the one user there is.

use std::fmt;
use std::net::IpAddr;

use http::{HeaderMap, header};
use sha2::{Digest, Sha256};

use crate::errors::{EngineError, code};

/// The user every ClickHouse server has.
pub(crate) const DEFAULT_USER: &str = "default";

/// What a request says about who sends it.
#[derive(Default)]
pub(crate) struct Credentials {
    /// The user's name; the default user if there is none.
    pub(crate) user: Option<String>,
    /// The password; empty if there is none.
    pub(crate) password: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads `X-ClickHouse-User` and `X-ClickHouse-Key`, or HTTP Basic authentication.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Result<Self, EngineError> {
        let text = |name: &str| {
            headers
                .get(name)
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        if let Some(authorization) = text(header::AUTHORIZATION.as_str()) {
            let refused = || {
                EngineError::new(
                    code::AUTHENTICATION_FAILED,
                    "Invalid authentication: only 'Basic' HTTP authentication is available here",
                )
            };
            let (scheme, packed) = authorization.split_once(' ').ok_or_else(refused)?;
            if !scheme.eq_ignore_ascii_case("basic") {
                return Err(refused());
            }
            let unpacked = base64(packed.trim()).and_then(|bytes| String::from_utf8(bytes).ok());
            let (user, password) = unpacked
                .as_deref()
                .and_then(|text| text.split_once(':'))
                .ok_or_else(refused)?;
            return Ok(Self {
                user: Some(user.to_owned()),
                password: Some(password.to_owned()),
            });
        }
        Ok(Self {
            user: text("x-clickhouse-user"),
            password: text("x-clickhouse-key"),
        })
    }
}

/// The one user of the embedded engine, with a password or without.
pub(crate) struct Account {
    user: String,
    password: [u8; 32],
}

impl Account {
    /// The account named `user`; without a password when there is none.
    pub(crate) fn new(user: &str, password: Option<&str>) -> Self {
        Self {
            user: user.to_owned(),
            password: digest(password.unwrap_or_default()),
        }
    }

    /// Refuses anyone else. The time it takes doesn't depend on how much of the password is right.
    pub(crate) fn check(&self, credentials: &Credentials) -> Result<(), EngineError> {
        let user = credentials
            .user
            .as_deref()
            .filter(|user| !user.is_empty())
            .unwrap_or(DEFAULT_USER);
        let password = digest(credentials.password.as_deref().unwrap_or_default());
        let difference = self
            .password
            .iter()
            .zip(password)
            .fold(0_u8, |difference, (mine, theirs)| difference | (mine ^ theirs));
        if std::hint::black_box(difference) == 0 && user == self.user {
            return Ok(());
        }
        Err(EngineError::new(
            code::AUTHENTICATION_FAILED,
            format!(
                "{user}: Authentication failed: password is incorrect, or there is no user with such name"
            ),
        ))
    }
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// Refuses what a web page may send from a browser on this machine: a page of another site names
/// itself in `Origin`, one that rebinds its name to 127.0.0.1 names itself in `Host`, and what a page
/// merely embeds is marked by the browser in `Sec-Fetch-Site`.
pub(crate) fn check_local(headers: &HeaderMap) -> Result<(), EngineError> {
    if headers
        .get("sec-fetch-site")
        .is_some_and(|site| site != "none" && site != "same-origin")
    {
        return Err(EngineError::new(
            code::AUTHENTICATION_FAILED,
            "the embedded engine doesn't answer pages of other sites",
        ));
    }
    for name in [header::HOST, header::ORIGIN] {
        if let Some(value) = headers.get(&name)
            && !value.to_str().is_ok_and(is_local)
        {
            return Err(EngineError::new(
                code::AUTHENTICATION_FAILED,
                format!("the embedded engine answers only this machine: the header '{name}' names another"),
            ));
        }
    }
    Ok(())
}

/// Whether `host`, `host:port` or `scheme://host:port` is this machine.
fn is_local(value: &str) -> bool {
    let authority = value.split_once("://").map_or(value, |(_, authority)| authority);
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(host, _)| host),
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    };
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Unpacks standard base64, with or without padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').bytes();
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn the_default_user_needs_no_password() {
        let account = Account::new(DEFAULT_USER, None);
        assert!(account.check(&Credentials::default()).is_ok());
        let with = |user: &str, password: &str| Credentials {
            user: Some(user.to_owned()),
            password: Some(password.to_owned()),
        };
        assert!(account.check(&with("default", "")).is_ok());
        assert_eq!(
            account.check(&with("default", "x")).unwrap_err().code,
            code::AUTHENTICATION_FAILED
        );
        assert_eq!(
            account.check(&with("root", "")).unwrap_err().code,
            code::AUTHENTICATION_FAILED
        );
        let account = Account::new("precis", Some("secret"));
        assert!(account.check(&with("precis", "secret")).is_ok());
        assert!(account.check(&with("precis", "secre")).is_err());
        assert!(account.check(&with("default", "secret")).is_err());
        assert!(account.check(&Credentials::default()).is_err());
    }

    #[test]
    fn credentials_come_from_either_kind_of_header() {
        let own =
            Credentials::from_headers(&headers(&[("x-clickhouse-user", "u"), ("x-clickhouse-key", "k")]))
                .unwrap();
        assert_eq!(
            (own.user.as_deref(), own.password.as_deref()),
            (Some("u"), Some("k"))
        );
        let basic =
            Credentials::from_headers(&headers(&[("authorization", "Basic dXNlcjpwYTpzcw==")])).unwrap();
        assert_eq!(
            (basic.user.as_deref(), basic.password.as_deref()),
            (Some("user"), Some("pa:ss"))
        );
        assert!(Credentials::from_headers(&headers(&[("authorization", "Bearer x")])).is_err());
        assert!(Credentials::from_headers(&headers(&[("authorization", "Basic !!!")])).is_err());
    }

    #[test]
    fn only_this_machine_is_local() {
        for value in [
            "localhost",
            "LOCALHOST:8123",
            "127.0.0.1:1",
            "[::1]:8123",
            "http://127.0.0.1:3000",
            "127.9.9.9",
        ] {
            assert!(is_local(value), "{value}");
        }
        for value in [
            "example.com",
            "http://evil.test",
            "10.0.0.1:8123",
            "localhost.evil.test",
            "null",
            "",
        ] {
            assert!(!is_local(value), "{value}");
        }
        assert!(
            check_local(&headers(&[
                ("host", "localhost:1"),
                ("origin", "http://evil.test")
            ]))
            .is_err()
        );
    }
}
