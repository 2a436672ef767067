//! Who may use the monitoring service: with keys in the configuration their holders, each on its tenant's account, as at
//! the gateway; without, everybody who reaches it.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use precis_runtime::config::{Access, KeyHash};
use precis_schemas::{ErrorCode, Token};

use super::refused::Refused;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// Longest key that is worth hashing, in bytes.
const MAX_KEY_BYTES: usize = 512;
/// Account of requests where there are no keys.
const PUBLIC: &str = "public";

/// Whoever sent a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    key_of: Option<Token>,
}

impl Caller {
    /// On whose account a prediction is that the caller logs.
    pub(super) fn tenant(&self) -> Token {
        self.key_of.clone().unwrap_or_else(|| Token::sanitized(PUBLIC))
    }

    /// The tenant whose predictions alone the caller sees; empty: those of all.
    pub(super) fn sees(&self) -> &str {
        self.key_of.as_ref().map_or("", Token::as_str)
    }
}

/// The keys, each with its tenant.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    keys: Vec<(KeyHash, Token)>,
}

impl Guard {
    /// A guard with these settings.
    pub(crate) fn new(settings: &Access) -> Self {
        // Checked with the configuration, so that nothing is replaced here.
        let keys = settings.keys.iter();
        Self {
            keys: keys
                .map(|key| (key.hash, Token::sanitized(key.tenant())))
                .collect(),
        }
    }

    /// Who calls; none when a key is needed and there is none, or it is not known. All keys are compared, each in constant
    /// time.
    fn caller(&self, headers: &HeaderMap) -> Option<Caller> {
        if self.keys.is_empty() {
            return Some(Caller { key_of: None });
        }
        let hash = KeyHash::of(presented(headers).filter(|key| key.len() <= MAX_KEY_BYTES)?);
        let mut found = None;
        for (known, tenant) in &self.keys {
            if known.matches(&hash) {
                found = Some(tenant.clone());
            }
        }
        found.map(|tenant| Caller { key_of: Some(tenant) })
    }
}

fn presented(headers: &HeaderMap) -> Option<&str> {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text(&header::AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    });
    bearer
        .or_else(|| text(&API_KEY).map(str::trim))
        .filter(|key| !key.is_empty())
}

/// Lets a request through with its [`Caller`], or refuses it.
pub(super) async fn check(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    if let Some(caller) = guard.caller(request.headers()) {
        request.extensions_mut().insert(caller);
        return next.run(request).await;
    }
    let message = "this route needs an API key: send `Authorization: Bearer …` or `X-Api-Key: …`";
    let mut response = Refused::new(ErrorCode::Unauthorized, message).into_response();
    let challenge = HeaderValue::from_static("Bearer realm=\"precis\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    response
}

#[cfg(test)]
mod tests {
    use precis_runtime::Config;

    use super::*;

    #[test]
    fn a_key_is_needed_where_there_are_keys_and_shows_its_tenant_alone() {
        let headers = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
        };
        let open = Guard::default();
        let anybody = open.caller(&HeaderMap::new()).unwrap();
        assert_eq!((anybody.tenant().as_str(), anybody.sees()), ("public", ""));
        // SHA-256 of `test`.
        let text = "[[access.keys]]\nname = 'a'\ntenant = 'news'\n\
            hash = 'sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08'";
        let guard = Guard::new(&Config::from_toml(text).unwrap().access);
        for known in [
            headers("authorization", "Bearer test"),
            headers("x-api-key", "test"),
        ] {
            let caller = guard.caller(&known).unwrap();
            assert_eq!((caller.tenant().as_str(), caller.sees()), ("news", "news"));
        }
        assert_eq!(guard.caller(&HeaderMap::new()), None);
        assert_eq!(guard.caller(&headers("x-api-key", "other")), None);
    }
}
