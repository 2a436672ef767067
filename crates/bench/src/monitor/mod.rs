//! `precis bench monitor`: what it costs to keep predictions and to ask for them. Servers of its own, no workers.
//!
//! | file | what |
//! | --- | --- |
//! | `results.rs` | results that look like those of workers |
//! | `stream.rs` | from the stream into ClickHouse, beside plain insert loops with the same crate |
//! | `generate.rs` | many predictions, made inside ClickHouse |
//! | `queries.rs` | every named query, timed |
//! | `storage.rs` | bytes of a row, and what other codecs would make of its columns |
//! | `report.rs` | the tables |

mod generate;
mod queries;
mod report;
mod results;
mod storage;
mod stream;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use precis_runtime::boot::{self, RoleContext, RunArgs};
use precis_runtime::config::ConfigArgs;
use tempfile::TempDir;

use self::report::Report;
use super::api::free_port;
use crate::up::{Running, UpArgs};

/// What `precis bench monitor` measures, and with how much.
#[derive(Debug, Args)]
pub(crate) struct MonitorBench {
    /// Rounds, in each of which results go once through the monitor, once as rows that are ready and once to be scored through plain loops
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Results of a round
    #[arg(long, default_value_t = 20_000)]
    results: usize,
    /// Predictions that the named queries are asked about; made inside ClickHouse
    #[arg(long, default_value_t = 10_000_000)]
    rows: u64,
    /// How often each query is asked
    #[arg(long, default_value_t = 7)]
    repeats: usize,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

impl MonitorBench {
    pub(super) fn run(self) -> ExitCode {
        let prepared = tempfile::tempdir()
            .context("a folder for the data")
            .and_then(|folder| Ok((self.run_args(&folder)?, folder)));
        let (run, folder) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                eprintln!("error: {error:#}");
                return ExitCode::FAILURE;
            }
        };
        let up = UpArgs {
            run: run.clone(),
            ..UpArgs::default()
        };
        let ended = boot::run_interruptible(&run, move |context| async move {
            let running = Box::pin(Running::start(&context, &up)).await?;
            let outcome = Box::pin(self.measure(&context)).await;
            running.stop().await;
            self.show(&outcome?)
        });
        // The data has to stay until everything that uses it has ended.
        drop(folder);
        ended
    }

    /// Servers on free ports with their data in `folder`; what the user sets wins.
    fn run_args(&self, folder: &TempDir) -> anyhow::Result<RunArgs> {
        let mut config = self.config.clone();
        config.quiet = true;
        config.overrides = vec![
            format!("api.listen=127.0.0.1:{}", free_port()?),
            format!("monitor.listen=127.0.0.1:{}", free_port()?),
            format!("nats.url=nats://127.0.0.1:{}", free_port()?),
            format!("clickhouse.url=http://127.0.0.1:{}", free_port()?),
            format!("standalone.data_dir={}", folder.path().join("data").display()),
            "standalone.start_monitor=false".to_owned(),
            "standalone.workers=0".to_owned(),
        ];
        config.overrides.extend(self.config.overrides.iter().cloned());
        Ok(RunArgs {
            config,
            stop_with_parent: false,
        })
    }

    async fn measure(&self, context: &RoleContext) -> anyhow::Result<Report> {
        let client = client(context);
        let mut report = Report::default();
        for round in 0..self.rounds {
            eprintln!("stream: round {} of {}", round + 1, self.rounds);
            let results = results::several(round, self.results);
            report.add(Box::pin(stream::round(context, &client, &results)).await?);
        }
        report.storage = storage::bytes_per_row(&client).await?;
        report.codecs = storage::of_texts(&client).await?;
        eprintln!("queries: {} predictions are being made", self.rows);
        report.rows = self.rows;
        report.figures_seconds = generate::predictions(&client, self.rows).await?;
        // There have to be days beside those of the baseline.
        if generate::days(self.rows) > u64::from(context.config.drift.baseline_days) + 1 {
            let drift = Box::pin(stream::drift(context, &client));
            report.drift_seconds = Some(drift.await?);
        }
        report.codecs.extend(storage::of_numbers(&client).await?);
        eprintln!("queries: asked {} times each", self.repeats);
        report.queries = queries::timed(&client, self.repeats).await?;
        Ok(report)
    }

    fn show(&self, report: &Report) -> anyhow::Result<()> {
        let summary = report.summary();
        print!("{summary}");
        if self.json {
            println!("{}", serde_json::to_string(&summary)?);
        }
        Ok(())
    }
}

/// A client of the database.
fn client(context: &RoleContext) -> clickhouse::Client {
    let settings = &context.config.clickhouse;
    let client = clickhouse::Client::default()
        .with_url(settings.url.expose())
        .with_user(&settings.user)
        .with_database(&settings.database);
    match &settings.password {
        Some(password) => client.with_password(password.expose()),
        None => client,
    }
}
