//! The configuration of all roles.
//!
//! Sources, later ones win: the defaults, the file (`--config`, `PRECIS_CONFIG`, or `precis.toml` if it exists), the
//! files of a directory of secrets (`--secrets-dir` or `PRECIS_SECRETS_DIR`), environment variables
//! (`PRECIS__NATS__URL` for `nats.url`), `--set nats.url=…`. Unknown keys are errors. `precis dump-config` prints the
//! result with secrets redacted.
//!
//! `docs/reference/configuration.md` and `precis.example.toml` are generated from the doc comments of the sections.
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

#[macro_use]
mod values;

mod access;
mod analytics;
mod api_key;
mod batches;
mod check;
mod drift;
mod forward;
mod gateway;
mod http;
mod lists;
mod load;
mod problem;
mod queue;
#[cfg(test)]
mod reference;
mod secret;
mod standalone;
mod telemetry;
#[cfg(test)]
mod tests;
mod webhooks;
mod worker;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use access::{AccessConfig, ApiKey};
pub use analytics::{ClickHouseConfig, MonitorConfig, TextPolicy};
pub use api_key::{KEY_PREFIX, KeyHash, generate_key, generate_webhook_secret};
pub use batches::BatchesConfig;
pub use drift::DriftConfig;
pub use forward::{ArizeConfig, ArizeFormat, PhoenixConfig};
pub use gateway::{ApiConfig, EngineChoice, LocalConfig};
pub use http::HttpConfig;
pub use load::ConfigArgs;
pub use queue::{LimitsConfig, NatsConfig, QueueConfig};
pub use secret::{Secret, ServerUrl};
pub use standalone::StandaloneConfig;
pub use telemetry::{LogFormat, TelemetryConfig};
pub use webhooks::{WebhooksConfig, parse_webhook_secrets};
pub use worker::{EmbeddingTexts, ModelChoice, WorkerConfig};

/// All settings of all roles.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(documented::DocumentedFields))]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The connection to the message queue.
    pub nats: NatsConfig,
    /// Limits of the streams.
    pub queue: QueueConfig,
    /// Limits of one request.
    pub limits: LimitsConfig,
    /// The REST gateway.
    pub api: ApiConfig,
    /// API keys.
    pub access: AccessConfig,
    /// The HTTP servers.
    pub http: HttpConfig,
    /// Uploads.
    pub batches: BatchesConfig,
    /// Webhooks.
    pub webhooks: WebhooksConfig,
    /// The gateway without a queue.
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
    /// Logs and traces of Precis itself.
    pub telemetry: TelemetryConfig,
    /// `precis up`.
    pub standalone: StandaloneConfig,
}

/// A section of the configuration.
trait Section {
    /// Checks the rules that types don't express.
    fn validate(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A source can't be read, or has an unknown key or a value of the wrong type.
    #[error("configuration: {}", problem::describe(.0))]
    Read(#[from] config::ConfigError),
    /// The file is not TOML. Its text is not shown, because the line may hold a secret.
    #[error("configuration: {file}, line {line}: {problem}")]
    Syntax {
        /// The file.
        file: String,
        /// The line, counted from 1.
        line: usize,
        /// What the parser expected.
        problem: String,
    },
    /// A secret's file, or the directory of secrets, can't be read.
    #[error("configuration: {path}: {source}")]
    Secret {
        /// The file or directory.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// `--set` without an equals sign.
    #[error("configuration: --set takes key=value, such as nats.url=nats://host:4222, not {0:?}")]
    BadOverride(String),
    /// A value breaks a rule.
    #[error("configuration: {key}: {problem}")]
    Invalid {
        /// The setting.
        key: &'static str,
        /// The rule that its value breaks.
        problem: String,
    },
    /// TOML can't represent a value, such as an integer of 2⁶³ or more.
    #[error("the configuration can't be written as TOML: {0}")]
    Dump(#[from] toml::ser::Error),
}

impl Config {
    /// Checks every section, then the rules across sections.
    ///
    /// # Errors
    /// Names the first setting that breaks a rule.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let sections: [&dyn Section; 17] = [
            &self.nats,
            &self.queue,
            &self.limits,
            &self.api,
            &self.access,
            &self.http,
            &self.batches,
            &self.webhooks,
            &self.local,
            &self.worker,
            &self.monitor,
            &self.clickhouse,
            &self.drift,
            &self.arize,
            &self.phoenix,
            &self.telemetry,
            &self.standalone,
        ];
        sections.into_iter().try_for_each(|section| section.validate())?;
        self.validate_across()
    }

    /// Returns the directory of the console's libraries.
    pub fn console_libraries(&self) -> PathBuf {
        let configured = self.api.console_libraries.clone();
        configured.unwrap_or_else(|| self.standalone.local_dir.join(precis_schemas::console::FOLDER))
    }

    fn validate_across(&self) -> Result<(), ConfigError> {
        let result_ttl = self.queue.result_ttl_seconds();
        check::require(
            self.batches.default_ttl_seconds <= result_ttl,
            "batches.default_ttl_seconds",
            "must not be more than queue.result_ttl_hours",
        )?;
        check::require(
            self.webhooks.deadline_seconds <= result_ttl,
            "webhooks.deadline_seconds",
            "must not be more than queue.result_ttl_hours",
        )?;
        let nats_is_local = self
            .standalone
            .nats_listen
            .is_none_or(|listen| listen.ip().is_loopback());
        check::require(
            nats_is_local || self.nats.has_login(),
            "standalone.nats_listen",
            "other machines can reach this address, but NATS needs no credentials; set nats.user and nats.password, or \
             nats.token",
        )?;
        for (key, listen) in [
            ("api.listen", self.api.listen),
            ("monitor.listen", self.monitor.listen),
        ] {
            check::require(
                self.access.is_configured() || listen.ip().is_loopback(),
                key,
                "other machines can reach this address, but there are no API keys; create one with `precis key`, \
                 or allow all requests with access.insecure = true",
            )?;
        }
        Ok(())
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}
