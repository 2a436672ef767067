//! Refuses requests that a foreign web page sends through a browser which can reach a listener without keys.
//!
//! A page can send requests to `http://127.0.0.1:8000` from the browser of anyone who runs Precis. It can't choose three
//! headers: `Host` shows a name that was rebound to this address (DNS rebinding), `Origin` shows the page's site, and
//! `Sec-Fetch-Site` shows whether the page is from here. Programs send only `Host`.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use http::{HeaderMap, HeaderName, Method, Uri, header};
use precis_schemas::ErrorCode;
use precis_schemas::error_code::Refusal;

use crate::config::{AccessConfig, HttpConfig};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Writes the response to a refused request.
pub type WriteRefusal = fn(Refusal) -> Response;

/// Decides which requests of browsers pass. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BrowserGuard(Arc<Rules>);

#[derive(Debug)]
struct Rules {
    /// Host names that pass besides `localhost`, in lower case.
    hosts: Vec<String>,
    /// Origins whose pages may send requests.
    origins: Vec<String>,
    /// Whether a link on a foreign page may open a page of this listener.
    allows_links: bool,
}

impl BrowserGuard {
    /// Creates the guard of a listener without keys.
    pub fn new(settings: &HttpConfig) -> Self {
        let names = settings.allowed_hosts.iter();
        Self(Arc::new(Rules {
            hosts: names.map(|name| name.to_ascii_lowercase()).collect(),
            origins: settings.cors_origins.clone(),
            allows_links: true,
        }))
    }

    /// Creates the guard of a listener that needs keys if there are some. With keys it needs no guard: a foreign page
    /// knows none.
    pub fn unless_keys(settings: &HttpConfig, access: &AccessConfig) -> Option<Self> {
        access.keys.is_empty().then(|| Self::new(settings))
    }

    /// Creates the guard of a listener that serves no pages: nothing on a foreign page may lead to it, a link included.
    pub fn without_pages(settings: &HttpConfig) -> Self {
        Self(Arc::new(Rules {
            hosts: settings
                .allowed_hosts
                .iter()
                .map(|name| name.to_ascii_lowercase())
                .collect(),
            origins: Vec::new(),
            allows_links: false,
        }))
    }

    /// Checks the head of a request.
    ///
    /// # Errors
    /// If the request names a host that is not allowed, or a foreign page sent it.
    pub fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        self.check_host(uri, headers)?;
        self.check_page(method, headers)
    }

    fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let named = headers
            .get_all(header::HOST)
            .iter()
            .map(|host| host.to_str().unwrap_or_default());
        // HTTP/2 has the host in the URI, and HTTP/1 may have one there too.
        let authority = uri.authority().map(http::uri::Authority::as_str);
        match named.chain(authority).find(|host| !self.0.allows_host(host)) {
            None => Ok(()),
            Some(host) => Err(Refusal::new(
                ErrorCode::HostNotAllowed,
                format!(
                    "this address is not served under the name {:?}: use its IP address or localhost, or add the name to \
                     http.allowed_hosts",
                    shown(host_of(host))
                ),
            )),
        }
    }

    fn check_page(&self, method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
        let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let origin = text(&header::ORIGIN);
        let is_foreign = match text(&SEC_FETCH_SITE) {
            Some(site) => !matches!(site, "same-origin" | "none"),
            None => origin.is_some_and(|origin| {
                let authority = origin.split_once("://").map(|(_, authority)| authority);
                let host = text(&header::HOST);
                authority.is_none()
                    || !authority
                        .zip(host)
                        .is_some_and(|(a, b)| a.eq_ignore_ascii_case(b))
            }),
        };
        let is_link = self.0.allows_links
            && matches!(*method, Method::GET | Method::HEAD)
            && text(&SEC_FETCH_MODE) == Some("navigate")
            && text(&SEC_FETCH_DEST) == Some("document");
        if !is_foreign || is_link || self.0.allows_origin(origin) {
            return Ok(());
        }
        let page = match origin {
            Some(origin) => format!("a page at {:?}", shown(origin)),
            None => "a page of another site".to_owned(),
        };
        Err(Refusal::new(
            ErrorCode::CrossOriginRefused,
            format!("{page} sent this request, and http.cors_origins does not list it"),
        ))
    }

    /// Wraps `routes`. `refuse` writes the response to a refused request.
    pub fn wrap<S>(self, routes: Router<S>, refuse: WriteRefusal) -> Router<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        routes.layer(middleware::from_fn_with_state((self, refuse), check))
    }
}

async fn check(
    State((guard, refuse)): State<(BrowserGuard, WriteRefusal)>,
    request: Request,
    next: Next,
) -> Response {
    match guard.check(request.method(), request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refuse(refusal),
    }
}

impl Rules {
    fn allows_host(&self, authority: &str) -> bool {
        let host = host_of(authority).trim_end_matches('.').to_ascii_lowercase();
        // Nobody can rebind an address, and browsers resolve `localhost` to loopback.
        host == "localhost"
            || host.ends_with(".localhost")
            || host.parse::<IpAddr>().is_ok()
            || self
                .hosts
                .iter()
                .any(|allowed| *allowed == host || allowed == "*")
    }

    fn allows_origin(&self, origin: Option<&str>) -> bool {
        self.origins
            .iter()
            .any(|allowed| allowed == "*" || Some(allowed.as_str()) == origin)
    }
}

/// Returns the host of `host`, `host:port` or `[address]:port`.
fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(host, _)| host),
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    }
}

/// Returns the beginning of a header for a message.
fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> HttpConfig {
        HttpConfig {
            allowed_hosts: vec!["Precis.example.com".into()],
            cors_origins: vec!["https://app.example.com".into()],
            ..HttpConfig::default()
        }
    }

    fn check(guard: &BrowserGuard, method: &Method, headers: &[(&'static str, &str)]) -> Option<ErrorCode> {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        let checked = guard.check(method, &Uri::from_static("/v1/summaries"), &headers);
        checked.err().map(|refusal| refusal.code)
    }

    #[test]
    fn addresses_localhost_and_configured_names_are_the_only_hosts() {
        let guard = BrowserGuard::new(&settings());
        for host in [
            "localhost",
            "LOCALHOST:8000",
            "api.localhost:8000",
            "127.0.0.1:8000",
            "10.1.2.3",
            "[::1]:8000",
            "[fe80::1]",
            "precis.example.com",
            "PRECIS.example.com.:443",
        ] {
            assert_eq!(check(&guard, &Method::GET, &[("host", host)]), None, "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8000",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "x.precis.example.com",
            "",
            "é",
        ] {
            let refused = check(&guard, &Method::GET, &[("host", host)]);
            assert_eq!(refused, Some(ErrorCode::HostNotAllowed), "{host}");
        }
        let two = check(
            &guard,
            &Method::GET,
            &[("host", "localhost"), ("host", "evil.example")],
        );
        assert_eq!(two, Some(ErrorCode::HostNotAllowed));
        let absolute = Uri::from_static("http://evil.example/");
        assert!(guard.check(&Method::GET, &absolute, &HeaderMap::new()).is_err());
        // HTTP/1.0 without `Host`: no browser sends it.
        assert_eq!(check(&guard, &Method::POST, &[]), None);
        let any = HttpConfig {
            allowed_hosts: vec!["*".into()],
            ..HttpConfig::default()
        };
        assert_eq!(
            check(
                &BrowserGuard::new(&any),
                &Method::GET,
                &[("host", "evil.example")]
            ),
            None
        );
    }

    #[test]
    fn pages_of_other_origins_are_refused_unless_listed() {
        let guard = BrowserGuard::new(&settings());
        let host = ("host", "127.0.0.1:8000");
        for passed in [
            &[("origin", "http://127.0.0.1:8000")][..],
            &[("origin", "https://app.example.com")],
            &[
                ("origin", "https://app.example.com"),
                ("sec-fetch-site", "cross-site"),
            ],
            &[("sec-fetch-site", "none")],
            // A proxy replaced the host, and the browser vouches for the page.
            &[
                ("origin", "https://proxy.example.com"),
                ("sec-fetch-site", "same-origin"),
            ],
        ] {
            assert_eq!(
                check(&guard, &Method::POST, &[&[host], passed].concat()),
                None,
                "{passed:?}"
            );
        }
        for refused in [
            &[("origin", "https://evil.example")][..],
            &[("origin", "null")],
            &[("origin", "http://127.0.0.1:3000")],
            &[("origin", "http://localhost:8000")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
        ] {
            for method in [Method::GET, Method::POST, Method::OPTIONS, Method::DELETE] {
                let code = check(&guard, &method, &[&[host], refused].concat());
                assert_eq!(code, Some(ErrorCode::CrossOriginRefused), "{method} {refused:?}");
            }
        }
    }

    #[test]
    fn a_link_opens_a_page_and_nothing_else() {
        let link = [
            ("host", "localhost:8000"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        let guard = BrowserGuard::new(&settings());
        assert_eq!(check(&guard, &Method::GET, &link), None);
        assert!(check(&guard, &Method::POST, &link).is_some(), "a form");
        let framed = [&link[..3], &[("sec-fetch-dest", "iframe")]].concat();
        assert!(check(&guard, &Method::GET, &framed).is_some());
        let without_pages = BrowserGuard::without_pages(&settings());
        assert!(check(&without_pages, &Method::GET, &link).is_some());
        let listed = [("host", "localhost"), ("origin", "https://app.example.com")];
        assert!(check(&without_pages, &Method::POST, &listed).is_some());
    }
}
