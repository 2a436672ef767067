//! The command line `precis-producer`: publishes texts and files, and looks after the queue.

mod age;
mod dead;
pub(crate) mod job;
mod publish;
mod queue;
mod score;

use clap::{Parser, Subcommand};
use precis_runtime::boot::{CommandError, RoleContext, RunArgs};
use tokio_util::sync::CancellationToken;

use crate::batch;

/// Exit code if the command did its work, but jobs have no summary.
pub const EXIT_FAILED_JOBS: u8 = 3;
/// Exit code if jobs had not ended in the time that the command waited.
pub const EXIT_NOT_ENDED: u8 = 4;

/// Publishes texts to the queue of Precis
#[derive(Debug, Parser)]
#[command(name = "precis-producer", version)]
pub struct Cli {
    /// Arguments of every role.
    #[command(flatten)]
    pub run: RunArgs,
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Publish texts, one job for each, and print their summaries
    Publish(publish::PublishArgs),
    /// Summarize every row of a file, and write the results beside it
    Batch(Box<batch::BatchArgs>),
    /// Score the summaries in a file against their references
    Score(score::ScoreArgs),
    /// Show how much waits in the queue, and for how long
    Queue(queue::QueueArgs),
    /// List, show, replay and delete dead letters
    Dead(dead::DeadArgs),
}

/// Runs the command line.
///
/// # Errors
/// If the queue is unreachable or rejects a job, a file can't be read, or a job has no summary. A [`CommandError`] says
/// the exit code.
pub async fn run(context: RoleContext, command: Command) -> anyhow::Result<()> {
    let stop = context.stop.clone();
    match command {
        Command::Batch(args) => Box::pin(batch::run(context, *args)).await,
        Command::Publish(args) => Box::pin(unless_stopped(&stop, publish::run(&context, &args))).await,
        Command::Score(args) => unless_stopped(&stop, score::run(&context, &args)).await,
        Command::Queue(args) => unless_stopped(&stop, queue::run(&context, &args)).await,
        Command::Dead(args) => unless_stopped(&stop, dead::run(&context, args)).await,
    }
}

/// Abandons a command when a signal stops it. A batch instead keeps what is done.
async fn unless_stopped(
    stop: &CancellationToken,
    work: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    match stop.run_until_cancelled(work).await {
        Some(outcome) => outcome,
        None => Err(CommandError::interrupted().into()),
    }
}

/// Writes a number with a comma between thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
    }
}
