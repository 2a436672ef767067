//! `precis producer dead`: looks after dead letters.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use precis_runtime::boot::RoleContext;
use precis_runtime::clock;
use precis_schemas::rest_operations::{DeadLetterList, DeadLetterView, Replayed, StoredDeadLetter};

use super::age::{Age, age};
use crate::gateway::{self, Gateway};

/// How long the gateway may take for each request.
const PATIENCE: Duration = Duration::from_secs(30);
/// Dead letters per request.
const PAGE: &str = "500";

const EXAMPLES: &str = "\
Examples:
  precis producer dead list --code too_many_attempts --newer-than 1d
  precis producer dead show 42
  precis producer dead replay 42 43
  precis producer dead replay --code unknown_model --tenant acme
  precis producer dead purge --older-than 30d

Asks the gateway at api.listen, with the API key in PRECIS_API_KEY if it needs one. A tenant's key sees the dead letters
of the tenant. A replayed job runs as a new job; a replayed or purged letter is deleted.";

/// Arguments of `dead`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct DeadArgs {
    #[command(subcommand)]
    command: DeadCommand,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum DeadCommand {
    /// List dead letters, the latest first
    List {
        #[command(flatten)]
        filter: Filter,
        /// Most of them
        #[arg(long, value_name = "LETTERS", default_value_t = 50)]
        limit: usize,
        /// Print a JSON object per letter
        #[arg(long)]
        json: bool,
    },
    /// Show a dead letter with its whole body, as JSON
    Show {
        /// Sequence of the letter, as in the list
        sequence: u64,
    },
    /// Send jobs and webhooks to the queue again
    Replay(Selection),
    /// Delete dead letters
    Purge(Selection),
}

/// Which letters to select.
#[derive(Debug, Clone, Default, clap::Args)]
struct Filter {
    /// Error code of the reason, such as too_many_attempts
    #[arg(long, value_name = "CODE")]
    code: Option<String>,
    /// Kind: the task of a job (summarize, score), webhook, or the sink that rejected a result
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Tenant of the message
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Older than this, such as 30d, 12h or 15m
    #[arg(long, value_name = "AGE")]
    older_than: Option<Age>,
    /// Newer than this
    #[arg(long, value_name = "AGE")]
    newer_than: Option<Age>,
    /// Phrase in the body, the reason or the subject
    #[arg(long, value_name = "PHRASE")]
    contains: Option<String>,
}

/// Letters by sequence or by filter.
#[derive(Debug, Clone, clap::Args)]
struct Selection {
    /// Sequences of the letters, as in the list
    sequences: Vec<u64>,
    #[command(flatten)]
    filter: Filter,
    /// Every dead letter
    #[arg(long, conflicts_with = "sequences")]
    all: bool,
    /// Only print what would be selected
    #[arg(long)]
    dry_run: bool,
}

impl Filter {
    fn is_empty(&self) -> bool {
        self.query().is_empty()
            && self.tenant.is_none()
            && self.older_than.is_none()
            && self.newer_than.is_none()
    }

    /// Returns the part of the filter that the gateway applies.
    fn query(&self) -> Vec<(&'static str, String)> {
        let all = [("code", &self.code), ("kind", &self.kind), ("q", &self.contains)];
        all.into_iter()
            .filter_map(|(name, value)| Some((name, value.clone()?)))
            .collect()
    }

    /// Applies the other part.
    fn matches(&self, view: &DeadLetterView, now: Timestamp) -> bool {
        let age = now.duration_since(view.letter.died_at);
        self.older_than.is_none_or(|limit| age > limit.0)
            && self.newer_than.is_none_or(|limit| age < limit.0)
            && (self.tenant.is_none() || tenant(view) == self.tenant)
    }
}

fn tenant(view: &DeadLetterView) -> Option<String> {
    let stored = StoredDeadLetter {
        sequence: view.sequence,
        kind: view.kind.clone(),
        letter: view.letter.clone(),
    };
    stored.tenant()
}

/// How to reach the gateway.
struct Connection {
    http: reqwest::Client,
    address: SocketAddr,
}

impl Connection {
    /// Returns the gateway, with all its patience for the next request.
    fn gateway(&self) -> Gateway<'_> {
        Gateway::new(&self.http, self.address, PATIENCE)
    }
}

/// Runs a subcommand.
///
/// # Errors
/// If the gateway can't be reached or refuses, or a letter can't be replayed.
pub(super) async fn run(context: &RoleContext, args: DeadArgs) -> anyhow::Result<()> {
    let connection = Connection {
        http: gateway::http()?,
        address: gateway::reachable(context.config.api.listen),
    };
    match args.command {
        DeadCommand::List { filter, limit, json } => list(&connection, &filter, limit, json).await,
        DeadCommand::Show { sequence } => show(&connection, sequence).await,
        DeadCommand::Replay(selection) => each(&connection, &selection, Action::Replay).await,
        DeadCommand::Purge(selection) => each(&connection, &selection, Action::Purge).await,
    }
}

/// Returns the letters that a filter selects, the latest first, at most `limit`.
async fn selected(
    connection: &Connection,
    filter: &Filter,
    limit: usize,
) -> anyhow::Result<Vec<DeadLetterView>> {
    let now = clock::now();
    let mut found = Vec::new();
    let mut before = None;
    loop {
        let mut query = filter.query();
        query.push(("limit", PAGE.to_owned()));
        query.extend(before.map(|before: u64| ("before", before.to_string())));
        let gateway = connection.gateway();
        let page: DeadLetterList = gateway.get("/v1/dead-letters", &query).await?;
        let letters = page
            .dead_letters
            .into_iter()
            .filter(|view| filter.matches(view, now));
        found.extend(letters.take(limit - found.len()));
        before = page.next;
        if before.is_none() || found.len() == limit {
            return Ok(found);
        }
    }
}

/// Describes a letter in one line.
fn line(view: &DeadLetterView, now: Timestamp) -> String {
    const MESSAGE_CHARS: usize = 100;
    let letter = &view.letter;
    let message: String = letter.reason.message.chars().take(MESSAGE_CHARS).collect();
    format!(
        "{:>8} {:>8} {:<10} {:<12} {}: {}",
        view.sequence,
        age(letter.died_at, now),
        view.kind,
        tenant(view).unwrap_or_else(|| "-".to_owned()),
        letter.reason.code,
        message.replace(['\n', '\r'], " "),
    )
}

async fn list(connection: &Connection, filter: &Filter, limit: usize, as_json: bool) -> anyhow::Result<()> {
    let letters = selected(connection, filter, limit).await?;
    let mut out = std::io::stdout();
    let now = clock::now();
    if !as_json {
        match letters.is_empty() {
            true => writeln!(out, "no dead letters")?,
            false => writeln!(
                out,
                "{:>8} {:>8} {:<10} {:<12} reason",
                "sequence", "age", "kind", "tenant"
            )?,
        }
    }
    for view in &letters {
        match as_json {
            true => writeln!(out, "{}", serde_json::to_string(view)?)?,
            false => writeln!(out, "{}", line(view, now))?,
        }
    }
    Ok(())
}

async fn show(connection: &Connection, sequence: u64) -> anyhow::Result<()> {
    let gateway = connection.gateway();
    let view: DeadLetterView = gateway.get(&format!("/v1/dead-letters/{sequence}"), &[]).await?;
    writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&view)?)?;
    Ok(())
}

/// What to do with letters.
#[derive(Debug, Clone, Copy)]
enum Action {
    Replay,
    Purge,
}

/// Replays or deletes the selected letters, the oldest first. One that fails does not stop the others.
async fn each(connection: &Connection, selection: &Selection, action: Action) -> anyhow::Result<()> {
    let Selection {
        sequences,
        filter,
        all,
        dry_run,
    } = selection;
    let mut out = std::io::stdout();
    if !sequences.is_empty() && !filter.is_empty() {
        bail!("give sequences or a filter, not both");
    }
    if sequences.is_empty() && filter.is_empty() && !all {
        bail!("say which: give sequences, a filter such as --code or --older-than, or --all");
    }
    let mut targets = sequences.clone();
    if targets.is_empty() {
        let letters = selected(connection, filter, usize::MAX).await?;
        let now = clock::now();
        if *dry_run {
            for view in &letters {
                writeln!(out, "{}", line(view, now))?;
            }
        }
        // A webhook can be replayed, and a rejected result can't.
        let letters = letters
            .into_iter()
            .filter(|view| view.replayable || matches!(action, Action::Purge));
        targets = letters.map(|view| view.sequence).collect();
        targets.reverse();
    }
    let name = match action {
        Action::Replay => "replayed",
        Action::Purge => "deleted",
    };
    if *dry_run {
        writeln!(out, "{} would be {name}", counted(targets.len()))?;
        return Ok(());
    }
    let mut done = 0;
    for sequence in &targets {
        let outcome = apply(connection, *sequence, action).await;
        match outcome.with_context(|| format!("dead letter {sequence}")) {
            Ok(job) => {
                done += 1;
                match job {
                    Some(job) => writeln!(out, "{sequence}\t{job}")?,
                    None => writeln!(out, "{sequence}")?,
                }
            }
            Err(error) => eprintln!("error: {error:#}"),
        }
    }
    eprintln!("{} {name}", counted(done));
    anyhow::ensure!(
        done == targets.len(),
        "{} of {} dead letters were not {name}",
        targets.len() - done,
        targets.len()
    );
    Ok(())
}

fn counted(letters: usize) -> String {
    match letters {
        1 => "1 dead letter".to_owned(),
        count => format!("{count} dead letters"),
    }
}

/// Replays or deletes a letter. Returns the handle of a replayed job.
async fn apply(connection: &Connection, sequence: u64, action: Action) -> anyhow::Result<Option<String>> {
    let gateway = connection.gateway();
    let path = format!("/v1/dead-letters/{sequence}");
    match action {
        Action::Replay => {
            let replayed: Replayed = gateway.post(&format!("{path}/replay")).await?;
            Ok(replayed.job_id)
        }
        Action::Purge => {
            gateway.delete(&path).await?;
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_selected_by_age_and_tenant() {
        let view: DeadLetterView = serde_json::from_value(serde_json::json!({
            "sequence": 3, "kind": "summarize", "replayable": true, "job_sequence": 7,
            "subject": "jobs.v1.default.normal.summarize.acme", "body": "{}",
            "reason": {"code": "too_many_attempts", "message": "ten"}, "attempts": 10,
            "submitted_at": "2026-01-01T00:00:00Z", "died_at": "2026-01-01T00:00:00Z"
        }))
        .unwrap();
        let now: Timestamp = "2026-01-03T00:00:00Z".parse().unwrap();
        let age = |text: &str| Some(text.parse::<Age>().unwrap());
        let filter = |older: Option<&str>, newer: Option<&str>, tenant: Option<&str>| Filter {
            older_than: older.and_then(age),
            newer_than: newer.and_then(age),
            tenant: tenant.map(str::to_owned),
            ..Filter::default()
        };
        for (filter, is_selected) in [
            (filter(None, None, None), true),
            (filter(Some("1d"), None, None), true),
            (filter(Some("3d"), None, None), false),
            (filter(None, Some("3d"), None), true),
            (filter(None, Some("47h"), None), false),
            (filter(None, None, Some("acme")), true),
            (filter(None, None, Some("other")), false),
        ] {
            assert_eq!(filter.matches(&view, now), is_selected, "{filter:?}");
        }
        assert_eq!(
            line(&view, now).split_whitespace().collect::<Vec<_>>(),
            ["3", "48", "h", "summarize", "acme", "too_many_attempts:", "ten"]
        );
    }
}
