//! `precis bench api`: the cost of the queue.
//!
//! HTTP clients call a product whose engine answers at once. In the same run, bare NATS clients send the same messages
//! to the same server, which gives the upper bound.
//!
//! | file | what |
//! | --- | --- |
//! | `http.rs` | clients of the gateway |
//! | `load.rs` | closed and open workloads |
//! | `ceiling.rs` | bare NATS request-reply, and the same messages through bare streams |
//! | `report.rs` | the table and the ratios |

mod ceiling;
mod http;
mod load;
mod report;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use precis_engine::{Engine, EngineOptions, GenerateRequest, ModelSource, NO_OP};
use precis_runtime::boot::RoleContext;
use precis_runtime::clock::Instant;
use precis_runtime::config::ConfigArgs;
use precis_runtime::texts::Texts;
use precis_schemas::JobResult;
use precis_schemas::subject::ALL_RESULTS;
use precis_schemas::topology::RESULTS;

use self::ceiling::{BareQueue, Echo};
use self::http::{HttpClient, Mode, RequestBodies};
use self::load::{Caller, run_closed, run_open};
use self::report::{Report, Round};
use crate::print_report;
use crate::processes::{difference, processor_seconds};
use crate::product::{Product, run_with_product};
use crate::samples::articles;
use crate::stats::median;

/// Default numbers of clients.
const CLIENTS: [u16; 3] = [1, 16, 256];
/// Direct engine calls per round.
const DIRECT_CALLS: usize = 2_000;

/// Arguments of `precis bench api`.
#[derive(Debug, Args)]
pub struct ApiBench {
    /// Number of rounds; each round measures everything once, in turns
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds per measurement
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Start the monitor and ClickHouse too; they process every result and share the cores
    #[arg(long)]
    monitor: bool,
    /// Maximum jobs in flight on the worker
    #[arg(long, default_value_t = 256)]
    max_batch: usize,
    /// Numbers of clients to measure; half load is half the throughput of the largest number
    #[arg(long, value_delimiter = ',', default_values_t = CLIENTS, value_parser = clap::value_parser!(u16).range(1..))]
    clients: Vec<u16>,
    /// Measure only requests that wait for their result (`Prefer: wait`): no polling, no baselines
    #[arg(long)]
    path_only: bool,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

impl ApiBench {
    pub(crate) fn run<P: Product>(self) -> ExitCode {
        let mut defaults = vec![
            format!("worker.model={NO_OP}"),
            format!("worker.max_batch={}", self.max_batch),
        ];
        if !self.monitor {
            defaults.push("standalone.start_monitor=false".to_owned());
            defaults.push("standalone.start_clickhouse=false".to_owned());
        }
        run_with_product::<P, _>(
            &self.config,
            defaults,
            async |context| self.measure(context).await,
            |report| print_report(&report.summary(), self.json),
        )
    }

    async fn measure(&self, context: &RoleContext) -> anyhow::Result<Report> {
        let texts: Vec<String> = articles()?.into_iter().map(|sample| sample.article).collect();
        let clients: BTreeSet<usize> = self.clients.iter().copied().map(usize::from).collect();
        let most_clients = clients
            .last()
            .copied()
            .context("--clients needs at least one number")?;
        let clients: Vec<usize> = clients.into_iter().collect();
        let api = context.config.api.listen;
        let setup = Setup {
            engine: Engine::load(&ModelSource::NoOp, &EngineOptions::default())?,
            bodies: RequestBodies::new(&texts),
            messages: Messages::sample(context, api, &texts).await?,
            texts,
            api,
            nats: context.config.nats.url.expose().to_owned(),
            duration: Duration::from_secs_f64(self.seconds),
            clients: clients.clone(),
            most_clients,
            path_only: self.path_only,
        };
        let mut report = Report::new(clients);
        for round in 1..=self.rounds {
            eprintln!("round {round} of {}", self.rounds);
            report.add(Box::pin(setup.run_round()).await?);
        }
        Ok(report)
    }
}

/// State that all rounds share.
struct Setup {
    engine: Engine,
    texts: Vec<String>,
    bodies: Arc<RequestBodies>,
    messages: Messages,
    api: SocketAddr,
    nats: String,
    /// Duration of one measurement.
    duration: Duration,
    clients: Vec<usize>,
    most_clients: usize,
    path_only: bool,
}

impl Setup {
    /// Measures everything once.
    async fn run_round(&self) -> anyhow::Result<Round> {
        let mut round = Round {
            direct_ms: self.call_engine_directly()?,
            ..Round::default()
        };
        for &clients in &self.clients {
            for (name, mode) in [
                ("wait", Mode::Wait),
                ("poll", Mode::Poll),
                ("http", Mode::Healthz),
            ] {
                if self.path_only && mode != Mode::Wait {
                    continue;
                }
                let callers = HttpClient::connect_many(clients, self.api, mode, &self.bodies).await?;
                let before = processor_seconds();
                let figures = run_closed(callers, self.duration).await?;
                if (name, clients) == ("wait", self.most_clients) {
                    round.processor = difference(&before, &processor_seconds());
                    round.processor_jobs = figures.all_calls;
                }
                round.add(name, clients, figures);
            }
            if self.path_only {
                continue;
            }
            let Messages { job, result } = &self.messages;
            let (callers, _responder) = Echo::connect_many(clients, &self.nats, job, result).await?;
            round.add(
                "request-reply",
                clients,
                run_closed(callers, self.duration).await?,
            );
            let (callers, _worker) = BareQueue::connect_many(clients, &self.nats, job, result).await?;
            round.add("raw queue", clients, run_closed(callers, self.duration).await?);
        }
        // Half the throughput of the most clients is a rate that the product can sustain.
        let half = round.per_second("wait", self.most_clients) / 2.0;
        for (name, mode) in [
            ("wait at half load", Mode::Wait),
            ("poll at half load", Mode::Poll),
        ] {
            if self.path_only && mode != Mode::Wait {
                continue;
            }
            let callers = HttpClient::connect_many(self.most_clients, self.api, mode, &self.bodies).await?;
            round.add(
                name,
                self.most_clients,
                run_open(callers, half, self.duration).await?,
            );
        }
        Ok(round)
    }

    /// Returns the median duration of a direct engine call in milliseconds.
    fn call_engine_directly(&self) -> anyhow::Result<f64> {
        let mut milliseconds = Vec::with_capacity(DIRECT_CALLS);
        for text in self.texts.iter().cycle().take(DIRECT_CALLS) {
            let before = Instant::now();
            let encoded = self.engine.tokenize(text)?;
            let request = GenerateRequest::new(encoded, self.engine.default_params().clone());
            self.engine.submit(&request)?.wait()?;
            milliseconds.push(1e3 * before.elapsed().as_secs_f64());
        }
        Ok(median(milliseconds))
    }
}

/// A job and its result as NATS messages.
struct Messages {
    job: Bytes,
    result: Bytes,
}

impl Messages {
    /// Sends the text of median length through the product and returns its messages.
    async fn sample(context: &RoleContext, api: SocketAddr, texts: &[String]) -> anyhow::Result<Self> {
        let mut by_length = texts.to_vec();
        by_length.sort_by_key(String::len);
        let text = by_length[by_length.len() / 2].clone();
        let bodies = RequestBodies::new(&[text]);
        HttpClient::connect(api, Mode::Wait, bodies).await?.call().await?;
        let queue = context.connect("precis-bench").await?;
        let stream = queue.jetstream.get_stream(RESULTS).await?;
        let message = stream.get_last_raw_message_by_subject(ALL_RESULTS).await?;
        let mut result: JobResult = serde_json::from_slice(&message.payload)?;
        Texts::open(&queue.jetstream).await?.attach([&mut result]).await?;
        let job = serde_json::json!({
            "id": result.id,
            "text": result.text,
            "params": {},
            "deadline": result.finished_at,
            "channel": result.channel,
        });
        Ok(Self {
            job: serde_json::to_vec(&job)?.into(),
            result: message.payload,
        })
    }
}
