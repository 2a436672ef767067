//! Access to the monitoring service. With API keys in the configuration, each request needs one and acts for its
//! tenant, as at the gateway. Without keys, every request is allowed.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};
use precis_runtime::config::{AccessConfig, KeyHash};
use precis_runtime::keys;
use precis_schemas::{ErrorCode, Token};

use super::problem::ProblemResponse;

/// Tenant of requests when no keys are configured.
const PUBLIC: &str = "public";

/// The client of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    tenant_of_key: Option<Token>,
    sees_all: bool,
}

impl Caller {
    /// Returns the tenant that logged predictions belong to.
    pub(super) fn tenant(&self) -> Token {
        self.tenant_of_key
            .clone()
            .unwrap_or_else(|| Token::sanitized(PUBLIC))
    }

    /// Returns the tenant whose predictions the caller may see, or `""` for all.
    pub(super) fn sees(&self) -> &str {
        match &self.tenant_of_key {
            Some(tenant) if !self.sees_all => tenant.as_str(),
            _ => "",
        }
    }
}

/// The API keys with their tenants, and whether each is an operator's.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    keys: Vec<(KeyHash, (Token, bool))>,
}

impl Guard {
    /// Creates the guard.
    pub(crate) fn new(settings: &AccessConfig) -> Self {
        // Names were validated with the configuration, so nothing is replaced here.
        let keys = settings.keys.iter();
        Self {
            keys: keys
                .map(|key| (key.hash, (Token::sanitized(key.tenant()), key.operator)))
                .collect(),
        }
    }

    /// Returns the caller, or `None` if a key is needed and missing or unknown.
    fn caller(&self, headers: &HeaderMap) -> Option<Caller> {
        if self.keys.is_empty() {
            return Some(Caller {
                tenant_of_key: None,
                sees_all: true,
            });
        }
        let known = self.keys.iter().map(|(hash, holder)| (hash, holder));
        keys::find_holder(keys::from_headers(headers)?, known).map(|(tenant, operator)| Caller {
            tenant_of_key: Some(tenant.clone()),
            sees_all: *operator,
        })
    }
}

/// Passes a request on with its [`Caller`], or rejects it.
pub(super) async fn check(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    if let Some(caller) = guard.caller(request.headers()) {
        request.extensions_mut().insert(caller);
        return next.run(request).await;
    }
    let message = "this route needs an API key: send `Authorization: Bearer …` or `X-Api-Key: …`";
    let mut response = ProblemResponse::new(ErrorCode::Unauthorized, message).into_response();
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
    fn configured_keys_are_required_and_limited_to_their_tenant() {
        let headers = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
        };
        let open = Guard::default();
        let caller = open.caller(&HeaderMap::new()).unwrap();
        assert_eq!((caller.tenant().as_str(), caller.sees()), ("public", ""));
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
        let operator = text.replace("tenant = 'news'", "operator = true");
        let operator = Guard::new(&Config::from_toml(&operator).unwrap().access);
        let caller = operator.caller(&headers("x-api-key", "test")).unwrap();
        assert_eq!((caller.tenant().as_str(), caller.sees()), ("a", ""));
        assert_eq!(guard.caller(&HeaderMap::new()), None);
        assert_eq!(guard.caller(&headers("x-api-key", "other")), None);
    }
}
