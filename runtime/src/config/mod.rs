//! Configuration of the whole product: one documented type for every role.
//!
//! In order, the later wins: defaults, the file (`--config`, `PRECIS_CONFIG`, else `precis.toml` if it
//! is there), environment variables (`PRECIS__NATS__URL` for `nats.url`), `--set nats.url=…`.
//! An unknown key is an error. `precis dump-config` shows the outcome, secrets redacted.
//!
//! ```
//! let text = r#"
//!     [nats]
//!     url = "nats://queue.internal:4222"
//!     [worker]
//!     model = "google/flan-t5-small"
//!     max_batch = 16
//! "#;
//! let config = precis_runtime::Config::from_toml(text).unwrap();
//! assert_eq!(config.worker.max_batch, 16);
//! assert!(precis_runtime::Config::from_toml("[nats]\nurll = 'x'").unwrap_err().to_string().contains("urll"));
//! ```

mod secret;
mod sections;

use std::path::{Path, PathBuf};

use config::{Config as Layers, Environment, File, FileFormat};
use serde::{Deserialize, Serialize};

pub use secret::{Secret, ServerUrl};
pub use sections::{
    Api, ClickHouse, Limits, LogFormat, ModelChoice, Monitor, Nats, Queue, Standalone, Telemetry, Worker,
};

/// Everything that can be configured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The message queue.
    pub nats: Nats,
    /// Limits of the streams.
    pub queue: Queue,
    /// What a request may carry.
    pub limits: Limits,
    /// The REST gateway.
    pub api: Api,
    /// Workers.
    pub worker: Worker,
    /// The monitor.
    pub monitor: Monitor,
    /// The analytics database.
    pub clickhouse: ClickHouse,
    /// Logs.
    pub telemetry: Telemetry,
    /// `precis up`.
    pub standalone: Standalone,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file, variable or `--set` can't be read, or has an unknown key or a wrong type.
    #[error("configuration: {0}")]
    Read(#[from] config::ConfigError),
    /// `--set` without an equals sign.
    #[error("configuration: --set takes key=value, such as nats.url=nats://host:4222, and not {0:?}")]
    BadOverride(String),
    /// A value that makes no sense.
    #[error("configuration: {key}: {problem}")]
    Invalid {
        /// The key.
        key: &'static str,
        /// What is wrong with its value.
        problem: String,
    },
}

/// Where a process finds its configuration; flattened into every command line.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ConfigArgs {
    /// Configuration file (TOML). Without it `precis.toml` is read if it is there
    #[arg(long, value_name = "FILE", env = "PRECIS_CONFIG")]
    pub config: Option<PathBuf>,
    /// Set one value, such as --set worker.max_batch=16; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
}

impl Config {
    /// Reads the configuration as described in the module documentation, and validates it.
    ///
    /// # Errors
    /// When a source can't be read, has an unknown key, or a value makes no sense.
    pub fn load(args: &ConfigArgs) -> Result<Self, ConfigError> {
        let mut layers = Layers::builder();
        layers = match &args.config {
            Some(path) => {
                layers.add_source(File::from(path.as_path()).format(FileFormat::Toml).required(true))
            }
            None => layers.add_source(
                File::from(Path::new("precis.toml"))
                    .format(FileFormat::Toml)
                    .required(false),
            ),
        };
        layers = layers.add_source(
            Environment::with_prefix("PRECIS")
                .prefix_separator("__")
                .separator("__")
                .try_parsing(true),
        );
        for item in &args.overrides {
            let (key, value) = item
                .split_once('=')
                .ok_or_else(|| ConfigError::BadOverride(item.clone()))?;
            layers = layers.set_override(key.trim(), parsed(value))?;
        }
        let config: Self = layers.build()?.try_deserialize()?;
        config.validate()?;
        Ok(config)
    }

    /// Reads the configuration from a TOML text alone.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let layers = Layers::builder()
            .add_source(File::from_str(text, FileFormat::Toml))
            .build()?;
        let config: Self = layers.try_deserialize()?;
        config.validate()?;
        Ok(config)
    }

    /// The configuration as TOML, secrets redacted.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).unwrap_or_else(|error| format!("# can't be shown: {error}\n"))
    }

    /// Checks what types alone don't.
    ///
    /// # Errors
    /// The first value that makes no sense.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let check = |ok: bool, key: &'static str, problem: &str| {
            if ok {
                Ok(())
            } else {
                Err(ConfigError::Invalid {
                    key,
                    problem: problem.to_owned(),
                })
            }
        };
        check(
            (1..=1024).contains(&self.worker.max_batch),
            "worker.max_batch",
            "must be 1 to 1024",
        )?;
        check(
            self.worker.linger_ms <= 10_000,
            "worker.linger_ms",
            "must be at most 10000",
        )?;
        check(
            !self.worker.lanes.is_empty(),
            "worker.lanes",
            "must name at least one lane",
        )?;
        check(
            (1..=5).contains(&self.nats.replicas),
            "nats.replicas",
            "must be 1 to 5",
        )?;
        check(
            self.limits.max_wait_seconds <= 600,
            "limits.max_wait_seconds",
            "must be at most 600",
        )?;
        check(
            self.limits.max_text_chars > 0,
            "limits.max_text_chars",
            "must be above 0",
        )?;
        check(
            self.api.default_ttl_seconds > 0,
            "api.default_ttl_seconds",
            "must be above 0",
        )?;
        check(
            (1..=100_000).contains(&self.monitor.max_block_rows),
            "monitor.max_block_rows",
            "must be 1 to 100000",
        )?;
        let database = &self.clickhouse.database;
        let plain = database
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        check(
            plain && !database.is_empty() && database != "default",
            "clickhouse.database",
            "must be a plain name (letters, digits, _) other than `default`",
        )?;
        self.worker
            .params
            .validate()
            .map_err(|refusal| ConfigError::Invalid {
                key: "worker.params",
                problem: refusal.message,
            })
    }
}

/// `value` as the type that it looks like, so that numbers and booleans needn't be quoted.
fn parsed(value: &str) -> config::Value {
    let value = value.trim();
    if let Ok(flag) = value.parse::<bool>() {
        return flag.into();
    }
    if let Ok(number) = value.parse::<i64>() {
        return number.into();
    }
    if let Ok(number) = value.parse::<f64>() {
        return number.into();
    }
    if let Some(items) = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let items: Vec<config::Value> = items
            .split(',')
            .filter(|item| !item.trim().is_empty())
            .map(parsed)
            .collect();
        return items.into();
    }
    value.trim_matches('"').into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(overrides: &[&str]) -> Result<Config, ConfigError> {
        Config::load(&ConfigArgs {
            config: None,
            overrides: overrides.iter().map(|text| (*text).to_owned()).collect(),
        })
    }

    #[test]
    fn the_defaults_are_valid_and_survive_a_dump() {
        let config = with(&[]).unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(Config::from_toml(&config.to_toml()).unwrap(), config);
    }

    #[test]
    fn an_override_is_read_as_the_type_it_looks_like() {
        let config = with(&[
            "worker.max_batch=3",
            "api.listen=127.0.0.1:9",
            "worker.lanes=[high,bulk]",
            "worker.params.do_sample=true",
        ])
        .unwrap();
        assert_eq!(config.worker.max_batch, 3);
        assert_eq!(config.worker.lanes.len(), 2);
        assert_eq!(config.worker.params.do_sample, Some(true));
        assert_eq!(config.api.listen.port(), 9);
    }

    #[test]
    fn a_mistake_is_named() {
        for (item, part) in [
            ("worker.max_bach=3", "max_bach"),
            ("worker.max_batch=many", "max_batch"),
            ("worker.max_batch=0", "worker.max_batch: must be 1 to 1024"),
            ("clickhouse.database=a;b", "clickhouse.database"),
            ("nonsense", "key=value"),
            ("worker.params.num_beams=99", "num_beams"),
        ] {
            let error = with(&[item]).unwrap_err().to_string();
            assert!(error.contains(part), "{item}: {error}");
        }
    }

    #[test]
    fn a_missing_file_is_an_error_only_when_it_was_asked_for() {
        let args = ConfigArgs {
            config: Some("no/such/file.toml".into()),
            overrides: vec![],
        };
        assert!(
            Config::load(&args)
                .unwrap_err()
                .to_string()
                .contains("no/such/file.toml")
        );
    }

    #[test]
    fn the_documentation_shows_the_defaults() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (head, rest) = page.split_once("```toml\n").unwrap();
        let (shown, tail) = rest.split_once("```").unwrap();
        let fresh = Config::default().to_toml();
        if std::env::var_os("PRECIS_UPDATE").is_some() {
            std::fs::write(path, format!("{head}```toml\n{fresh}```{tail}")).unwrap();
        } else {
            assert_eq!(
                shown, fresh,
                "docs/configuration.md is out of date: run with PRECIS_UPDATE=1"
            );
        }
    }

    #[test]
    fn a_dump_shows_no_secret() {
        let text = "[nats]\nurl = 'nats://me:hunter2@host:4222'\npassword = 'hunter2'\n[clickhouse]\npassword = 'hunter2'";
        let config = Config::from_toml(text).unwrap();
        assert!(!config.to_toml().contains("hunter2"), "{}", config.to_toml());
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
