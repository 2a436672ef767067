//! `[access]`: who may use the gateway, and how much of it.

use precis_schemas::{Lane, Token};
use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::api_key::KeyHash;
use super::lists::{lanes, texts};
use super::secret::Secret;

/// `[access]`: who may use the gateway, and how much of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessConfig {
    /// Serve without keys on an address that others can reach. Without keys and without this, `api.listen`
    /// must be a loopback address.
    pub insecure: bool,
    /// Paths that need no key: the path itself and all below it (`/` is only itself).
    #[serde(deserialize_with = "texts")]
    pub open_routes: Vec<String>,
    /// Keys; none: nobody is asked for one.
    pub keys: Vec<ApiKey>,
}

impl Default for AccessConfig {
    fn default() -> Self {
        let open = [
            "/",
            "/healthz",
            "/readyz",
            "/ping",
            "/health",
            "/version",
            "/docs",
            "/openapi.json",
            "/errors",
        ];
        Self {
            insecure: false,
            open_routes: open.map(str::to_owned).to_vec(),
            keys: Vec::new(),
        }
    }
}

/// `[[access.keys]]`: a key, and what its holder may do. `precis key` makes one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// Name, for logs and metrics.
    pub name: String,
    /// What `precis key` printed: `sha256:` and 64 hexadecimal digits.
    pub hash: KeyHash,
    /// On whose account its jobs are; the key's name without one. Keys of one tenant see each other's jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Priorities that it may ask for; none: all.
    #[serde(default, deserialize_with = "lanes", skip_serializing_if = "Vec::is_empty")]
    pub lanes: Vec<Lane>,
    /// Models that it may ask for, as they are served; none: all.
    #[serde(default, deserialize_with = "texts", skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Requests in a minute, for each process of the gateway; none: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
    /// How many of them may come at once; a minute's worth without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Most jobs of its tenant that may wait or run at once before it is refused; none: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_queued_jobs: Option<u64>,
    /// Signs the webhooks of its jobs (`whsec_…`); `webhooks.secret` without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_secret: Option<Secret>,
}

impl ApiKey {
    /// The account of its jobs.
    pub fn tenant(&self) -> &str {
        self.tenant.as_deref().unwrap_or(&self.name)
    }
}

impl AccessConfig {
    /// Whether somebody has decided who may call: there are keys, or everybody is let in on purpose.
    pub fn is_configured(&self) -> bool {
        self.insecure || !self.keys.is_empty()
    }

    /// Checks what types alone don't.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let invalid = |key, problem: String| Err(ConfigError::Invalid { key, problem });
        for (index, key) in self.keys.iter().enumerate() {
            let named = |error| format!("of the key {:?}: {error}", key.name);
            if let Err(error) = Token::new("the name", &key.name) {
                return invalid("access.keys.name", error.to_string());
            }
            if let Err(error) = Token::new("the tenant", key.tenant()) {
                return invalid("access.keys.tenant", named(error.to_string()));
            }
            let zero = |number: Option<u64>| number == Some(0);
            if zero(key.requests_per_minute.map(Into::into)) || zero(key.burst.map(Into::into)) {
                let problem = named("must be above 0; leave it out for no limit".into());
                return invalid("access.keys.requests_per_minute, burst", problem);
            }
            if key.burst.is_some() && key.requests_per_minute.is_none() {
                let problem = named("means nothing without requests_per_minute".into());
                return invalid("access.keys.burst", problem);
            }
            for earlier in &self.keys[..index] {
                if earlier.name == key.name {
                    return invalid(
                        "access.keys.name",
                        format!("{:?} is the name of two keys", key.name),
                    );
                }
                if earlier.hash == key.hash {
                    let problem = format!("{:?} and {:?} are the same key", earlier.name, key.name);
                    return invalid("access.keys.hash", problem);
                }
            }
        }
        if let Some(route) = self.open_routes.iter().find(|route| !route.starts_with('/')) {
            return invalid(
                "access.open_routes",
                format!("a path begins with a slash, and {route:?} does not"),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::Config;

    const HASH: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn problem(text: &str) -> String {
        Config::from_toml(text).unwrap_err().to_string()
    }

    #[test]
    fn a_key_has_a_name_a_hash_and_perhaps_limits() {
        let text = format!(
            "[[access.keys]]\nname = 'newsroom'\nhash = '{HASH}'\nlanes = ['bulk']\nrequests_per_minute = 600"
        );
        let config = Config::from_toml(&text).unwrap();
        assert_eq!(config.access.keys[0].tenant(), "newsroom");
        // What is dumped can be read again.
        assert_eq!(Config::from_toml(&config.to_toml()).unwrap(), config);
    }

    #[test]
    fn a_mistake_in_a_key_is_named() {
        let key = |rest: &str| format!("[[access.keys]]\nname = 'a'\nhash = '{HASH}'\n{rest}\n");
        for (text, part) in [
            (key("tenant = 'a b'"), "access.keys.tenant"),
            (key("requests_per_minute = 0"), "above 0"),
            (key("burst = 3"), "without requests_per_minute"),
            (key("") + &key(""), "two keys"),
            (key("") + &key("").replace("'a'", "'b'"), "the same key"),
            (key("").replace("sha256:", ""), "sha256:"),
            ("[access]\nopen_routes = ['docs']".into(), "begins with a slash"),
        ] {
            let problem = problem(&text);
            assert!(problem.contains(part), "{text}: {problem}");
        }
    }

    #[test]
    fn without_keys_only_loopback_is_served_unless_the_configuration_says_so() {
        let open = "[api]\nlisten = '0.0.0.0:8000'\n";
        assert!(problem(open).contains("access.insecure"));
        let keys = format!("{open}[[access.keys]]\nname = 'a'\nhash = '{HASH}'\n");
        assert!(Config::from_toml(&keys).is_ok());
        assert!(Config::from_toml(&format!("{open}[access]\ninsecure = true")).is_ok());
        assert!(Config::from_toml("[api]\nlisten = '[::1]:8000'").is_ok());
        // The monitor shows texts, too.
        let monitor = "[monitor]\nlisten = '0.0.0.0:9020'\n";
        assert!(problem(monitor).contains("monitor.listen"));
        assert!(Config::from_toml(&format!("{monitor}[access]\ninsecure = true")).is_ok());
    }
}
