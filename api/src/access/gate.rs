//! Authenticates requests and applies rate limits, before any route.

use std::sync::Arc;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};
use precis_runtime::config::AccessConfig;
use precis_runtime::keys;
use precis_schemas::{ErrorCode, Token};

use super::caller::Caller;
use super::key::Key;
use super::rate::Rate;
use crate::http::problem::ApiError;
use crate::metrics;

/// All keys, and the routes that need none.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    keys: Vec<Arc<Key>>,
    open_routes: Vec<String>,
}

impl Gate {
    /// Creates a gate with these settings.
    pub(crate) fn new(settings: &AccessConfig) -> Self {
        Self {
            keys: settings.keys.iter().map(|key| Arc::new(Key::new(key))).collect(),
            open_routes: settings.open_routes.clone(),
        }
    }

    fn is_open(&self, path: &str) -> bool {
        self.open_routes.iter().any(|open| {
            let rest = path.strip_prefix(open.trim_end_matches('/'));
            path == open || (open != "/" && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
        })
    }

    /// Finds a key by its text.
    fn key(&self, presented: &str) -> Option<Arc<Key>> {
        keys::find_holder(presented, self.keys.iter().map(|key| (&key.hash, key))).cloned()
    }

    /// Identifies the caller.
    ///
    /// # Errors
    /// If the route needs a key and the key is missing or unknown.
    fn caller(&self, path: &str, headers: &HeaderMap) -> Result<Caller, Unauthorized> {
        if self.keys.is_empty() {
            return Ok(Caller::unrestricted());
        }
        let presented = keys::from_headers(headers);
        match presented.and_then(|text| self.key(text)) {
            Some(key) => Ok(Caller::with_key(key)),
            None if self.is_open(path) => Ok(Caller::without_key()),
            None if presented.is_some() => Err(Unauthorized::UnknownKey),
            None => Err(Unauthorized::NoKey),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unauthorized {
    NoKey,
    UnknownKey,
}

impl IntoResponse for Unauthorized {
    fn into_response(self) -> Response {
        let (challenge, message) = match self {
            Self::NoKey => (
                "Bearer realm=\"precis\"",
                "this route needs an API key: send `Authorization: Bearer …` or `X-Api-Key: …`",
            ),
            Self::UnknownKey => (
                "Bearer realm=\"precis\", error=\"invalid_token\"",
                "this API key is unknown",
            ),
        };
        let mut response = ApiError::new(ErrorCode::Unauthorized, message).into_response();
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        response
    }
}

fn rate_of(caller: &Caller) -> Option<&Rate> {
    caller.key()?.rate.as_ref()
}

/// A request that passed the gate.
#[derive(Debug)]
pub(crate) struct Admitted {
    caller: Caller,
    /// Requests that the key has left.
    remaining: Option<u32>,
}

impl Admitted {
    /// Adds the `RateLimit` headers to the response, and the caller for the log line.
    pub(crate) fn write_to(self, mut response: Response) -> Response {
        if let (Some(rate), Some(remaining)) = (rate_of(&self.caller), self.remaining) {
            rate.write(response.headers_mut(), remaining);
        }
        response.extensions_mut().insert(self.caller);
        response
    }
}

impl Gate {
    /// Admits a request and adds its [`Caller`] to the extensions.
    ///
    /// # Errors
    /// The error response, if the key is missing, unknown or over its rate limit.
    #[allow(clippy::result_large_err)] // the response is sent at once
    pub(crate) fn admit(&self, request: &mut Request) -> Result<Admitted, Response> {
        let caller = match self.caller(request.uri().path(), request.headers()) {
            Ok(caller) => caller,
            Err(unauthorized) => {
                metrics::refused("-", ErrorCode::Unauthorized);
                return Err(unauthorized.into_response());
            }
        };
        let remaining = match rate_of(&caller).map(Rate::spend) {
            Some(Err(exceeded)) => {
                let name = caller.key_name().map_or("-", Token::as_str);
                metrics::refused(name, ErrorCode::RateLimited);
                return Err(exceeded.into_response());
            }
            Some(Ok(remaining)) => Some(remaining),
            None => None,
        };
        request.extensions_mut().insert(caller.clone());
        Ok(Admitted { caller, remaining })
    }
}

#[cfg(test)]
mod tests {
    use precis_runtime::Config;
    use precis_runtime::config::KeyHash;

    use super::*;

    fn gate() -> Gate {
        let text = format!(
            "[[access.keys]]\nname = 'one'\nhash = '{}'\n[[access.keys]]\nname = 'two'\ntenant = 'shared'\nhash = '{}'",
            KeyHash::of("precis_one"),
            KeyHash::of("precis_two"),
        );
        Gate::new(&Config::from_toml(&text).unwrap().access)
    }

    fn caller(headers: &[(&'static str, &'static str)], path: &str) -> Result<Caller, Unauthorized> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_static(value));
        }
        gate().caller(path, &map)
    }

    #[test]
    fn a_key_in_either_header_determines_the_tenant() {
        for (headers, tenant) in [
            (&[("authorization", "Bearer precis_one")][..], "one"),
            (&[("authorization", "bearer  precis_two")], "shared"),
            (&[("x-api-key", "precis_two")], "shared"),
            // A signature of an AWS client is not a key.
            (
                &[
                    ("authorization", "AWS4-HMAC-SHA256 Credential=x"),
                    ("x-api-key", "precis_one"),
                ],
                "one",
            ),
        ] {
            let caller = caller(headers, "/v1/summaries").unwrap();
            assert_eq!(caller.tenant().as_str(), tenant);
            assert!(!caller.sees_all());
        }
        for (headers, expected) in [
            (&[][..], Unauthorized::NoKey),
            (&[("authorization", "Basic eDp5")], Unauthorized::NoKey),
            (&[("authorization", "Bearer ")], Unauthorized::NoKey),
            (&[("x-api-key", "precis_three")], Unauthorized::UnknownKey),
            (
                &[("authorization", "Bearer x"), ("x-api-key", "precis_one")],
                Unauthorized::UnknownKey,
            ),
        ] {
            assert_eq!(caller(headers, "/v1/summaries").unwrap_err(), expected);
        }
    }

    #[test]
    fn only_configured_routes_are_open() {
        for open in [
            "/",
            "/healthz",
            "/errors",
            "/errors/queue_full",
            "/docs/index.css",
        ] {
            assert!(caller(&[], open).is_ok(), "{open}");
        }
        for closed in ["/healthzz", "/v1/jobs/a", "/metrics", "//", "/docsx", ""] {
            assert!(caller(&[], closed).is_err(), "{closed}");
        }
        // A key identifies the caller on an open route too.
        let known = caller(&[("x-api-key", "precis_two")], "/ping").unwrap();
        assert_eq!(known.tenant().as_str(), "shared");
    }
}
