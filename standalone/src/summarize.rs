//! `precis summarize FILE|-`.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use precis_runtime::boot::Context;
use precis_schemas::GenerationParams;
use precis_schemas::rest::{Status, SubmitSummary};

use crate::client;
use crate::up::{Running, UpArgs};

/// What to summarize.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SummarizeArgs {
    /// The article; - for standard input
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// Beams to search with
    #[arg(long)]
    num_beams: Option<u32>,
    /// Keep everything that the model writes, not only the first sentence
    #[arg(long)]
    all_sentences: bool,
    /// Print the whole answer as JSON
    #[arg(long)]
    json: bool,
    /// Longest to wait for the summary, in seconds
    #[arg(long, default_value_t = 60)]
    wait: u64,
    #[command(flatten)]
    pub(crate) up: UpArgs,
}

fn read(file: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin()
            .read_to_end(&mut bytes)
            .context("standard input")?;
    } else {
        bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    }
    String::from_utf8(bytes).with_context(|| format!("{} is not UTF-8", file.display()))
}

/// Prints the summary of a file.
///
/// # Errors
/// When the file can't be read, the product can't be started, or the job does not succeed.
pub(crate) async fn run(context: Context, args: SummarizeArgs) -> anyhow::Result<()> {
    let request = SubmitSummary {
        text: read(&args.file)?,
        reference: None,
        params: GenerationParams {
            num_beams: args.num_beams,
            first_sentence: args.all_sentences.then_some(false),
            ..GenerationParams::default()
        },
        model: None,
        priority: None,
        deadline: None,
        ttl_seconds: None,
        metadata: Default::default(),
    };
    let http = client::http()?;
    let api = client::reachable(context.config.api.listen);
    if client::answers(&http, &format!("http://{api}/readyz")).await {
        return print(&http, api, &request, &args).await;
    }
    eprintln!("nothing is running at http://{api}; starting what is needed");
    let stop = context.stop.clone();
    let running = Box::pin(Running::start(&context, &args.up)).await?;
    let outcome = tokio::select! {
        outcome = print(&http, api, &request, &args) => outcome,
        () = stop.cancelled() => Err(anyhow::anyhow!("interrupted")),
    };
    running.stop().await;
    outcome
}

async fn print(
    http: &reqwest::Client,
    api: std::net::SocketAddr,
    request: &SubmitSummary,
    args: &SummarizeArgs,
) -> anyhow::Result<()> {
    let view = client::summarize(http, api, request, args.wait).await?;
    let mut out = std::io::stdout();
    match (view.status, &view.summary, &view.error) {
        (Status::Succeeded, Some(summary), _) if args.json => {
            let _ = summary;
            writeln!(out, "{}", serde_json::to_string_pretty(&view)?)?;
        }
        (Status::Succeeded, Some(summary), _) => writeln!(out, "{summary}")?,
        (_, _, Some(error)) => bail!("{}: {}", error.code, error.message),
        _ => bail!(
            "not done after {} seconds; it goes on as job {}",
            args.wait,
            view.id
        ),
    }
    Ok(())
}
