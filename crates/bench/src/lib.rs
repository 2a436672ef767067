//! `precis bench`: what the parts of the product cost, each beside its rivals in the same run.
//!
//! Machines are shared and noisy: what counts are ratios of things measured in turns, medians of several rounds, and
//! processor time where one thread is compared with one thread.

mod api;
mod arrivals;
mod clock;
mod engine;
mod monitor;
mod peers;
mod quality;
mod shortcuts;

use std::process::ExitCode;

use clap::Subcommand;

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// The T5 engine: summaries per second of each precision, shares of the processor's peak, batching, drafts
    Engine(engine::EngineBench),
    /// The whole path of a job, HTTP to HTTP: what the queue adds to an engine that answers at once
    Api(api::ApiBench),
    /// The monitor: results from the stream into ClickHouse beside plain insert loops, named queries, bytes of a row
    Monitor(monitor::MonitorBench),
    /// Summaries: what bf16 and int8 change in them, and what reading long texts in parts does, by ROUGE
    Quality(quality::QualityBench),
}

impl Bench {
    /// Measures, and prints a table; with `--json` one JSON object as the last line. It fails when what is measured
    /// can't be started, or gives other answers than it should.
    pub(crate) fn run(self) -> ExitCode {
        let ended = match self {
            Self::Engine(bench) => bench.run(),
            Self::Quality(bench) => bench.run(),
            Self::Api(bench) => return bench.run(),
            Self::Monitor(bench) => return bench.run(),
        };
        match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        }
    }
}
