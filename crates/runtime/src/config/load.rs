//! Loads the configuration from its sources, and dumps it.

use std::path::{Path, PathBuf};

use config::{Config as Layers, Environment, File, FileFormat};

use super::{Config, ConfigError};

/// Command-line arguments that say where the configuration comes from.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ConfigArgs {
    /// Configuration file (TOML) [default: precis.toml if it exists]
    #[arg(long, value_name = "FILE", env = "PRECIS_CONFIG")]
    pub config: Option<PathBuf>,
    /// Directory of files that hold one setting each: the name is the key, such as clickhouse.password
    #[arg(long, value_name = "DIR", env = "PRECIS_SECRETS_DIR")]
    pub secrets_dir: Option<PathBuf>,
    /// Override one setting, such as --set worker.max_batch=16; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Log only warnings by default, for commands that print for people.
    #[arg(skip)]
    pub quiet: bool,
}

impl Config {
    /// Loads and validates the configuration from all sources (see the [module](super)).
    ///
    /// # Errors
    /// If a source can't be read, has an unknown key, or a value breaks a rule.
    pub fn load(args: &ConfigArgs) -> Result<Self, ConfigError> {
        let mut layers = Layers::builder();
        if args.quiet {
            layers = layers.set_default("telemetry.log", "warn")?;
        }
        let (path, required) = match &args.config {
            Some(path) => (path.as_path(), true),
            None => (Path::new("precis.toml"), false),
        };
        // A missing or unreadable file is reported below.
        if let Ok(text) = std::fs::read_to_string(path) {
            check_syntax(&path.display().to_string(), &text)?;
        }
        layers = layers.add_source(File::from(path).format(FileFormat::Toml).required(required));
        if let Some(dir) = &args.secrets_dir {
            layers = layers.add_source(read_secrets(dir)?);
        }
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

    /// Loads and validates the configuration from TOML text alone.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        check_syntax("the text", text)?;
        let layers = Layers::builder()
            .add_source(File::from_str(text, FileFormat::Toml))
            .build()?;
        let config: Self = layers.try_deserialize()?;
        config.validate()?;
        Ok(config)
    }

    /// Returns the configuration as TOML with secrets redacted.
    ///
    /// # Errors
    /// If TOML can't represent a value.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        Ok(toml::to_string_pretty(self)?)
    }
}

/// Reads the files of `dir` as settings. Subdirectories and hidden files are skipped: Kubernetes has both in a mounted
/// secret. A line break at the end of a file is not part of its value.
fn read_secrets(dir: &Path) -> Result<Layers, ConfigError> {
    let unreadable = |path: &Path| {
        let path = path.display().to_string();
        move |source| ConfigError::Secret { path, source }
    };
    let mut layers = Layers::builder();
    for entry in std::fs::read_dir(dir).map_err(unreadable(dir))? {
        let path = entry.map_err(unreadable(dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') || path.is_dir() {
            continue;
        }
        let text = std::fs::read_to_string(&path).map_err(unreadable(&path))?;
        layers = layers.set_override(name.as_ref(), text.trim_end_matches(['\r', '\n']))?;
    }
    Ok(layers.build()?)
}

/// Fails if `text` is not TOML, with an error that quotes no line of it.
fn check_syntax(file: &str, text: &str) -> Result<(), ConfigError> {
    let Err(error) = toml::from_str::<toml::Table>(text) else {
        return Ok(());
    };
    let start = error.span().map_or(0, |span| span.start);
    let before = text.get(..start).unwrap_or(text);
    Err(ConfigError::Syntax {
        file: file.to_owned(),
        line: before.matches('\n').count() + 1,
        problem: error.message().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_secrets_overrides_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("precis.toml");
        std::fs::write(&file, "[nats]\nuser = 'api'\npassword = 'from the file'").unwrap();
        let secrets = dir.path().join("secrets");
        std::fs::create_dir_all(secrets.join("..2026_11_29")).unwrap();
        std::fs::write(secrets.join("nats.password"), "0123\n").unwrap();
        std::fs::write(secrets.join(".hidden"), "x").unwrap();
        let load = |overrides: &[&str]| {
            Config::load(&ConfigArgs {
                config: Some(file.clone()),
                secrets_dir: Some(secrets.clone()),
                overrides: overrides.iter().map(|text| (*text).to_owned()).collect(),
                quiet: false,
            })
        };
        let password = |config: Config| config.nats.password.unwrap().expose().to_owned();
        assert_eq!(password(load(&[]).unwrap()), "0123");
        assert_eq!(password(load(&["nats.password=given"]).unwrap()), "given");
        std::fs::write(secrets.join("nats.passwort"), "hunter2").unwrap();
        let problem = load(&[]).unwrap_err().to_string();
        assert!(
            problem.contains("passwort") && !problem.contains("hunter2"),
            "{problem}"
        );
    }

    #[test]
    fn a_secret_that_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let load = || {
            Config::load(&ConfigArgs {
                secrets_dir: Some(dir.path().join("secrets")),
                ..ConfigArgs::default()
            })
        };
        assert!(load().unwrap_err().to_string().contains("secrets"));
        std::fs::create_dir(dir.path().join("secrets")).unwrap();
        std::fs::write(dir.path().join("secrets/nats.password"), [0xff]).unwrap();
        assert!(load().unwrap_err().to_string().contains("nats.password"));
    }

    #[test]
    fn syntax_errors_name_the_line_without_its_text() {
        for text in [
            "[nats]\npassword = \"hunter2",
            "[nats]\npassword = hunter2",
            "[nats]\npassword = 'a' hunter2",
        ] {
            let problem = Config::from_toml(text).unwrap_err().to_string();
            assert!(problem.contains("line 2"), "{problem}");
            assert!(!problem.contains("hunter2"), "{problem}");
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("precis.toml");
        std::fs::write(&file, "[nats]\npassword = hunter2").unwrap();
        let args = ConfigArgs {
            config: Some(file),
            ..ConfigArgs::default()
        };
        let problem = Config::load(&args).unwrap_err().to_string();
        assert!(problem.contains("precis.toml, line 2"), "{problem}");
        assert!(!problem.contains("hunter2"), "{problem}");
    }
}
