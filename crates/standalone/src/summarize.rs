//! `precis summarize`: prints the summary of a file.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use precis_runtime::boot::RoleContext;
use precis_runtime::config::ModelChoice;
use precis_schemas::rest::{ModelList, ModelView, Status, SubmitSummary};
use precis_schemas::{GenerationParams, Lane};
use tokio_util::sync::CancellationToken;

use crate::client::{self, Gateway, ProbeOutcome};
use crate::up::{Running, UpArgs};

/// Arguments of `precis summarize`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SummarizeArgs {
    /// File with the text, or - for standard input
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// Number of beams
    #[arg(long)]
    num_beams: Option<u32>,
    /// Priority: high, normal or bulk
    #[arg(long, value_name = "LANE")]
    priority: Option<Lane>,
    /// Print the model's whole output, not only its first sentence
    #[arg(long)]
    all_sentences: bool,
    /// Print the job as JSON
    #[arg(long)]
    json: bool,
    /// Seconds to wait for the summary
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
    #[command(flatten)]
    pub(crate) up: UpArgs,
}

impl SummarizeArgs {
    /// Returns the model that was asked for, by `--model` or `--set worker.model=…`.
    fn model(&self) -> Option<String> {
        let overrides = self.up.run_args().config.overrides;
        let mut models = overrides.iter().filter_map(|item| item.split_once('='));
        let model = models.rfind(|(key, _)| key.trim() == "worker.model");
        model.map(|(_, value)| value.to_owned())
    }

    /// Returns the settings that a running product ignores: all but its address and the model.
    fn ignored(&self) -> Vec<String> {
        let overrides = self.up.run_args().config.overrides;
        let keys = overrides.iter().filter_map(|item| item.split_once('='));
        keys.map(|(key, _)| key.trim().to_owned())
            .filter(|key| !["api.listen", "worker.model"].contains(&key.as_str()))
            .collect()
    }
}

fn read(file: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin()
            .read_to_end(&mut bytes)
            .context("reading standard input")?;
    } else {
        bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    }
    String::from_utf8(bytes).with_context(|| format!("{} is not UTF-8", file.display()))
}

/// Summarizes the file through the running product, or through one started for it.
///
/// # Errors
/// If the file can't be read, the product doesn't start or doesn't serve the model, or the job doesn't succeed.
pub(crate) async fn run(context: RoleContext, args: SummarizeArgs) -> anyhow::Result<()> {
    let file = args.file.clone();
    // Standard input may stay open forever, so read it where it can be abandoned.
    let reading = tokio::task::spawn_blocking(move || read(&file));
    let text = unless_stopped(&context.stop, async { reading.await? }).await?;
    let request = SubmitSummary {
        text: Some(text),
        params: GenerationParams {
            num_beams: args.num_beams,
            first_sentence: args.all_sentences.then_some(false),
            ..GenerationParams::default()
        },
        priority: args.priority,
        ..SubmitSummary::default()
    };
    let http = client::http()?;
    let api = client::reachable(context.config.api.listen);
    match client::probe(&http, &format!("http://{api}/readyz")).await {
        ProbeOutcome::Absent => {}
        ProbeOutcome::Silent => bail!(
            "a server at {api} accepts connections but does not answer; choose the gateway's address with --set \
             api.listen=HOST:PORT"
        ),
        ProbeOutcome::Answers(_) => {
            let work = through_running_product(&http, api, request, &args);
            return unless_stopped(&context.stop, work).await;
        }
    }
    eprintln!("No gateway at http://{api}: starting Precis for this summary");
    let stop = context.stop.clone();
    let config_args = args.up.run_args().config;
    let running = Box::pin(Running::start(&context, &config_args)).await?;
    let outcome = unless_stopped(&stop, async {
        print(&gateway(&http, api, &args), &request, &args).await
    })
    .await;
    running.stop().await;
    outcome
}

fn gateway<'a>(http: &'a reqwest::Client, api: SocketAddr, args: &SummarizeArgs) -> Gateway<'a> {
    Gateway::new(http, api, Duration::from_secs(args.wait))
}

/// Summarizes through a product that runs already. Its own settings apply.
async fn through_running_product(
    http: &reqwest::Client,
    api: SocketAddr,
    mut request: SubmitSummary,
    args: &SummarizeArgs,
) -> anyhow::Result<()> {
    let ignored = args.ignored();
    if !ignored.is_empty() {
        eprintln!(
            "Using the product that runs at http://{api}. It has settings of its own, so these have no effect: {}",
            ignored.join(", ")
        );
    }
    let gateway = gateway(http, api, args);
    if let Some(wanted) = args.model() {
        let served = gateway.models().await?;
        let model = served_model(&served, &wanted).with_context(|| not_served(&served, &wanted, api))?;
        eprintln!(
            "Using the model {} ({}) that the product at http://{api} serves as `{}`",
            model.name, model.revision, model.served_as
        );
        request.model = Some(model.served_as.to_string());
    }
    print(&gateway, &request, args).await
}

/// Returns the served model with the name `wanted`, or the one that a worker with this `worker.model` serves.
///
/// A model that shares its name with another does not count: the other one might answer.
fn served_model<'a>(served: &'a ModelList, wanted: &str) -> Option<&'a ModelView> {
    let source = ModelChoice::from(wanted.to_owned());
    let commit = match &source {
        ModelChoice::Hub { revision, .. } => revision.as_deref(),
        _ => None,
    };
    let name = precis_worker::model::model_name(&source);
    let by_name = |model: &&ModelView| model.served_as.as_str() == wanted;
    let by_source = |model: &&ModelView| {
        // A branch or tag can't be compared with a commit.
        let is_commit = |text: &str| text.len() >= 7 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let same_commit =
            commit.is_none_or(|commit| !is_commit(commit) || model.revision.starts_with(commit));
        (model.name == name || model.name == wanted) && same_commit && !model.mixed
    };
    let models = || served.models.iter();
    models().find(by_name).or_else(|| models().find(by_source))
}

fn not_served(served: &ModelList, wanted: &str, api: SocketAddr) -> String {
    let name = precis_worker::model::model_name(&ModelChoice::from(wanted.to_owned()));
    let is_wanted = |model: &&ModelView| model.mixed && [wanted, &name].contains(&model.name.as_str());
    if let Some(shared) = served.models.iter().find(is_wanted) {
        return format!(
            "the product at http://{api} serves {wanted} as `{}`, and another model too, so either might answer; give one of \
             them its own name with --serve-as",
            shared.served_as
        );
    }
    let models: Vec<String> = served
        .models
        .iter()
        .map(|model| format!("`{}` ({})", model.served_as, model.name))
        .collect();
    let models = match models.is_empty() {
        true => "no model".to_owned(),
        false => models.join(", "),
    };
    format!(
        "the product at http://{api} does not serve the model {wanted}, but {models}; serve it too with `precis worker \
         --model {wanted} --serve-as NAME` and use `--model NAME`, or stop the product first"
    )
}

/// Runs `work` until it ends or the process is asked to stop.
async fn unless_stopped<T>(
    stop: &CancellationToken,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::select! {
        outcome = work => outcome,
        () = stop.cancelled() => Err(anyhow::anyhow!("interrupted")),
    }
}

async fn print(gateway: &Gateway<'_>, request: &SubmitSummary, args: &SummarizeArgs) -> anyhow::Result<()> {
    let view = gateway.summarize(request).await?;
    let mut out = std::io::stdout();
    match (view.status, &view.summary, &view.error) {
        (Status::Succeeded, Some(_), _) if args.json => {
            writeln!(out, "{}", serde_json::to_string_pretty(&view)?)?;
        }
        (Status::Succeeded, Some(summary), _) => writeln!(out, "{summary}")?,
        (_, _, Some(error)) => bail!("{}: {}", error.code, error.message),
        _ => bail!(
            "no summary after {} s (job {}); wait longer with --wait",
            args.wait,
            view.id
        ),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(models: &[(&str, &str, &str, bool)]) -> ModelList {
        let models = models.iter().map(|(served_as, name, revision, mixed)| {
            serde_json::from_value(serde_json::json!({
                "served_as": served_as, "name": name, "revision": revision, "mixed": mixed, "default": false,
                "workers": 1, "devices": ["cpu"], "lanes": ["normal"], "in_flight": 0,
                "limits": {"max_input_tokens": 512, "max_text_chars": 1000, "max_reference_chars": 1000,
                           "max_num_beams": 64, "max_new_tokens": 512, "max_batch": 8}
            }))
            .unwrap()
        });
        ModelList {
            models: models.collect(),
        }
    }

    #[test]
    fn a_model_is_found_by_served_name_folder_or_repository() {
        let list = served(&[
            ("default", "precis-mini", "aa", false),
            ("flan", "flan-t5-small", "0fc9ddf78a1e", false),
            ("news", "t5-news", "bb", false),
        ]);
        let found = |wanted: &str| served_model(&list, wanted).map(|model| model.served_as.to_string());
        assert_eq!(found("embedded").as_deref(), Some("default"));
        assert_eq!(found("flan").as_deref(), Some("flan"));
        assert_eq!(found("google/flan-t5-small").as_deref(), Some("flan"));
        assert_eq!(found("google/flan-t5-small@main").as_deref(), Some("flan"));
        assert_eq!(found("google/flan-t5-small@0fc9ddf").as_deref(), Some("flan"));
        assert_eq!(found("google/flan-t5-small@1111111"), None);
        assert_eq!(found("/srv/models/t5-news").as_deref(), Some("news"));
        assert_eq!(found("google/flan-t5-base"), None);
    }

    #[test]
    fn a_model_that_shares_its_name_is_not_promised() {
        let list = served(&[
            ("default", "flan-t5-small", "aa", true),
            ("default", "precis-mini", "bb", true),
        ]);
        assert_eq!(served_model(&list, "google/flan-t5-small"), None);
        assert!(served_model(&list, "default").is_some());
        let error = not_served(&list, "google/flan-t5-small", "127.0.0.1:8000".parse().unwrap());
        assert!(
            error.contains("--serve-as") && error.contains("either might answer"),
            "{error}"
        );
    }
}
