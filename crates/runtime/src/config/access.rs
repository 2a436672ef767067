//! `[access]`: API keys and their limits.

use precis_schemas::Lane;
use serde::{Deserialize, Serialize};

use super::api_key::KeyHash;
use super::lists::{lanes, texts};
use super::secret::Secret;
use super::webhooks::check_webhook_secret;
use super::{ConfigError, Section, check};

/// API keys and the routes that need none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(documented::Documented, documented::DocumentedFields))]
#[serde(deny_unknown_fields, default)]
pub struct AccessConfig {
    /// Serve without keys on addresses that other machines can reach. Without keys and without this, `api.listen` and
    /// `monitor.listen` must be loopback addresses.
    pub insecure: bool,
    /// Paths that need no key: each path and everything below it (`/` means only itself).
    #[serde(deserialize_with = "texts")]
    pub open_routes: Vec<String>,
    /// API keys. Empty: requests need no key.
    pub keys: Vec<ApiKey>,
}

impl Default for AccessConfig {
    fn default() -> Self {
        let open = [
            "/",
            "/console",
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

/// One API key and its limits. `precis key` creates one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(documented::Documented, documented::DocumentedFields))]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// Name in logs and metrics.
    pub name: String,
    /// Hash that `precis key` printed: `sha256:` and 64 hexadecimal digits.
    pub hash: KeyHash,
    /// Tenant of its jobs; defaults to the key's name. Keys of one tenant see each other's jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Whether it sees, and may cancel, the jobs of every tenant, also those of the tenant `public` from before there were
    /// keys. Its own jobs belong to its tenant.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub operator: bool,
    /// Lanes it may use. Empty: all. Its requests without a priority use the first of them that is listed, unless the
    /// usual one (`normal`, and `bulk` for batches) is among them.
    #[serde(default, deserialize_with = "lanes", skip_serializing_if = "Vec::is_empty")]
    pub lanes: Vec<Lane>,
    /// Served models it may use. Empty: all.
    #[serde(default, deserialize_with = "texts", skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Maximum requests per minute, for each gateway process. Unset: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
    /// Maximum requests at once; defaults to `requests_per_minute`. An unused key may send these and then the steady rate:
    /// with 60 per minute and no `burst`, up to 119 requests in its first minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Maximum number of queued and running jobs of its tenant. Requests beyond it are refused with `quota_exceeded`.
    /// Unset: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_queued_jobs: Option<u64>,
    /// Secret that signs the webhooks of its jobs (`whsec_…`); defaults to `webhooks.secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_secret: Option<Secret>,
}

impl ApiKey {
    /// Returns the tenant of its jobs.
    pub fn tenant(&self) -> &str {
        self.tenant.as_deref().unwrap_or(&self.name)
    }
}

impl AccessConfig {
    /// Reports whether access is configured: there are keys, or `insecure` allows requests without one.
    pub fn is_configured(&self) -> bool {
        self.insecure || !self.keys.is_empty()
    }
}

impl Section for AccessConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        for (index, key) in self.keys.iter().enumerate() {
            key.validate()?;
            for earlier in &self.keys[..index] {
                let problem = format!("{:?} is the name of two keys", key.name);
                check::require(earlier.name != key.name, "access.keys.name", problem)?;
                let problem = format!("{:?} and {:?} are the same key", earlier.name, key.name);
                check::require(earlier.hash != key.hash, "access.keys.hash", problem)?;
            }
        }
        self.open_routes.iter().try_for_each(|route| {
            let problem = format!("must list paths that begin with a slash; {route:?} does not");
            check::require(route.starts_with('/'), "access.open_routes", problem)
        })
    }
}

impl Section for ApiKey {
    fn validate(&self) -> Result<(), ConfigError> {
        check::token("access.keys.name", &self.name)?;
        check::token("access.keys.tenant", self.tenant())?;
        let rule = |holds, key, problem: &str| {
            check::require(holds, key, format!("of the key {:?}: {problem}", self.name))
        };
        rule(
            self.requests_per_minute != Some(0) && self.burst != Some(0),
            "access.keys.requests_per_minute, burst",
            "must be above 0; leave it out for no limit",
        )?;
        rule(
            self.burst.is_none() || self.requests_per_minute.is_some(),
            "access.keys.burst",
            "has no effect without requests_per_minute",
        )?;
        let secret = self.webhook_secret.as_ref();
        check_webhook_secret("access.keys.webhook_secret", secret)
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
    fn a_key_needs_a_name_and_a_hash_and_may_have_limits() {
        let text = format!(
            "[[access.keys]]\nname = 'newsroom'\nhash = '{HASH}'\nlanes = ['bulk']\nrequests_per_minute = 600"
        );
        let config = Config::from_toml(&text).unwrap();
        assert_eq!(config.access.keys[0].tenant(), "newsroom");
        // A dump can be loaded again.
        assert_eq!(Config::from_toml(&config.to_toml().unwrap()).unwrap(), config);
    }

    #[test]
    fn errors_name_the_invalid_key_setting() {
        let key = |rest: &str| format!("[[access.keys]]\nname = 'a'\nhash = '{HASH}'\n{rest}\n");
        for (text, part) in [
            (key("tenant = 'a b'"), "access.keys.tenant"),
            (key("requests_per_minute = 0"), "above 0"),
            (key("burst = 3"), "without requests_per_minute"),
            (key("") + &key(""), "two keys"),
            (key("") + &key("").replace("'a'", "'b'"), "the same key"),
            (key("").replace("sha256:", ""), "sha256:"),
            ("[access]\nopen_routes = ['docs']".into(), "begin with a slash"),
        ] {
            let problem = problem(&text);
            assert!(problem.contains(part), "{text}: {problem}");
        }
    }

    #[test]
    fn without_keys_only_loopback_is_served_unless_insecure() {
        let open = "[api]\nlisten = '0.0.0.0:8000'\n";
        assert!(problem(open).contains("access.insecure"));
        let keys = format!("{open}[[access.keys]]\nname = 'a'\nhash = '{HASH}'\n");
        assert!(Config::from_toml(&keys).is_ok());
        assert!(Config::from_toml(&format!("{open}[access]\ninsecure = true")).is_ok());
        assert!(Config::from_toml("[api]\nlisten = '[::1]:8000'").is_ok());
        // The monitor serves texts too.
        let monitor = "[monitor]\nlisten = '0.0.0.0:9020'\n";
        assert!(problem(monitor).contains("monitor.listen"));
        assert!(Config::from_toml(&format!("{monitor}[access]\ninsecure = true")).is_ok());
    }
}
