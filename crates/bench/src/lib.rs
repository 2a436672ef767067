//! The benchmarks behind `precis bench`. Each compares a part of Precis with its alternatives in the same run.
//!
//! Machines are shared and noisy. Competitors therefore run in turns, every figure is a median over rounds, and results
//! are stated as ratios. Comparisons of one thread with one thread use processor time.
//!
//! This crate doesn't know how to start the product: the `precis` command passes that in as a [`Product`].

mod api;
mod engine;
mod faults;
mod monitor;
mod processes;
mod product;
mod quality;
mod samples;
mod schedule;
mod state;
mod stats;
mod stopwatch;

use std::fmt::Display;
use std::process::ExitCode;

use clap::Subcommand;
use serde::Serialize;

pub use product::Product;

/// The benchmarks of `precis bench`.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Measure the engine: throughput by precision, batching, prompt lookup and caching
    Engine(engine::EngineBench),
    /// Measure the job path from HTTP request to HTTP response, with an engine that answers at once
    Api(api::ApiBench),
    /// Measure the monitor: inserts into ClickHouse, named queries, storage per row
    Monitor(monitor::MonitorBench),
    /// Measure publishes and look-ups with millions of jobs and results stored
    State(state::StateBench),
    /// Break the product at random under load, and check every promise afterwards
    Faults(faults::FaultBench),
    /// Kill, restart and empty the servers of a NATS cluster under load, and check every promise afterwards
    Cluster(faults::ClusterBench),
    /// Measure summary quality by ROUGE: lower precisions, and map-reduce for long texts
    Quality(quality::QualityBench),
}

impl Bench {
    /// Runs the benchmark on a product of type `P` and prints a table, plus one line of JSON with `--json`.
    ///
    /// Fails if the product doesn't start or returns wrong results.
    pub fn run<P: Product>(self) -> ExitCode {
        let outcome = match self {
            Self::Engine(bench) => bench.run(),
            Self::Quality(bench) => bench.run(),
            Self::Faults(bench) => return bench.run(),
            Self::Cluster(bench) => return bench.run(),
            Self::Api(bench) => return bench.run::<P>(),
            Self::Monitor(bench) => return bench.run::<P>(),
            Self::State(bench) => return bench.run::<P>(),
        };
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        }
    }
}

/// Prints a report as a table, and as one line of JSON if `json` is set.
fn print_report(report: &(impl Display + Serialize), json: bool) -> anyhow::Result<()> {
    print!("{report}");
    if json {
        println!("{}", serde_json::to_string(report)?);
    }
    Ok(())
}
