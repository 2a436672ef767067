//! `precis bench`: what the parts of the product cost, each beside its rivals in the same run.
//!
//! Machines are shared and noisy: what counts are ratios of things measured in turns, medians of several rounds, and
//! processor time where one thread is compared with one thread.

mod arrivals;
mod clock;
mod engine;
mod peers;

use clap::Subcommand;

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// The T5 engine: summaries per second of each precision, shares of the processor's peak, batching, drafts
    Engine(engine::EngineBench),
}

impl Bench {
    /// Measures, and prints a table; with `--json` one JSON object as the last line.
    ///
    /// # Errors
    /// When a model or an engine can't be loaded, or gives other tokens than it should.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Engine(bench) => bench.run(),
        }
    }
}
