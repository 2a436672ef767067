//! The options that every job has.

use anyhow::{Context as _, anyhow};
use precis_schemas::decode_error::in_json_terms;
use precis_schemas::{GenerationParams, JobSubject, Lane, Task, Token};
use serde_json::{Map, Value};

/// What the jobs of a command have in common.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct JobArgs {
    /// Name under which the model is served
    #[arg(long, default_value = "default")]
    pub(crate) model: String,
    /// Tenant of the jobs
    #[arg(long, default_value = "public")]
    pub(crate) tenant: String,
    /// Generation parameter, such as --param num_beams=4; may be repeated
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE")]
    pub(crate) params: Vec<String>,
}

impl JobArgs {
    /// Returns the subject of the jobs.
    ///
    /// # Errors
    /// If a name is not a token.
    pub(crate) fn subject(&self, lane: Lane, task: Task) -> anyhow::Result<JobSubject> {
        Ok(JobSubject {
            model: Token::new("--model", &self.model)?,
            lane,
            task,
            tenant: Token::new("--tenant", &self.tenant)?,
        })
    }

    /// Returns the generation parameters.
    ///
    /// # Errors
    /// If one is unknown or out of range.
    pub(crate) fn params(&self) -> anyhow::Result<GenerationParams> {
        let mut map = Map::new();
        for text in &self.params {
            let (name, value) = text
                .split_once('=')
                .with_context(|| format!("--param {text}: write it as NAME=VALUE, such as num_beams=4"))?;
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
            let one = Map::from_iter([(name.trim().to_owned(), value)]);
            // Each alone first, so that an error has its name.
            let alone = serde_json::from_value::<GenerationParams>(Value::Object(one.clone()));
            alone.map_err(|error| anyhow!("--param {text}: {}", in_json_terms(&error.to_string())))?;
            map.extend(one);
        }
        let params: GenerationParams = serde_json::from_value(Value::Object(map)).context("--param")?;
        params.validate().context("--param")?;
        Ok(params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(texts: &[&str]) -> Result<GenerationParams, String> {
        let args = JobArgs {
            model: "default".into(),
            tenant: "public".into(),
            params: texts.iter().map(|text| (*text).to_owned()).collect(),
        };
        args.params().map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn parameters_are_read_or_refused_by_name() {
        let read = params(&["num_beams=4", "early_stopping=never", "do_sample=false"]).unwrap();
        assert_eq!((read.num_beams, read.do_sample), (Some(4), Some(false)));
        for (text, part) in [
            ("num_beams", "NAME=VALUE"),
            ("beams=4", "unknown field `beams`"),
            ("num_beams=many", "num_beams=many: "),
            ("num_beams=0", "num_beams"),
        ] {
            let error = params(&[text]).unwrap_err();
            assert!(error.starts_with("--param") && error.contains(part), "{error}");
        }
    }
}
