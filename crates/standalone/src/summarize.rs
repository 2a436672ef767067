//! `precis summarize`: prints the summary of a file.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use precis_runtime::boot::RoleContext;
use precis_schemas::GenerationParams;
use precis_schemas::rest::{Status, SubmitSummary};
use tokio_util::sync::CancellationToken;

use crate::client;
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
/// If the file can't be read, the product doesn't start, or the job doesn't succeed.
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
        ..SubmitSummary::default()
    };
    let http = client::http()?;
    let api = client::reachable(context.config.api.listen);
    if client::is_up(&http, &format!("http://{api}/readyz")).await {
        return unless_stopped(&context.stop, print(&http, api, &request, &args)).await;
    }
    eprintln!("No gateway at http://{api}: starting Precis for this summary");
    let stop = context.stop.clone();
    let config_args = args.up.run_args().config;
    let running = Box::pin(Running::start(&context, &config_args)).await?;
    let outcome = unless_stopped(&stop, print(&http, api, &request, &args)).await;
    running.stop().await;
    outcome
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

async fn print(
    http: &reqwest::Client,
    api: std::net::SocketAddr,
    request: &SubmitSummary,
    args: &SummarizeArgs,
) -> anyhow::Result<()> {
    let view = client::summarize(http, api, request, Duration::from_secs(args.wait)).await?;
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
