//! `precis bench api`: what the queue adds. A product of its own, with a worker whose engine answers at once, is asked
//! over HTTP; beside it, in the same run and at the same server, what is left when everything around the messages is
//! taken away.
//!
//! | file | what |
//! | --- | --- |
//! | `http.rs` | clients of the gateway |
//! | `load.rs` | closed and open loops, and what they come to |
//! | `ceiling.rs` | bare NATS, and the same messages through bare streams |
//! | `processes.rs` | processor time of each process |
//! | `report.rs` | the table, and the ratios |

mod ceiling;
mod http;
mod load;
mod processes;
mod report;

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use precis_engine::{Engine, EngineOptions, GenerateRequest, ModelSource, NO_OP};
use precis_runtime::boot::{self, RoleContext, RunArgs};
use precis_runtime::config::ConfigArgs;
use precis_schemas::JobResult;
use precis_schemas::subject::ALL_RESULTS;
use precis_schemas::topology::RESULTS;
use tempfile::TempDir;

use self::ceiling::{Echo, RawQueue};
use self::http::{Bodies, Client, Way};
use self::load::{Caller, closed, open};
use self::processes::{processor_seconds, spent};
use self::report::{Report, Round};
use super::clock::median;
use crate::client;
use crate::up::{Running, UpArgs};

/// The texts of the jobs.
const ARTICLES: &str = include_str!("../../../../../samples/articles.jsonl");
/// Numbers of clients that are measured unless others are asked for.
const CLIENTS: [u16; 3] = [1, 16, 256];
/// Texts that the engine is called with directly, in each round.
const DIRECT_CALLS: usize = 2_000;

/// What `precis bench api` measures, and how long.
#[derive(Debug, Args)]
pub(crate) struct ApiBench {
    /// Rounds, in each of which everything is measured once, in turns
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds for which each thing is measured in a round
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// With the monitor and ClickHouse, which read every result and share the cores
    #[arg(long)]
    monitor: bool,
    /// Jobs that the worker has in hand at a time
    #[arg(long, default_value_t = 256)]
    max_batch: usize,
    /// Numbers of clients that are measured; half load is half of what the most of them reach
    #[arg(long, value_delimiter = ',', default_values_t = CLIENTS, value_parser = clap::value_parser!(u16).range(1..))]
    clients: Vec<u16>,
    /// Only requests that wait for their result (`Prefer: wait`): neither polling nor what they are compared with
    #[arg(long)]
    path_only: bool,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

impl ApiBench {
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
            without_monitor: !self.monitor,
            ..UpArgs::default()
        };
        let ended = boot::run_interruptible(&run, move |context| async move {
            let running = Box::pin(Running::start(&context, &up)).await?;
            let outcome = self.measure(&context).await;
            running.stop().await;
            self.show(&outcome?)
        });
        // The data has to stay until everything that uses it has ended.
        drop(folder);
        ended
    }

    /// A product on free ports with its data in `folder`; what the user sets wins.
    fn run_args(&self, folder: &TempDir) -> anyhow::Result<RunArgs> {
        let mut config = self.config.clone();
        config.quiet = true;
        config.overrides = vec![
            format!("api.listen=127.0.0.1:{}", free_port()?),
            format!("monitor.listen=127.0.0.1:{}", free_port()?),
            format!("worker.admin_listen=127.0.0.1:{}", free_port()?),
            format!("nats.url=nats://127.0.0.1:{}", free_port()?),
            format!("clickhouse.url=http://127.0.0.1:{}", free_port()?),
            format!("standalone.data_dir={}", folder.path().join("data").display()),
            format!("worker.model={NO_OP}"),
            format!("worker.max_batch={}", self.max_batch),
        ];
        config.overrides.extend(self.config.overrides.iter().cloned());
        Ok(RunArgs {
            config,
            stop_with_parent: false,
        })
    }

    async fn measure(&self, context: &RoleContext) -> anyhow::Result<Report> {
        let texts = texts()?;
        let clients: BTreeSet<usize> = self.clients.iter().copied().map(usize::from).collect();
        let most_clients = clients.last().copied().context("--clients: no clients")?;
        let clients: Vec<usize> = clients.into_iter().collect();
        let api = client::reachable(context.config.api.listen);
        let setting = Setting {
            engine: Engine::load(&ModelSource::NoOp, &EngineOptions::default())?,
            bodies: Bodies::new(&texts),
            messages: Messages::sample(context, api, &texts).await?,
            texts,
            api,
            nats: context.config.nats.url.expose().to_owned(),
            measured: Duration::from_secs_f64(self.seconds),
            clients: clients.clone(),
            most_clients,
            path_only: self.path_only,
        };
        let mut report = Report::new(clients);
        for round in 1..=self.rounds {
            eprintln!("round {round} of {}", self.rounds);
            report.add(Box::pin(setting.round()).await?);
        }
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

/// What stays the same in all rounds.
struct Setting {
    engine: Engine,
    texts: Vec<String>,
    bodies: Arc<Bodies>,
    messages: Messages,
    api: SocketAddr,
    nats: String,
    measured: Duration,
    clients: Vec<usize>,
    most_clients: usize,
    path_only: bool,
}

impl Setting {
    /// Everything once.
    async fn round(&self) -> anyhow::Result<Round> {
        let mut round = Round {
            direct_ms: self.direct()?,
            ..Round::default()
        };
        for &clients in &self.clients {
            for (name, way) in [("wait", Way::Wait), ("poll", Way::Poll), ("http", Way::Healthz)] {
                if self.path_only && way != Way::Wait {
                    continue;
                }
                let callers = Client::several(clients, self.api, way, &self.bodies).await?;
                let before = processor_seconds();
                let figures = closed(callers, self.measured).await?;
                if (name, clients) == ("wait", self.most_clients) {
                    round.processor = spent(&before, &processor_seconds());
                    round.processor_jobs = figures.all_calls;
                }
                round.add(name, clients, figures);
            }
            if self.path_only {
                continue;
            }
            let Messages { job, result } = &self.messages;
            let (callers, _answering) = Echo::several(clients, &self.nats, job, result).await?;
            round.add("request-reply", clients, closed(callers, self.measured).await?);
            let (callers, _working) = RawQueue::several(clients, &self.nats, job, result).await?;
            round.add("raw queue", clients, closed(callers, self.measured).await?);
        }
        // Half of what the path came to with the most clients, which is a rate that it can keep up.
        let half = round.per_second("wait", self.most_clients) / 2.0;
        for (name, way) in [("wait at half load", Way::Wait), ("poll at half load", Way::Poll)] {
            if self.path_only && way != Way::Wait {
                continue;
            }
            let callers = Client::several(self.most_clients, self.api, way, &self.bodies).await?;
            round.add(name, self.most_clients, open(callers, half, self.measured).await?);
        }
        Ok(round)
    }

    /// Milliseconds of a call of the engine, half of which are faster.
    fn direct(&self) -> anyhow::Result<f64> {
        let mut spent = Vec::with_capacity(DIRECT_CALLS);
        for text in self.texts.iter().cycle().take(DIRECT_CALLS) {
            let before = Instant::now();
            let encoded = self.engine.tokenize(text)?;
            let request = GenerateRequest::new(encoded, self.engine.default_params().clone());
            self.engine.submit(&request)?.wait()?;
            spent.push(1e3 * before.elapsed().as_secs_f64());
        }
        Ok(median(spent))
    }
}

/// A job and its result as they travel.
struct Messages {
    job: Bytes,
    result: Bytes,
}

impl Messages {
    /// Sends one text through the product and picks up the messages.
    async fn sample(context: &RoleContext, api: SocketAddr, texts: &[String]) -> anyhow::Result<Self> {
        // The middle of the lengths stands for all.
        let mut by_length = texts.to_vec();
        by_length.sort_by_key(String::len);
        let text = by_length[by_length.len() / 2].clone();
        let body = Bodies::new(&[text]);
        Client::connect(api, Way::Wait, body).await?.call().await?;
        let queue = context.connect("precis-bench").await?;
        let stream = queue.jetstream.get_stream(RESULTS).await?;
        let message = stream.get_last_raw_message_by_subject(ALL_RESULTS).await?;
        let result: JobResult = serde_json::from_slice(&message.payload)?;
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

fn texts() -> anyhow::Result<Vec<String>> {
    let text = |line: &str| -> anyhow::Result<String> {
        let line: serde_json::Value = serde_json::from_str(line)?;
        let text = line["article"].as_str().context("samples/articles.jsonl")?;
        Ok(text.to_owned())
    };
    ARTICLES.lines().map(text).collect()
}

/// A port that is free now.
pub(super) fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no port is free")?;
    Ok(listener.local_addr()?.port())
}
