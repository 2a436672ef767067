//! `[webhooks]`: delivery of webhooks.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};

use super::lists::texts;
use super::secret::Secret;
use super::{ConfigError, Section, check};

/// Delivery of webhooks when jobs and batches end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(documented::Documented, documented::DocumentedFields))]
#[serde(deny_unknown_fields, default)]
pub struct WebhooksConfig {
    /// Secret that signs the webhooks of jobs whose key has none: `whsec_…` from `precis key --webhook-secret`, or
    /// several separated by spaces. Without any secret, `callback_url` is refused.
    pub secret: Option<Secret>,
    /// Also deliver to `http://` URLs.
    pub allow_http: bool,
    /// Allowed ports of receivers. Empty: all.
    #[serde(deserialize_with = "ports")]
    pub ports: Vec<u16>,
    /// Private networks that receivers may be in, such as `10.1.0.0/16`.
    #[serde(deserialize_with = "networks")]
    pub allow_networks: Vec<IpNet>,
    /// PEM file of additional certificate authorities to trust, such as a company's own.
    pub ca_file: Option<PathBuf>,
    /// Time limit of one attempt, 1 to 45.
    pub timeout_seconds: u64,
    /// Delay before the first retry. Each further delay is about twice as long.
    pub first_retry_seconds: u64,
    /// Maximum delay between two attempts.
    pub longest_retry_seconds: u64,
    /// How long after its event a webhook is retried. At most `queue.result_ttl_hours`.
    pub deadline_seconds: u64,
    /// Maximum parallel attempts of one gateway.
    pub concurrency: usize,
    /// Maximum parallel attempts of one gateway to one receiver (scheme, host and port).
    pub concurrency_per_receiver: usize,
    /// Maximum parallel attempts of one gateway for one tenant, whose receivers may be many.
    pub concurrency_per_tenant: usize,
}

impl Default for WebhooksConfig {
    fn default() -> Self {
        Self {
            secret: None,
            allow_http: false,
            ports: vec![443, 8443],
            allow_networks: Vec::new(),
            ca_file: None,
            timeout_seconds: 15,
            first_retry_seconds: 5,
            longest_retry_seconds: 3_600,
            deadline_seconds: 12 * 3_600,
            concurrency: 64,
            concurrency_per_receiver: 8,
            concurrency_per_tenant: 32,
        }
    }
}

fn parsed<'de, D, T>(deserializer: D, what: &str) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    use serde::de::Error as _;
    let read = |text: &String| {
        text.trim()
            .parse()
            .map_err(|error| D::Error::custom(format!("{what}: {text:?}: {error}")))
    };
    texts(deserializer)?.iter().map(read).collect()
}

fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    parsed(deserializer, "allow_networks")
}

fn ports<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u16>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        Ports(Vec<u16>),
        Text(String),
    }
    match Given::deserialize(deserializer)? {
        Given::Ports(ports) => Ok(ports),
        Given::Text(text) => parsed(serde::de::value::StringDeserializer::new(text), "ports"),
    }
}

/// Returns the signing keys in `text`: one or several secrets, separated by spaces, each `whsec_` and 24 to 64 bytes in
/// base64. Returns `None` if any is malformed.
pub fn parse_webhook_secrets(text: &str) -> Option<Vec<Vec<u8>>> {
    let keys: Option<Vec<Vec<u8>>> = text
        .split_whitespace()
        .map(|one| {
            let key = STANDARD.decode(one.strip_prefix("whsec_")?).ok()?;
            (24..=64).contains(&key.len()).then_some(key)
        })
        .collect();
    keys.filter(|keys| !keys.is_empty())
}

/// Fails unless `secret`, if set, can be read by [`parse_webhook_secrets`].
pub(super) fn check_webhook_secret(key: &'static str, secret: Option<&Secret>) -> Result<(), ConfigError> {
    check::require(
        secret.is_none_or(|secret| parse_webhook_secrets(secret.expose()).is_some()),
        key,
        "must be whsec_ and 24 to 64 bytes in base64, as `precis key --webhook-secret` makes it",
    )
}

impl Section for WebhooksConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        check_webhook_secret("webhooks.secret", self.secret.as_ref())?;
        // An attempt must end before NATS delivers its announcement to another gateway.
        check::within("webhooks.timeout_seconds", self.timeout_seconds, 1..=45)?;
        check::require(
            (1..=self.longest_retry_seconds).contains(&self.first_retry_seconds),
            "webhooks.first_retry_seconds",
            "must be above 0, and not more than webhooks.longest_retry_seconds",
        )?;
        check::positive("webhooks.concurrency", self.concurrency)?;
        check::positive("webhooks.concurrency_per_receiver", self.concurrency_per_receiver)?;
        check::positive("webhooks.concurrency_per_tenant", self.concurrency_per_tenant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    #[test]
    fn secrets_follow_standard_webhooks() {
        assert_eq!(
            parse_webhook_secrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap()[0].len(),
            24
        );
        for bad in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ="] {
            assert!(parse_webhook_secrets(bad).is_none(), "{bad}");
        }
        let made = crate::config::generate_webhook_secret();
        assert_eq!(parse_webhook_secrets(&made).unwrap()[0].len(), 32);
        let error = Config::from_toml("[webhooks]\nsecret = 'hunter2'")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("webhooks.secret") && !error.contains("hunter2"),
            "{error}"
        );
    }

    #[test]
    fn lists_may_be_strings_with_commas() {
        let config =
            Config::from_toml("[webhooks]\nallow_networks = '10.1.0.0/16, ::1/128'\nports = '443,8080'")
                .unwrap();
        assert_eq!(config.webhooks.allow_networks.len(), 2);
        assert_eq!(config.webhooks.ports, [443, 8080]);
        assert!(Config::from_toml("[webhooks]\nallow_networks = ['10.1.0.0/99']").is_err());
    }
}
