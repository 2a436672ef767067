//! Access control: one user.

use std::fmt;

use http::{HeaderMap, header};
use sha2::{Digest, Sha256};

use crate::errors::{EngineError, code};

/// The default user of every ClickHouse server.
pub(crate) const DEFAULT_USER: &str = "default";

/// The credentials of a request.
#[derive(Default)]
pub(crate) struct Credentials {
    /// User name; `None` stands for the default user.
    pub(crate) user: Option<String>,
    /// Password; `None` stands for an empty one.
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
            let rejected = || {
                EngineError::new(
                    code::AUTHENTICATION_FAILED,
                    "Invalid authentication: only 'Basic' HTTP authentication is available here",
                )
            };
            let (scheme, encoded) = authorization.split_once(' ').ok_or_else(rejected)?;
            if !scheme.eq_ignore_ascii_case("basic") {
                return Err(rejected());
            }
            let decoded = decode_base64(encoded.trim()).and_then(|bytes| String::from_utf8(bytes).ok());
            let (user, password) = decoded
                .as_deref()
                .and_then(|text| text.split_once(':'))
                .ok_or_else(rejected)?;
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

/// The one user of the embedded engine.
pub(crate) struct Account {
    user: String,
    password: [u8; 32],
}

impl Account {
    /// Creates the account. `None` stands for an empty password.
    pub(crate) fn new(user: &str, password: Option<&str>) -> Self {
        Self {
            user: user.to_owned(),
            password: digest(password.unwrap_or_default()),
        }
    }

    /// Checks credentials in constant time.
    ///
    /// # Errors
    /// If the user or the password is wrong.
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
            .fold(0_u8, |difference, (expected, given)| {
                difference | (expected ^ given)
            });
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

/// Decodes standard base64, with or without padding.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').bytes();
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0_u32);
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
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
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
    fn only_the_configured_user_and_password_pass() {
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
    fn credentials_are_read_from_own_headers_and_basic_auth() {
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
}
