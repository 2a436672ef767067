//! Cost of scoring a summary (signals, ROUGE and BLEU as in the monitor), compared with the Python packages
//! `rouge-score` and `sacrebleu`, whose scores are equal.
//!
//! `cargo bench -p precis-scoring --bench scores [-- --json] [-- --python PATH]`. The interpreter (`python3` by
//! default) needs `pip install rouge-score sacrebleu`; without them only this crate is measured. Times are CPU times of
//! one thread, medians over rounds taken in turns.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use precis_scoring::{Rouge, bleu, signals};
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;

const ROUNDS: usize = 7;
const ARTICLES: &str = include_str!("../../../samples/articles.jsonl");
/// The Python peer: each input line requests a round, answered with the seconds of each package.
const PEERS: &str = r#"
import json, sys, time
from rouge_score import rouge_scorer
from sacrebleu.metrics import BLEU
pairs = json.loads(sys.stdin.readline())
kinds = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
plain = rouge_scorer.RougeScorer(kinds)
stemmed = rouge_scorer.RougeScorer(kinds, use_stemmer=True)
bleu = BLEU()
def seconds(work):
    begin = time.process_time()
    for reference, summary in pairs:
        work(reference, summary)
    return (time.process_time() - begin) / len(pairs)
print("ready", flush=True)
for _ in sys.stdin:
    print(json.dumps({
        "rouge": seconds(plain.score),
        "rouge, stemmed": seconds(stemmed.score),
        "bleu": seconds(lambda reference, summary: bleu.corpus_score([summary], [[reference]])),
    }), flush=True)
"#;

struct Sample {
    article: String,
    reference: String,
    summary: String,
}

fn samples() -> Vec<Sample> {
    let text = |line: &Value, field: &str| line[field].as_str().unwrap_or_default().to_owned();
    let sample = |line: &str| {
        let line: Value =
            serde_json::from_str(line).expect("samples/articles.jsonl has an object on each line");
        let article = text(&line, "article");
        Sample {
            reference: text(&line, "reference"),
            // The quality of a summary does not affect the cost of scoring it.
            summary: article.split_inclusive(". ").skip(1).take(2).collect(),
            article,
        }
    };
    ARTICLES.lines().map(sample).collect()
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Returns the seconds per sample.
fn seconds(samples: &[Sample], mut work: impl FnMut(&Sample)) -> f64 {
    let begin = cpu_time();
    let mut calls = 0;
    while cpu_time() - begin < Duration::from_millis(50) {
        samples.iter().for_each(&mut work);
        calls += samples.len();
    }
    (cpu_time() - begin).as_secs_f64() / calls as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A Python process that measures on request.
struct Peers {
    process: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peers {
    fn start(python: &str, samples: &[Sample]) -> Option<Self> {
        let mut process = Command::new(python)
            .args(["-c", PEERS])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut peers = Self {
            asks: process.stdin.take()?,
            answers: BufReader::new(process.stdout.take()?),
            process,
        };
        let pairs: Vec<[&str; 2]> = samples
            .iter()
            .map(|sample| [sample.reference.as_str(), sample.summary.as_str()])
            .collect();
        let pairs = serde_json::to_string(&pairs).ok()?;
        (peers.ask(&pairs)? == "ready").then_some(peers)
    }

    fn ask(&mut self, line: &str) -> Option<String> {
        writeln!(self.asks, "{line}").ok()?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer).ok()?;
        Some(answer.trim().to_owned())
    }

    fn round(&mut self) -> BTreeMap<String, f64> {
        let answer = self.ask("").unwrap_or_default();
        serde_json::from_str(&answer).expect("Python measures a round")
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        // It may have exited already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    // `cargo test` also runs this binary, without `--bench`. Measure nothing then.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let named = arguments.iter().position(|argument| argument == "--python");
    let python = named
        .and_then(|at| arguments.get(at + 1))
        .map_or("python3", String::as_str);
    let samples = samples();
    let (plain, stemmed) = (Rouge::new(false), Rouge::new(true));
    let mut peers = Peers::start(python, &samples);
    if peers.is_none() {
        eprintln!("{python} has no rouge-score and sacrebleu: they are not measured");
    }
    let mut ours: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut theirs: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for _ in 0..ROUNDS {
        let mut measured =
            |name, work: &dyn Fn(&Sample)| ours.entry(name).or_default().push(seconds(&samples, work));
        measured("signals", &|one| {
            black_box(signals(&one.article, &one.summary));
        });
        measured("rouge", &|one| {
            black_box(plain.score(&one.reference, &one.summary));
        });
        measured("rouge, stemmed", &|one| {
            black_box(stemmed.score(&one.reference, &one.summary));
        });
        measured("bleu", &|one| {
            black_box(bleu(&one.reference, &one.summary));
        });
        for (name, spent) in peers.as_mut().map(Peers::round).unwrap_or_default() {
            theirs.entry(name).or_default().push(spent);
        }
    }
    let mut report = serde_json::Map::new();
    println!(
        "{:16} {:>10} {:>12} {:>8}",
        "", "ours, µs", "Python's, µs", "ratio"
    );
    for (name, spent) in ours {
        let our = 1e6 * median(spent);
        let their = theirs.remove(name).map(|spent| 1e6 * median(spent));
        match their {
            Some(their) => println!("{name:16} {our:10.1} {their:12.1} {:8.1}", their / our),
            None => println!("{name:16} {our:10.1} {:>12} {:>8}", "-", "-"),
        }
        report.insert(
            name.to_owned(),
            serde_json::json!({ "ours_us": our, "python_us": their }),
        );
    }
    if arguments.iter().any(|argument| argument == "--json") {
        println!("{}", Value::Object(report));
    }
}
