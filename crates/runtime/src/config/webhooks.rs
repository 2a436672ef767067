//! `[webhooks]`: the ends of jobs and batches, posted to the addresses that came with them.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};

use super::lists::texts;
use super::secret::Secret;
use super::{AccessConfig, ConfigError};

/// `[webhooks]`: the ends of jobs and batches, posted to the addresses that came with them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebhooksConfig {
    /// Signs the webhooks of jobs whose key has no secret: `whsec_…` as `precis key --webhook-secret` makes it, or several
    /// with spaces between. Without any secret a `callback_url` is refused.
    pub secret: Option<Secret>,
    /// Also post to `http://…`.
    pub allow_http: bool,
    /// Ports that may be called; none: all.
    #[serde(deserialize_with = "ports")]
    pub ports: Vec<u16>,
    /// Networks that may be called although they are not public, such as `10.1.0.0/16`.
    #[serde(deserialize_with = "networks")]
    pub allow_networks: Vec<IpNet>,
    /// A file of certificates (PEM) of authorities that receivers may have theirs from, besides those that the system
    /// trusts: of a company's own, for receivers inside of it.
    pub ca_file: Option<PathBuf>,
    /// How long an attempt may take, in seconds.
    pub timeout_seconds: u64,
    /// Pause after the first failure, in seconds; each further one is about twice as long.
    pub first_retry_seconds: u64,
    /// Longest pause between two attempts, in seconds.
    pub longest_retry_seconds: u64,
    /// How long after the end it is tried, in seconds. At most as long as results are kept.
    pub deadline_seconds: u64,
    /// Attempts that one gateway has going on at a time.
    pub concurrency: usize,
    /// Those of them at one receiver (scheme, host and port).
    pub concurrency_per_receiver: usize,
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

/// The keys in a text of one or several secrets, `whsec_` and 24 to 64 bytes in base64 each; none when it is not
/// that.
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

impl WebhooksConfig {
    /// Checks what types alone don't; results are kept for `result_ttl_seconds`.
    pub(super) fn validate(&self, access: &AccessConfig, result_ttl_seconds: u64) -> Result<(), ConfigError> {
        let invalid = |key, problem: &str| {
            Err(ConfigError::Invalid {
                key,
                problem: problem.to_owned(),
            })
        };
        let form = "must be whsec_ and 24 to 64 bytes in base64, as `precis key --webhook-secret` makes it";
        let is_good = |secret: &Option<Secret>| {
            secret
                .as_ref()
                .is_none_or(|secret| parse_webhook_secrets(secret.expose()).is_some())
        };
        if !is_good(&self.secret) {
            return invalid("webhooks.secret", form);
        }
        if !access.keys.iter().all(|key| is_good(&key.webhook_secret)) {
            return invalid("access.keys.webhook_secret", form);
        }
        // An attempt must be over before its announcement is delivered to another gateway.
        if !(1..=45).contains(&self.timeout_seconds) {
            return invalid("webhooks.timeout_seconds", "must be 1 to 45");
        }
        if self.first_retry_seconds == 0 || self.longest_retry_seconds < self.first_retry_seconds {
            return invalid(
                "webhooks.first_retry_seconds",
                "must be above 0, and not more than webhooks.longest_retry_seconds",
            );
        }
        if self.deadline_seconds > result_ttl_seconds {
            return invalid(
                "webhooks.deadline_seconds",
                "must not be more than queue.result_ttl_hours",
            );
        }
        if self.concurrency == 0 || self.concurrency_per_receiver == 0 {
            return invalid("webhooks.concurrency", "must be above 0, as for one receiver");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    #[test]
    fn a_secret_has_the_form_of_standard_webhooks() {
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
    fn lists_may_be_texts() {
        let config =
            Config::from_toml("[webhooks]\nallow_networks = '10.1.0.0/16, ::1/128'\nports = '443,8080'")
                .unwrap();
        assert_eq!(config.webhooks.allow_networks.len(), 2);
        assert_eq!(config.webhooks.ports, [443, 8080]);
        assert!(Config::from_toml("[webhooks]\nallow_networks = ['10.1.0.0/99']").is_err());
    }
}
