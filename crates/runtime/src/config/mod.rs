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

mod access;
mod analytics;
mod api_key;
mod batches;
mod drift;
mod forward;
mod http;
mod lists;
mod local;
mod secret;
mod sections;
mod webhooks;
mod worker;

use std::path::{Path, PathBuf};

use config::{Config as Layers, Environment, File, FileFormat};
use precis_schemas::Token;
use serde::{Deserialize, Serialize};

pub use access::{AccessConfig, ApiKey};
pub use analytics::{ClickHouseConfig, MonitorConfig, TextPolicy};
pub use api_key::{KEY_PREFIX, KeyHash, generate_key, generate_webhook_secret};
pub use batches::BatchesConfig;
pub use drift::DriftConfig;
pub use forward::{ArizeConfig, ArizeFormat, PhoenixConfig};
pub use http::HttpConfig;
pub use local::{EngineChoice, LocalConfig};
pub use secret::{Secret, ServerUrl};
pub use sections::{
    ApiConfig, LimitsConfig, LogFormat, NatsConfig, QueueConfig, StandaloneConfig, TelemetryConfig,
};
pub use webhooks::{WebhooksConfig, parse_webhook_secrets};
pub use worker::{EmbeddingTexts, ModelChoice, WorkerConfig};

/// Everything that can be configured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The message queue.
    pub nats: NatsConfig,
    /// Limits of the streams.
    pub queue: QueueConfig,
    /// What a request may carry.
    pub limits: LimitsConfig,
    /// The REST gateway.
    pub api: ApiConfig,
    /// Who may use the gateway.
    pub access: AccessConfig,
    /// How the gateway speaks HTTP.
    pub http: HttpConfig,
    /// Batches.
    pub batches: BatchesConfig,
    /// Webhooks.
    pub webhooks: WebhooksConfig,
    /// The gateway with the model in its own process.
    pub local: LocalConfig,
    /// Workers.
    pub worker: WorkerConfig,
    /// The monitor.
    pub monitor: MonitorConfig,
    /// The analytics database.
    pub clickhouse: ClickHouseConfig,
    /// Drift.
    pub drift: DriftConfig,
    /// Arize AX.
    pub arize: ArizeConfig,
    /// Phoenix.
    pub phoenix: PhoenixConfig,
    /// Logs, metrics and traces of the product itself.
    pub telemetry: TelemetryConfig,
    /// `precis up`.
    pub standalone: StandaloneConfig,
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
    /// Log only warnings unless something else is asked for: for commands that speak to people themselves.
    #[arg(skip)]
    pub quiet: bool,
}

impl Config {
    /// Reads the configuration as described in the module documentation, and validates it.
    ///
    /// # Errors
    /// When a source can't be read, has an unknown key, or a value makes no sense.
    pub fn load(args: &ConfigArgs) -> Result<Self, ConfigError> {
        let mut layers = Layers::builder();
        if args.quiet {
            layers = layers.set_default("telemetry.log", "warn")?;
        }
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
                .separator("__"),
        );
        for item in &args.overrides {
            let (key, value) = item
                .split_once('=')
                .ok_or_else(|| ConfigError::BadOverride(item.clone()))?;
            layers = layers.set_override(key.trim(), value)?;
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
            (2..=3_600).contains(&self.worker.ack_wait_seconds),
            "worker.ack_wait_seconds",
            "must be 2 to 3600",
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
        check(self.local.max_jobs > 0, "local.max_jobs", "must be above 0")?;
        check(self.local.max_results > 0, "local.max_results", "must be above 0")?;
        check(
            (1..=31_536_000).contains(&self.local.result_ttl_seconds),
            "local.result_ttl_seconds",
            "must be 1 to 31536000",
        )?;
        check(
            (1..=100_000).contains(&self.monitor.max_block_rows),
            "monitor.max_block_rows",
            "must be 1 to 100000",
        )?;
        check(
            (0.0..=1.0).contains(&self.telemetry.trace_sampling_rate),
            "telemetry.trace_sampling_rate",
            "must be 0 to 1",
        )?;
        let endpoint = self.telemetry.otlp_endpoint.as_ref().map(ServerUrl::expose);
        check(
            endpoint.is_none_or(|url| url.starts_with("http://") || url.starts_with("https://")),
            "telemetry.otlp_endpoint",
            "must begin with http:// or https://",
        )?;
        if let Some((key, problem)) = self.drift.mistake() {
            let problem = problem.to_owned();
            return Err(ConfigError::Invalid { key, problem });
        }
        if let Some((key, problem)) = forward::mistake(&self.arize, &self.phoenix) {
            return Err(ConfigError::Invalid { key, problem });
        }
        let token = |key: &'static str, text: &str| match Token::new("the name", text) {
            Ok(_) => Ok(()),
            Err(error) => Err(ConfigError::Invalid {
                key,
                problem: error.to_string(),
            }),
        };
        token("worker.serve_as", &self.worker.serve_as)?;
        if let Some(id) = &self.worker.id {
            token("worker.id", id)?;
        }
        check(
            !self.api.default_model.trim().is_empty(),
            "api.default_model",
            "must not be empty",
        )?;
        check(
            matches!(self.worker.device.as_str(), "auto" | "cpu" | "cuda" | "metal"),
            "worker.device",
            "must be auto, cpu, cuda or metal",
        )?;
        check(
            (1..=8_760).contains(&self.queue.result_ttl_hours),
            "queue.result_ttl_hours",
            "must be 1 to 8760",
        )?;
        check(
            (1..=3_650).contains(&self.queue.dead_letter_ttl_days),
            "queue.dead_letter_ttl_days",
            "must be 1 to 3650",
        )?;
        check(
            self.worker.drain_seconds <= 3_600,
            "worker.drain_seconds",
            "must be at most 3600",
        )?;
        analytics::validate(self)?;
        let database = &self.clickhouse.database;
        let plain = database
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        check(
            plain && !database.is_empty() && database != "default",
            "clickhouse.database",
            "must be a plain name (letters, digits, _) other than `default`",
        )?;
        self.access.validate()?;
        self.http.validate()?;
        let result_ttl_seconds = self.queue.result_ttl_hours.saturating_mul(3_600);
        self.batches.validate(result_ttl_seconds)?;
        self.webhooks.validate(&self.access, result_ttl_seconds)?;
        let guarded = self.access.is_configured();
        for (key, listen) in [
            ("api.listen", self.api.listen),
            ("monitor.listen", self.monitor.listen),
        ] {
            check(
                guarded || listen.ip().is_loopback(),
                key,
                "others can reach this address, and there are no keys: make one with `precis key`, \
                 or let everybody in with access.insecure = true",
            )?;
        }
        self.worker
            .params
            .validate()
            .map_err(|refusal| ConfigError::Invalid {
                key: "worker.params",
                problem: refusal.message,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(overrides: &[&str]) -> Result<Config, ConfigError> {
        Config::load(&ConfigArgs {
            config: None,
            overrides: overrides.iter().map(|text| (*text).to_owned()).collect(),
            quiet: false,
        })
    }

    #[test]
    fn the_defaults_are_valid_and_survive_a_dump() {
        let config = with(&[]).unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(Config::from_toml(&config.to_toml()).unwrap(), config);
    }

    #[test]
    fn an_override_is_read_as_the_type_of_its_key() {
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
    fn a_text_that_looks_like_a_number_stays_as_it_is() {
        let config = with(&[
            "nats.user=1e5",
            "nats.password=0123",
            "worker.id=TRUE",
            "clickhouse.user=007",
        ])
        .unwrap();
        assert_eq!(config.nats.user.as_deref(), Some("1e5"));
        assert_eq!(config.nats.password.unwrap().expose(), "0123");
        assert_eq!(config.worker.id.as_deref(), Some("TRUE"));
        assert_eq!(config.clickhouse.user, "007");
    }

    #[test]
    fn a_mistake_is_named() {
        for (item, part) in [
            ("worker.max_bach=3", "max_bach"),
            ("worker.max_batch=many", "max_batch"),
            ("worker.max_batch=0", "worker.max_batch: must be 1 to 1024"),
            ("clickhouse.database=a;b", "clickhouse.database"),
            ("nonsense", "key=value"),
            ("worker.serve_as=a b", "worker.serve_as"),
            ("worker.device=tpu", "worker.device"),
            ("worker.ack_wait_seconds=0", "worker.ack_wait_seconds"),
            ("queue.result_ttl_hours=9999999999999", "queue.result_ttl_hours"),
            ("worker.lanes=high,urgent", "lanes"),
            ("worker.params.num_beams=99", "num_beams"),
            (
                "arize.api_key=k",
                "arize.space_id: api_key and space_id belong together",
            ),
            ("arize.sampling_rate=1.5", "arize.sampling_rate"),
            ("arize.send=everything", "everything"),
            (
                "phoenix.url=localhost:6006",
                "phoenix.url: must begin with http://",
            ),
            ("phoenix.max_batch=0", "phoenix.max_batch"),
            (
                "telemetry.otlp_endpoint=collector:4317",
                "telemetry.otlp_endpoint",
            ),
            ("telemetry.trace_sampling_rate=2", "telemetry.trace_sampling_rate"),
            ("monitor.texts=some", "texts"),
            ("monitor.ack_wait_seconds=1", "monitor.ack_wait_seconds"),
            ("clickhouse.row_ttl_days=7", "clickhouse.row_ttl_days"),
            (
                "drift.baseline_from=2026-01-01T00:00:00Z",
                "a later drift.baseline_to",
            ),
            ("drift.psi_alert=nan", "drift.psi_alert"),
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
            quiet: false,
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
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../docs/reference/configuration.md"
        );
        let page = std::fs::read_to_string(path).unwrap();
        let (head, rest) = page.split_once("```toml\n").unwrap();
        let (shown, tail) = rest.split_once("```").unwrap();
        let fresh = Config::default().to_toml();
        if std::env::var_os("PRECIS_UPDATE").is_some() {
            std::fs::write(path, format!("{head}```toml\n{fresh}```{tail}")).unwrap();
        } else {
            assert_eq!(
                shown, fresh,
                "docs/reference/configuration.md is out of date: run with PRECIS_UPDATE=1"
            );
        }
    }

    #[test]
    fn a_dump_shows_no_secret() {
        let text = "[nats]\nurl = 'nats://me:hunter2@host:4222'\npassword = 'hunter2'\n[clickhouse]\npassword = 'hunter2'\n[arize]\napi_key = 'hunter2'\nspace_id = 'hunter2'\n[phoenix]\napi_key = 'hunter2'\nurl = 'http://a:hunter2@host'\n[telemetry]\notlp_headers = { key = 'hunter2' }";
        let config = Config::from_toml(text).unwrap();
        assert!(!config.to_toml().contains("hunter2"), "{}", config.to_toml());
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
