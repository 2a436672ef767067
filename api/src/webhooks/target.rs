//! Decides which URLs may be called, against server-side request forgery.
//!
//! A URL is checked at submission and again before each attempt. Each attempt resolves the name once and connects only
//! to allowed addresses, so a second lookup cannot lead elsewhere. Redirects and proxies are not followed.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures::FutureExt;
use ipnet::IpNet;
use precis_runtime::config::WebhooksConfig;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::network::may_call;

/// Maximum length of a URL, in bytes.
const MAX_URL_BYTES: usize = 2_048;

/// Why a URL is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TargetViolation {
    /// It is not a valid URL, or too long.
    #[error("must be a URL of at most {MAX_URL_BYTES} bytes")]
    NotAUrl,
    /// The scheme is not allowed.
    #[error("the scheme is {0}, but must be https")]
    Scheme(String),
    /// It contains a user or a password.
    #[error("must not contain a user or a password")]
    Credentials,
    /// The port is not allowed.
    #[error("port {0} is not allowed (webhooks.ports)")]
    Port(u16),
    /// The address is in a network that is not allowed.
    #[error(
        "it resolves to an address that is not allowed: private, loopback, link-local, or otherwise not public"
    )]
    Network,
}

/// Decides which URLs may be called. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct TargetPolicy(Arc<Rules>);

#[derive(Debug)]
struct Rules {
    allow_http: bool,
    ports: Vec<u16>,
    networks: Vec<IpNet>,
}

impl TargetPolicy {
    /// Reads the policy from the configuration.
    pub(super) fn new(settings: &WebhooksConfig) -> Self {
        Self(Arc::new(Rules {
            allow_http: settings.allow_http,
            ports: settings.ports.clone(),
            networks: settings.allow_networks.clone(),
        }))
    }

    /// Parses a URL and checks everything that does not need its name resolved.
    pub(super) fn check(&self, text: &str) -> Result<Url, TargetViolation> {
        let url: Url = match text.parse() {
            Ok(url) if text.len() <= MAX_URL_BYTES => url,
            _ => return Err(TargetViolation::NotAUrl),
        };
        match url.scheme() {
            "https" => {}
            "http" if self.0.allow_http => {}
            other => return Err(TargetViolation::Scheme(other.chars().take(20).collect())),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TargetViolation::Credentials);
        }
        // Both schemes have a default port.
        let port = url.port_or_known_default().unwrap_or_default();
        if !self.0.ports.is_empty() && !self.0.ports.contains(&port) {
            return Err(TargetViolation::Port(port));
        }
        // Parsing the URL has normalized every spelling of an IPv4 address, such as octal or a single number.
        let host = url.host_str().ok_or(TargetViolation::NotAUrl)?;
        match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) if !may_call(address, &self.0.networks) => Err(TargetViolation::Network),
            _ => Ok(url),
        }
    }
}

/// Resolves names to their allowed addresses.
impl Resolve for TargetPolicy {
    fn resolve(&self, name: Name) -> Resolving {
        let rules = self.0.clone();
        async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found
                .filter(|address| may_call(address.ip(), &rules.networks))
                .collect();
            if allowed.is_empty() {
                return Err(TargetViolation::Network.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_https_urls_without_credentials_are_allowed() {
        let policy = TargetPolicy::new(&WebhooksConfig::default());
        for allowed in [
            "https://hooks.example.com/precis?a=b",
            "https://hooks.example.com:8443/",
            "https://8.8.8.8/",
        ] {
            assert!(policy.check(allowed).is_ok(), "{allowed}");
        }
        for (url, violation) in [
            ("hooks.example.com", TargetViolation::NotAUrl),
            (
                "http://hooks.example.com/",
                TargetViolation::Scheme("http".into()),
            ),
            ("ftp://hooks.example.com/", TargetViolation::Scheme("ftp".into())),
            ("file:///etc/passwd", TargetViolation::Scheme("file".into())),
            ("https://me:pw@hooks.example.com/", TargetViolation::Credentials),
            ("https://hooks.example.com:22/", TargetViolation::Port(22)),
            ("https://127.0.0.1/", TargetViolation::Network),
            ("https://2130706433/", TargetViolation::Network),
            ("https://0x7f.1/", TargetViolation::Network),
            ("https://0251.0376.0251.0376/", TargetViolation::Network),
            ("https://[::ffff:10.0.0.1]/", TargetViolation::Network),
            ("https://[::1]/", TargetViolation::Network),
            (
                "https://169.254.169.254/latest/meta-data/",
                TargetViolation::Network,
            ),
        ] {
            assert_eq!(policy.check(url), Err(violation), "{url}");
        }
        let long = format!("https://hooks.example.com/{}", "x".repeat(3_000));
        assert_eq!(policy.check(&long), Err(TargetViolation::NotAUrl));
    }

    #[tokio::test]
    async fn a_name_never_resolves_to_a_private_address() {
        let resolve = |policy: TargetPolicy| async move {
            let name: Name = "localhost".parse().unwrap();
            policy.resolve(name).await.map(Iterator::count)
        };
        let refused = resolve(TargetPolicy::new(&WebhooksConfig::default()))
            .await
            .unwrap_err();
        assert!(refused.to_string().contains("is not allowed"), "{refused}");
        let allowed = WebhooksConfig {
            allow_networks: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
            ..WebhooksConfig::default()
        };
        assert!(resolve(TargetPolicy::new(&allowed)).await.unwrap() > 0);
    }
}
