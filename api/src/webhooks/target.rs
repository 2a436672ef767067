//! Which addresses may be called (server-side request forgery is what this is about).
//!
//! A URL is checked when it is submitted and again before each attempt. A name is resolved once for each attempt,
//! and only those of its addresses are connected to that may be called: there is no second look-up in which a name
//! could lead elsewhere. Redirects are not followed, proxies of the environment are not used.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures::FutureExt;
use ipnet::IpNet;
use precis_runtime::config::WebhooksConfig;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::network::may_call;

/// Longest URL, in bytes.
const MAX_URL_BYTES: usize = 2_048;

/// Why an address may not be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    /// It can't be read.
    #[error("it is no URL of at most {MAX_URL_BYTES} bytes")]
    NoUrl,
    /// It is neither https nor a scheme that is allowed besides.
    #[error("its scheme is {0}, and must be https")]
    Scheme(String),
    /// It carries a user or a password.
    #[error("it has a user or a password in it")]
    Credentials,
    /// Its port is not among the allowed ones.
    #[error("the port {0} may not be called")]
    Port(u16),
    /// It leads to a network that may not be called.
    #[error(
        "it leads to an address that may not be called (private, loopback, link-local, or otherwise not public)"
    )]
    Network,
}

/// Which addresses may be called. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Policy(Arc<Rules>);

#[derive(Debug)]
struct Rules {
    allow_http: bool,
    ports: Vec<u16>,
    networks: Vec<IpNet>,
}

impl Policy {
    /// The policy of the configuration.
    pub(crate) fn new(settings: &WebhooksConfig) -> Self {
        Self(Arc::new(Rules {
            allow_http: settings.allow_http,
            ports: settings.ports.clone(),
            networks: settings.allow_networks.clone(),
        }))
    }

    /// The URL, when it may be called as far as can be said without resolving its name.
    pub(crate) fn check(&self, text: &str) -> Result<Url, Problem> {
        let url: Url = match text.parse() {
            Ok(url) if text.len() <= MAX_URL_BYTES => url,
            _ => return Err(Problem::NoUrl),
        };
        match url.scheme() {
            "https" => {}
            "http" if self.0.allow_http => {}
            other => return Err(Problem::Scheme(other.chars().take(20).collect())),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Problem::Credentials);
        }
        // Both schemes have a port of their own.
        let port = url.port_or_known_default().unwrap_or_default();
        if !self.0.ports.is_empty() && !self.0.ports.contains(&port) {
            return Err(Problem::Port(port));
        }
        // However an address of IPv4 is written (octal, as one number), the URL has read it as an address.
        let host = url.host_str().ok_or(Problem::NoUrl)?;
        match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) if !may_call(address, &self.0.networks) => Err(Problem::Network),
            _ => Ok(url),
        }
    }
}

/// Resolves names to those of their addresses that may be called.
impl Resolve for Policy {
    fn resolve(&self, name: Name) -> Resolving {
        let rules = self.0.clone();
        async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found
                .filter(|address| may_call(address.ip(), &rules.networks))
                .collect();
            if allowed.is_empty() {
                return Err(Problem::Network.into());
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
    fn a_url_is_https_public_and_without_credentials() {
        let policy = Policy::new(&WebhooksConfig::default());
        for fine in [
            "https://hooks.example.com/precis?a=b",
            "https://hooks.example.com:8443/",
            "https://8.8.8.8/",
        ] {
            assert!(policy.check(fine).is_ok(), "{fine}");
        }
        for (bad, problem) in [
            ("hooks.example.com", Problem::NoUrl),
            ("http://hooks.example.com/", Problem::Scheme("http".into())),
            ("ftp://hooks.example.com/", Problem::Scheme("ftp".into())),
            ("file:///etc/passwd", Problem::Scheme("file".into())),
            ("https://me:pw@hooks.example.com/", Problem::Credentials),
            ("https://hooks.example.com:22/", Problem::Port(22)),
            ("https://127.0.0.1/", Problem::Network),
            ("https://2130706433/", Problem::Network),
            ("https://0x7f.1/", Problem::Network),
            ("https://0251.0376.0251.0376/", Problem::Network),
            ("https://[::ffff:10.0.0.1]/", Problem::Network),
            ("https://[::1]/", Problem::Network),
            ("https://169.254.169.254/latest/meta-data/", Problem::Network),
        ] {
            assert_eq!(policy.check(bad), Err(problem), "{bad}");
        }
        let long = format!("https://hooks.example.com/{}", "x".repeat(3_000));
        assert_eq!(policy.check(&long), Err(Problem::NoUrl));
    }

    #[tokio::test]
    async fn a_name_that_leads_to_a_private_address_is_not_connected_to() {
        let resolve = |policy: Policy| async move {
            let name: Name = "localhost".parse().unwrap();
            policy.resolve(name).await.map(Iterator::count)
        };
        let refused = resolve(Policy::new(&WebhooksConfig::default()))
            .await
            .unwrap_err();
        assert!(refused.to_string().contains("may not be called"), "{refused}");
        let allowed = WebhooksConfig {
            allow_networks: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
            ..WebhooksConfig::default()
        };
        assert!(resolve(Policy::new(&allowed)).await.unwrap() > 0);
    }
}
