//! Who may use the monitoring service: with keys in the configuration their holders, each on its tenant's account, as at
//! the gateway; without, everybody who reaches it.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};
use precis_runtime::config::{AccessConfig, KeyHash};
use precis_runtime::keys;
use precis_schemas::{ErrorCode, Token};

use super::problem::Refused;

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
    pub(crate) fn new(settings: &AccessConfig) -> Self {
        // Checked with the configuration, so that nothing is replaced here.
        let keys = settings.keys.iter();
        Self {
            keys: keys
                .map(|key| (key.hash, Token::sanitized(key.tenant())))
                .collect(),
        }
    }

    /// Who calls; none when a key is needed and there is none, or it is not known.
    fn caller(&self, headers: &HeaderMap) -> Option<Caller> {
        if self.keys.is_empty() {
            return Some(Caller { key_of: None });
        }
        let known = self.keys.iter().map(|(hash, tenant)| (hash, tenant));
        keys::holder(keys::presented(headers)?, known).map(|tenant| Caller {
            key_of: Some(tenant.clone()),
        })
    }
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
    use http::HeaderName;
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
