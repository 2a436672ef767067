//! Describes errors of the crate `config` as this crate describes its own: the setting, then what its value must be.

use config::ConfigError::{At, Type};

/// Returns the description of an error.
pub(super) fn describe(error: &config::ConfigError) -> String {
    match error {
        At { error, key, origin } => placed(key.as_deref(), origin.as_deref(), describe(error)),
        Type {
            origin,
            unexpected,
            expected,
            key,
        } => {
            let problem = format!("must be {expected}, not {unexpected}");
            placed(key.as_deref(), origin.as_deref(), problem)
        }
        other => {
            let text = other.to_string();
            // The caller says "configuration" already.
            text.strip_prefix("configuration ")
                .map(str::to_owned)
                .unwrap_or(text)
        }
    }
}

fn placed(key: Option<&str>, origin: Option<&str>, mut problem: String) -> String {
    if let Some(key) = key {
        problem.insert_str(0, &format!("{key}: "));
    }
    if let Some(origin) = origin {
        problem.push_str(&format!(" (in {origin})"));
    }
    problem
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, ConfigArgs};

    #[test]
    fn every_wrong_value_is_named_with_what_it_must_be() {
        for (setting, problem) in [
            (
                "api.engine=foo",
                "api.engine: must be one of queue, local, not \"foo\"",
            ),
            (
                "telemetry.format=xml",
                "telemetry.format: must be one of text, json, not \"xml\"",
            ),
            (
                "worker.lanes=fast",
                "worker.lanes: the lane must be one of high, normal, bulk, not \"fast\"",
            ),
            (
                "drift.baseline_from=2026-01-01",
                "drift.baseline_from: must be a time such as 2026-01-01T00:00:00Z, not \"2026-01-01\"",
            ),
            (
                "api.listen=300",
                "api.listen: must be an IP address and a port, such as 127.0.0.1:8000, not \"300\"",
            ),
            (
                "worker.admin_listen=here",
                "worker.admin_listen: must be an IP address and a port, such as 127.0.0.1:8000, not \"here\"",
            ),
            (
                "worker.max_batch=many",
                "worker.max_batch: must be an integer, not string \"many\"",
            ),
        ] {
            let args = ConfigArgs {
                overrides: vec![setting.to_owned()],
                ..ConfigArgs::default()
            };
            let error = Config::load(&args).unwrap_err().to_string();
            assert_eq!(error, format!("configuration: {problem}"), "{setting}");
        }
        let args = ConfigArgs {
            config: Some("/no/such/precis.toml".into()),
            ..ConfigArgs::default()
        };
        let error = Config::load(&args).unwrap_err().to_string();
        assert!(
            error.starts_with("configuration: file \"/no/such/precis.toml\""),
            "{error}"
        );
    }
}
