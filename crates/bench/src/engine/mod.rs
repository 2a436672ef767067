//! `precis bench engine`: the engine beside itself in other settings, and beside the engines of others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use precis_engine::kernels::{Isa, Precision, operations_at_peak};
use precis_engine::{
    Drafting, Encoded, Engine, EngineOptions, GenerateRequest, GenerationParams, ModelSource, PrecisionChoice,
};
use precis_runtime::allocator::RETURN_MEMORY_ENV;
use serde::Serialize;
use serde_json::{Value, json};

use super::clock::{Spent, median, resident_megabytes, time};
use super::peers::{Order, Peers};
use super::{arrivals, shortcuts};

/// Tokens that every summary of a comparison has.
const NEW_TOKENS: usize = 64;

/// What `precis bench engine` measures, and how often.
#[derive(Debug, Args)]
pub(crate) struct EngineBench {
    /// Compare with CTranslate2, ONNX Runtime and transformers (benchmarks/peers/setup.sh installs them)
    #[arg(long)]
    peers: bool,
    /// Take the texts and the model of the comparison, and leave the others out of it
    #[arg(long)]
    own: bool,
    /// Where benchmarks/peers/setup.sh put them
    #[arg(
        long,
        value_name = "DIR",
        env = "PRECIS_PEERS_DIR",
        default_value = ".local/peers"
    )]
    peers_dir: PathBuf,
    /// The program that serves them
    #[arg(long, value_name = "FILE", default_value = "benchmarks/peers/serve.py")]
    peers_script: PathBuf,
    /// Rounds, in each of which everything is measured once, in turns
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Texts of a comparison
    #[arg(long, default_value_t = 16)]
    texts: usize,
    /// Mean length of the texts in tokens: 120, 350 or 500
    #[arg(long, default_value_t = 350)]
    length: usize,
    /// Beams of the comparison; 1 is greedy search
    #[arg(long, default_value_t = 8)]
    beams: usize,
    /// Precisions of our own engine that are measured
    #[arg(long, value_delimiter = ',', default_value = "f32,bf16,int8")]
    precisions: Vec<PrecisionChoice>,
    /// Also measure the arrival of requests at random times
    #[arg(long)]
    arrivals: bool,
    /// Most decoder rows of a thread where requests arrive at random times; 0 is the engine's own number
    #[arg(long, default_value_t = 0)]
    rows: usize,
    /// Measure the arrivals only
    #[arg(long)]
    arrivals_only: bool,
    /// Measure memory only
    #[arg(long, hide = true)]
    memory: bool,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

/// Figures by name; what the ratios are made of, and the ratios.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// Processor milliseconds for a summary on one thread, by engine.
    cpu_ms: BTreeMap<String, f64>,
    /// Summaries per second by the wall clock, by engine and threads.
    per_second: BTreeMap<String, f64>,
    pub(super) ratios: BTreeMap<String, f64>,
    pub(super) details: BTreeMap<String, Value>,
}

impl EngineBench {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if self.memory {
            let folder = self.peers_dir.join("models/model");
            println!("{}", memory(&folder, &forced(&self.inputs()?, self.beams))?);
            return Ok(());
        }
        let mut report = Report::default();
        report
            .details
            .insert("instructions".into(), json!(Isa::detect().name()));
        if (self.peers || self.own) && !self.arrivals_only {
            self.comparison(&mut report)?;
        }
        if !self.arrivals_only {
            shortcuts::measure(self.rounds, &mut report)?;
        }
        if self.arrivals || self.arrivals_only {
            let source = match self.peers || self.own {
                true => ModelSource::Path(self.peers_dir.join("models/model")),
                false => ModelSource::Embedded,
            };
            arrivals::measure(&source, self.rows, self.rounds, &mut report)?;
        }
        for (name, value) in &report.cpu_ms {
            println!("{name:32} {value:10.2} ms of processor time a summary");
        }
        for (name, value) in &report.per_second {
            println!("{name:32} {value:10.2} summaries a second");
        }
        for (name, value) in &report.ratios {
            println!("{name:44} {value:7.2}");
        }
        if self.json {
            println!("{}", serde_json::to_string(&report)?);
        }
        Ok(())
    }

    /// The same texts and the same number of tokens for everyone, in turns.
    fn comparison(&self, report: &mut Report) -> anyhow::Result<()> {
        let models = self.peers_dir.join("models");
        let mut ids = self.inputs()?;
        ids.truncate(self.texts);
        let folder = models.join("model");
        let requests = forced(&ids, self.beams);
        let mut engines = Vec::new();
        for threads in [1, 2] {
            for precision in self.precisions.iter().copied() {
                let name = format!("precis-{}", name_of(precision));
                engines.push((
                    name,
                    threads,
                    load(&folder, precision, threads, Drafting::Adaptive)?,
                ));
            }
        }
        let mut peers = match self.peers {
            true => Some(Peers::start(&self.peers_dir, &self.peers_script)?),
            false => None,
        };
        // The seed's way is slow: fewer texts tell as much.
        let few = &ids[..ids.len().min(2)];
        let orders = [
            ("ctranslate2-int8", 1, &ids[..], ids.len()),
            ("ctranslate2-f32", 1, &ids[..], ids.len()),
            ("onnxruntime-int8", 1, &ids[..ids.len().min(8)], 8),
            ("transformers-f32", 1, few, 1),
            ("ctranslate2-int8", 2, &ids[..], ids.len().div_ceil(2)),
            // Its other way to use two threads: both on every product.
            ("ctranslate2-int8-intra", 2, &ids[..], ids.len()),
        ];
        let mut spent: BTreeMap<(String, usize), Vec<(Spent, usize)>> = BTreeMap::new();
        for round in 0..=self.rounds {
            for (name, threads, engine) in &engines {
                let (results, time) = time(|| engine.generate_batch(&requests, &mut ()));
                for result in results {
                    let tokens = result?.ids.len();
                    anyhow::ensure!(tokens == NEW_TOKENS, "{tokens} tokens and not {NEW_TOKENS}");
                }
                note(&mut spent, name, *threads, round, (time, ids.len()));
            }
            for (peer, threads, ids, batch) in orders {
                let Some(peers) = &mut peers else { break };
                let order = Order {
                    peer,
                    threads,
                    ids,
                    beams: self.beams,
                    batch,
                    new_tokens: NEW_TOKENS,
                };
                match peers.run(order) {
                    Ok(time) => note(&mut spent, peer, threads, round, (time, ids.len())),
                    Err(error) if round == 0 => eprintln!("not measured: {error}"),
                    Err(_) => {}
                }
            }
        }
        for ((name, threads), rounds) in &spent {
            let each = |of: fn(&Spent) -> f64| {
                median(
                    rounds
                        .iter()
                        .map(|(spent, texts)| of(spent) / *texts as f64)
                        .collect(),
                )
            };
            if *threads == 1 {
                report.cpu_ms.insert(name.clone(), 1e3 * each(|spent| spent.cpu));
            }
            report.per_second.insert(
                format!("{name} ({threads} threads)"),
                1.0 / each(|spent| spent.wall),
            );
        }
        ratios_of_peers(report);
        if let Some(peak) = peak(Precision::Int8)
            && let Some(ms) = report.cpu_ms.get("precis-int8")
        {
            let work: f64 = ids
                .iter()
                .map(|ids| operations(ids.len(), self.beams))
                .sum::<f64>()
                / ids.len() as f64;
            report
                .ratios
                .insert("int8_peak_share".into(), work / (ms / 1e3) / peak);
            report.details.insert("int8_peak_gops".into(), json!(peak / 1e9));
        }
        report.details.insert(
            "comparison".into(),
            json!({"texts": ids.len(), "beams": self.beams, "mean_length": self.length, "new_tokens": NEW_TOKENS, "rounds": self.rounds}),
        );
        // A process that has run other engines has memory left over from them.
        let output = std::process::Command::new(std::env::current_exe()?)
            .args([
                "bench",
                "engine",
                "--memory",
                "--length",
                &self.length.to_string(),
            ])
            .args(["--beams", &self.beams.to_string(), "--peers-dir"])
            .arg(&self.peers_dir)
            .env(RETURN_MEMORY_ENV.0, RETURN_MEMORY_ENV.1)
            .output()?;
        if let Ok(memory) = serde_json::from_slice::<Value>(&output.stdout) {
            report.details.insert("int8_memory_mb".into(), memory);
        }
        Ok(())
    }

    /// The texts of the comparison.
    fn inputs(&self) -> anyhow::Result<Vec<Vec<u32>>> {
        let path = self.peers_dir.join(format!("models/inputs-{}.json", self.length));
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(serde_json::from_str(&text)?)
    }
}

/// The first round warms up.
fn note(
    spent: &mut BTreeMap<(String, usize), Vec<(Spent, usize)>>,
    name: &str,
    threads: usize,
    round: usize,
    time: (Spent, usize),
) {
    if round > 0 {
        spent.entry((name.to_owned(), threads)).or_default().push(time);
    }
}

fn ratios_of_peers(report: &mut Report) {
    let ratio = |ours: &str, theirs: &str| Some(report.cpu_ms.get(theirs)? / report.cpu_ms.get(ours)?);
    let pairs = [
        ("int8_vs_ctranslate2_int8", "precis-int8", "ctranslate2-int8"),
        ("bf16_vs_ctranslate2_int8", "precis-bf16", "ctranslate2-int8"),
        ("f32_vs_ctranslate2_f32", "precis-f32", "ctranslate2-f32"),
        ("int8_vs_onnxruntime_int8", "precis-int8", "onnxruntime-int8"),
        (
            "int8_vs_transformers_f32_single",
            "precis-int8",
            "transformers-f32",
        ),
    ];
    let found: Vec<(&str, f64)> = pairs
        .into_iter()
        .filter_map(|(name, ours, theirs)| Some((name, ratio(ours, theirs)?)))
        .collect();
    report
        .ratios
        .extend(found.into_iter().map(|(name, value)| (name.to_owned(), value)));
    let by_threads = |name: &str| {
        let at = |threads: usize| report.per_second.get(&format!("{name} ({threads} threads)"));
        Some(at(2)? / at(1)?)
    };
    if let Some(ratio) = by_threads("precis-int8") {
        report.ratios.insert("int8_two_threads_vs_one".into(), ratio);
    }
    let two = |name: &str| report.per_second.get(&format!("{name} (2 threads)")).copied();
    // Its better setting.
    let theirs = [two("ctranslate2-int8"), two("ctranslate2-int8-intra")];
    let theirs = theirs.into_iter().flatten().max_by(f64::total_cmp);
    if let (Some(ours), Some(theirs)) = (two("precis-int8"), theirs) {
        let ratio = ours / theirs;
        report
            .ratios
            .insert("int8_vs_ctranslate2_int8_two_threads".into(), ratio);
    }
}

fn name_of(precision: PrecisionChoice) -> &'static str {
    match precision {
        PrecisionChoice::Auto => "auto",
        PrecisionChoice::F32 => "f32",
        PrecisionChoice::Bf16 => "bf16",
        PrecisionChoice::F16 => "f16",
        PrecisionChoice::Int8 => "int8",
    }
}

fn load(
    folder: &Path,
    precision: PrecisionChoice,
    threads: usize,
    drafting: Drafting,
) -> anyhow::Result<Engine> {
    let options = options(precision, threads, drafting)?;
    Ok(Engine::load(&ModelSource::Path(folder.to_owned()), &options)?)
}

/// Nothing is kept from one round to the next, and equal texts are computed as often as they are asked for.
pub(super) fn options(
    precision: PrecisionChoice,
    threads: usize,
    drafting: Drafting,
) -> anyhow::Result<EngineOptions> {
    Ok(EngineOptions {
        device: "cpu".parse()?,
        precision,
        threads,
        drafting,
        text_bytes: 0,
        share_equal_requests: false,
        ..EngineOptions::default()
    })
}

pub(super) fn encoded(ids: &[u32]) -> Encoded {
    Encoded {
        ids: ids.to_vec(),
        tokens: ids.len(),
        truncated_tokens: 0,
    }
}

/// Requests for exactly [`NEW_TOKENS`] tokens.
fn forced(ids: &[Vec<u32>], beams: usize) -> Vec<GenerateRequest> {
    let params = GenerationParams {
        num_beams: beams,
        min_new_tokens: NEW_TOKENS,
        max_new_tokens: NEW_TOKENS,
        ..GenerationParams::default()
    };
    ids.iter()
        .map(|ids| GenerateRequest::new(encoded(ids), params.clone()))
        .collect()
}

/// Operations of a product per second and core, at most.
fn peak(precision: Precision) -> Option<f64> {
    let rates = (0..7).map(|_| {
        let (operations, spent) = time(|| operations_at_peak(Isa::detect(), precision, 4_000_000));
        operations.map(|operations| operations / spent.cpu)
    });
    rates.collect::<Option<Vec<f64>>>().map(median)
}

/// Multiplications and additions of matrix products for one summary of a t5-small.
fn operations(tokens: usize, beams: usize) -> f64 {
    let (layers, model, inner, wide, vocabulary) = (6.0, 512.0, 512.0, 2048.0, 32128.0);
    let (tokens, rows) = (tokens as f64, (beams * NEW_TOKENS) as f64);
    let attention = 4.0 * model * inner;
    let feed_forward = 2.0 * model * wide;
    let encoder = tokens * (attention + feed_forward + 2.0 * tokens * inner);
    let cross = tokens * 2.0 * model * inner;
    let steps = NEW_TOKENS as f64 / 2.0;
    let decoder = rows * (attention + 2.0 * model * inner + feed_forward + 2.0 * inner * (tokens + steps));
    2.0 * (layers * (encoder + cross + decoder) + rows * model * vocabulary)
}

/// Resident memory of a process of its own that has 32 requests in hand, beyond what it had before the model.
#[allow(clippy::disallowed_methods)] // no executor here
fn memory(folder: &Path, requests: &[GenerateRequest]) -> anyhow::Result<Value> {
    let before = resident_megabytes().context("no resident memory to be read here")?;
    let engine = load(folder, PrecisionChoice::Int8, 2, Drafting::Adaptive)?;
    let loaded = resident_megabytes().unwrap_or(f64::NAN);
    let many: Vec<GenerateRequest> = requests.iter().cycle().take(32).cloned().collect();
    let mut most = 0f64;
    std::thread::scope(|scope| {
        let work = scope.spawn(|| engine.generate_batch(&many, &mut ()).len());
        while !work.is_finished() {
            most = most.max(resident_megabytes().unwrap_or(0.0));
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    });
    Ok(json!({"model": loaded - before, "with_32_requests": most - before}))
}
