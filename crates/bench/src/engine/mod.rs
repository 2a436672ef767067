//! `precis bench engine`: the engine compared with itself under other settings, and with other inference engines.
//!
//! | file | what |
//! | --- | --- |
//! | `comparison.rs` | throughput by precision, next to CTranslate2, ONNX Runtime and transformers |
//! | `peers.rs` | the process that runs those engines |
//! | `memory.rs` | resident memory of a loaded model |
//! | `arrivals.rs` | continuous batching compared with static batches |
//! | `shortcuts.rs` | prompt lookup, early stopping, request sharing and the text cache |
//! | `setup.rs` | engine options and requests that all of these use |
//! | `report.rs` | the printed table |

mod arrivals;
mod comparison;
mod memory;
mod peers;
mod report;
mod setup;
mod shortcuts;

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use precis_engine::kernels::Isa;
use precis_engine::{ModelSource, PrecisionChoice};
use serde_json::json;

use report::Report;

/// Arguments of `precis bench engine`.
#[derive(Debug, Args)]
pub struct EngineBench {
    /// Compare with CTranslate2, ONNX Runtime and transformers (install them with benchmarks/peers/setup.sh)
    #[arg(long)]
    peers: bool,
    /// Run the comparison's texts and model on our engine only
    #[arg(long)]
    own: bool,
    /// Directory that benchmarks/peers/setup.sh created
    #[arg(
        long,
        value_name = "DIR",
        env = "PRECIS_PEERS_DIR",
        default_value = ".local/peers"
    )]
    peers_dir: PathBuf,
    /// Script that runs the other engines
    #[arg(long, value_name = "FILE", default_value = "benchmarks/peers/serve.py")]
    peers_script: PathBuf,
    /// Number of rounds; each round measures everything once, in turns
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Number of texts in the comparison
    #[arg(long, default_value_t = 16)]
    texts: usize,
    /// Mean length of the texts in tokens: 120, 350 or 500
    #[arg(long, default_value_t = 350)]
    length: usize,
    /// Number of beams in the comparison; 1 is greedy search
    #[arg(long, default_value_t = 8)]
    beams: usize,
    /// Precisions of our engine to measure
    #[arg(long, value_delimiter = ',', default_value = "f32,bf16,int8")]
    precisions: Vec<PrecisionChoice>,
    /// Also measure requests that arrive at random times
    #[arg(long)]
    arrivals: bool,
    /// Maximum decoder rows per thread with --arrivals; 0 for the engine's default
    #[arg(long, default_value_t = 0)]
    rows: usize,
    /// Measure only requests that arrive at random times
    #[arg(long)]
    arrivals_only: bool,
    /// Measure only memory
    #[arg(long, hide = true)]
    memory: bool,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

impl EngineBench {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        if self.memory {
            let requests = setup::fixed_length_requests(&self.inputs()?, self.beams);
            println!("{}", memory::measure(&self.model_dir(), &requests)?);
            return Ok(());
        }
        let mut report = Report::default();
        report
            .details
            .insert("instructions".into(), json!(Isa::detect().name()));
        let with_comparison = self.peers || self.own;
        if with_comparison && !self.arrivals_only {
            comparison::measure(&self, &mut report)?;
        }
        if !self.arrivals_only {
            shortcuts::measure(self.rounds, &mut report)?;
        }
        if self.arrivals || self.arrivals_only {
            let source = match with_comparison {
                true => ModelSource::Path(self.model_dir()),
                false => ModelSource::Embedded,
            };
            arrivals::measure(&source, self.rows, self.rounds, &mut report)?;
        }
        print!("{report}");
        if self.json {
            println!("{}", serde_json::to_string(&report)?);
        }
        Ok(())
    }

    /// Returns the folder of the comparison's model.
    fn model_dir(&self) -> PathBuf {
        self.peers_dir.join("models/model")
    }

    /// Reads the comparison's texts, as token ids.
    fn inputs(&self) -> anyhow::Result<Vec<Vec<u32>>> {
        let path = self.peers_dir.join(format!("models/inputs-{}.json", self.length));
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(serde_json::from_str(&text)?)
    }
}
