//! `precis bench monitor`: the cost of storing predictions and querying them.
//!
//! It starts NATS and ClickHouse of its own, but no workers.
//!
//! | file | what |
//! | --- | --- |
//! | `results.rs` | synthetic results that resemble a worker's |
//! | `stream.rs` | results from the stream into ClickHouse, compared with plain insert loops |
//! | `generate.rs` | many synthetic predictions, generated inside ClickHouse |
//! | `queries.rs` | latency of every named query |
//! | `storage.rs` | bytes per row, and alternative codecs |
//! | `report.rs` | the tables |

mod generate;
mod queries;
mod report;
mod results;
mod storage;
mod stream;

use std::process::ExitCode;

use clap::Args;
use precis_runtime::boot::RoleContext;
use precis_runtime::config::ConfigArgs;

use self::report::Report;
use crate::print_report;
use crate::product::{Product, run_with_product};

/// Arguments of `precis bench monitor`.
#[derive(Debug, Args)]
pub struct MonitorBench {
    /// Number of rounds; each inserts the results through the monitor and through two plain insert loops
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Results per round
    #[arg(long, default_value_t = 20_000)]
    results: usize,
    /// Predictions to run the named queries on; ClickHouse generates them
    #[arg(long, default_value_t = 10_000_000)]
    rows: u64,
    /// Runs of each named query
    #[arg(long, default_value_t = 7)]
    repeats: usize,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

impl MonitorBench {
    pub(crate) fn run<P: Product>(self) -> ExitCode {
        let defaults = vec![
            // The benchmark runs the monitor in its own process.
            "standalone.start_monitor=false".to_owned(),
            "standalone.workers=0".to_owned(),
        ];
        run_with_product::<P, _>(
            &self.config,
            defaults,
            async |context| self.measure(context).await,
            |report| print_report(&report.summary(), self.json),
        )
    }

    async fn measure(&self, context: &RoleContext) -> anyhow::Result<Report> {
        let client = clickhouse_client(context);
        let mut report = Report::default();
        for round in 0..self.rounds {
            eprintln!("stream: round {} of {}", round + 1, self.rounds);
            let results = results::generate(round, self.results)?;
            report.add(Box::pin(stream::run_round(context, &client, &results)).await?);
        }
        report.storage = storage::bytes_per_row(&client).await?;
        report.codecs = storage::text_codecs(&client).await?;
        eprintln!("queries: generating {} predictions", self.rows);
        report.rows = self.rows;
        report.rollup_seconds = generate::fill(&client, self.rows).await?;
        // Drift compares later days with those of the baseline.
        if generate::days(self.rows) > u64::from(context.config.drift.baseline_days) + 1 {
            let drift = Box::pin(stream::measure_drift(context, &client));
            report.drift_seconds = Some(drift.await?);
        }
        report.codecs.extend(storage::number_codecs(&client).await?);
        eprintln!("queries: running each {} times", self.repeats);
        report.queries = queries::measure(&client, self.repeats).await?;
        Ok(report)
    }
}

/// Returns a client for the configured database.
fn clickhouse_client(context: &RoleContext) -> clickhouse::Client {
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
