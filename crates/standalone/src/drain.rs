//! `precis worker drain`: retires a worker.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use async_nats::RequestErrorKind;
use precis_runtime::boot::RoleContext;
use precis_runtime::clock::Instant;
use precis_runtime::config::ConfigArgs;
use precis_runtime::liveness::LiveWorkers;
use precis_schemas::event::{Drain, Draining, HEARTBEAT_SECONDS};
use precis_schemas::{Token, subject};

/// Interval between questions about the jobs that are left.
const POLL: Duration = Duration::from_millis(500);

/// Arguments of `precis worker drain`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DrainArgs {
    /// Id of the worker, as `precis status` prints it
    #[arg(value_name = "ID")]
    worker: String,
    /// Seconds to wait until the worker has left
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    wait: u64,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

/// Asks the worker to retire and waits until it has left.
///
/// # Errors
/// If NATS can't be reached, no live worker has the id, or the worker does not answer or still has jobs after the wait.
pub(crate) async fn run(context: RoleContext, args: DrainArgs) -> anyhow::Result<()> {
    let worker = Token::new("the id of a worker", &args.worker)?;
    let client = context.connect("precis-drain").await?.client;
    let live = LiveWorkers::listen(&client, context.stop.clone()).await?;
    let deadline = Instant::now() + Duration::from_secs(args.wait);
    let mut out = std::io::stdout();
    let body = serde_json::to_vec(&Drain {})?;
    // Whether a worker with this id has received a request.
    let mut asked = false;
    // Jobs that it still holds.
    let mut in_flight = None;
    loop {
        let request = client.request(subject::drain_of(&worker), body.clone().into());
        match request.await {
            Ok(message) => {
                let answer =
                    serde_json::from_slice::<Draining>(&message.payload).context("the worker's answer")?;
                if in_flight.is_none() {
                    writeln!(
                        out,
                        "{worker} takes no more jobs and finishes {}",
                        answer.in_flight
                    )?;
                }
                in_flight = Some(answer.in_flight);
            }
            // It may have left before it could answer. The next request tells.
            Err(error) if error.kind() == RequestErrorKind::TimedOut => {}
            Err(error) if error.kind() == RequestErrorKind::NoResponders && asked => {
                writeln!(out, "{worker} has left")?;
                return Ok(());
            }
            Err(error) if error.kind() == RequestErrorKind::NoResponders => {
                // Every live worker sends a heartbeat in this time.
                tokio::time::sleep(Duration::from_secs(HEARTBEAT_SECONDS) + Duration::from_millis(300)).await;
                let ids: Vec<String> = live.live().iter().map(|other| other.worker.to_string()).collect();
                bail!(
                    "no live worker has the id {worker}; live workers: {}",
                    listed(&ids)
                );
            }
            Err(error) => return Err(error).context("asking the worker"),
        }
        asked = true;
        if Instant::now() >= deadline {
            match in_flight {
                Some(jobs) => bail!(
                    "{worker} still has {jobs} jobs after {} s; it leaves when they have ended, or after its \
                     worker.drain_seconds",
                    args.wait
                ),
                None => bail!("{worker} has not answered within {} s", args.wait),
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

fn listed(ids: &[String]) -> String {
    match ids {
        [] => "none".to_owned(),
        ids => ids.join(", "),
    }
}
