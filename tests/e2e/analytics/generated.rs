//! Generated predictions and their rows.

use jiff::Timestamp;
use precis_tests::Product;
use serde_json::{Value, json};

/// Days over which the predictions are spread.
pub(super) const DAYS: i64 = 3;
/// Stages, in the order of [`Prediction::stages`].
pub(super) const STAGES: [&str; 7] = [
    "queue",
    "batch_wait",
    "tokenize",
    "encode",
    "decode",
    "publish",
    "end_to_end",
];
/// Scores, in the order of [`Prediction::scores`].
pub(super) const SCORES: [&str; 5] = ["rouge1", "rouge2", "rougeL", "rougeLsum", "bleu"];
const TABLE: &str = "prediction_versions";

/// SplitMix64.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn share(&mut self) -> f64 {
        self.below(1 << 20) as f64 / f64::from(1 << 20)
    }

    pub(super) fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len() as u64) as usize]
    }
}

#[derive(Clone)]
pub(super) struct Prediction {
    pub(super) id: String,
    pub(super) at: i64,
    pub(super) model: &'static str,
    pub(super) channel: &'static str,
    pub(super) tenant: &'static str,
    pub(super) error: &'static str,
    pub(super) attempt: u64,
    pub(super) stages: [f64; 7],
    pub(super) text: [u64; 3],
    pub(super) summary: [u64; 2],
    pub(super) reference_chars: u64,
    pub(super) signals: Option<[f64; 4]>,
    pub(super) flags: [bool; 2],
    /// In the order of [`SCORES`].
    pub(super) scores: Option<[f64; 5]>,
}

impl Prediction {
    pub(super) fn at_random(index: usize, begin: i64, random: &mut Random) -> Self {
        let failed = random.below(40) == 0;
        let model = random.pick(&["small", "large"]);
        let scored = !failed && random.below(3) == 0;
        // Long tails, as latencies have.
        let stages = std::array::from_fn(|_| (random.share() * 9.0).exp().round() / 8.0);
        Self {
            id: format!("job-{index}"),
            // In every second minute, to limit the number of rollups.
            at: begin + (random.below(DAYS as u64 * 720) * 120_000 + random.below(60_000)) as i64,
            model,
            channel: random.pick(&["api", "local", "batch"]),
            tenant: random.pick(&["public", "acme"]),
            error: if failed {
                random.pick(&["inference_failed", "deadline_exceeded"])
            } else {
                ""
            },
            attempt: 1 + random.below(20) / 19,
            stages,
            text: [
                200 + random.below(5_000),
                50 + random.below(450),
                random.below(100),
            ],
            summary: if failed {
                [0, 0]
            } else {
                [20 + random.below(300), 5 + random.below(60)]
            },
            reference_chars: if scored { 30 + random.below(300) } else { 0 },
            signals: (!failed).then(|| std::array::from_fn(|_| random.below(65) as f64 / 64.0)),
            flags: [!failed && random.below(50) == 0, !failed && random.below(20) == 0],
            scores: scored.then(|| {
                let mut scores = std::array::from_fn(|_| random.below(10_001) as f64 / 10_000.0);
                scores[4] *= 100.0;
                scores
            }),
        }
    }

    pub(super) fn outcome(&self) -> &'static str {
        if self.error.is_empty() {
            "succeeded"
        } else {
            "failed"
        }
    }

    /// Returns the row. `with_reference` is false for the version before a late reference.
    fn row(&self, version: u64, with_reference: bool) -> Value {
        let time = Timestamp::from_millisecond(self.at).unwrap();
        let mut row = json!({
            "job_id": self.id, "version": version, "finished_at": time.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
            "submitted_at": time.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(), "model": self.model, "revision": "r1",
            "channel": self.channel, "tenant": self.tenant, "lane": "normal", "task": "summarize",
            "outcome": self.outcome(), "error_code": self.error, "attempt": self.attempt,
            "text_chars": self.text[0], "text_tokens": self.text[1], "truncated_tokens": self.text[2],
            "summary_chars": self.summary[0], "summary_tokens": self.summary[1], "summary": "A summary.",
        });
        let columns = row.as_object_mut().unwrap();
        for (stage, ms) in STAGES.iter().zip(self.stages) {
            columns.insert(format!("{stage}_ms"), json!(ms));
        }
        if let Some([coverage, density, novel, repetition]) = self.signals {
            columns.extend([
                ("coverage".into(), json!(coverage)),
                ("density".into(), json!(density)),
                ("novel_bigrams".into(), json!(novel)),
                ("repetition_rate".into(), json!(repetition)),
                ("is_empty".into(), json!(self.flags[0])),
                ("is_truncated".into(), json!(self.flags[1])),
            ]);
        }
        if with_reference {
            columns.insert("reference_chars".into(), json!(self.reference_chars));
            for (name, score) in SCORES.iter().zip(self.scores.unwrap_or_default()) {
                if self.scores.is_some() {
                    columns.insert((*name).to_owned(), json!(score));
                }
            }
        }
        row
    }
}

/// Stores all predictions: some with a late reference, some twice, as after a crash.
pub(super) async fn store(product: &Product, all: &[Prediction]) {
    for (block, predictions) in all.chunks(5_000).enumerate() {
        let is_late = |one: &&Prediction| one.scores.is_some() && one.id.ends_with('7');
        let rows: Vec<Value> = predictions.iter().map(|one| one.row(0, !is_late(&one))).collect();
        product.insert(TABLE, &rows).await;
        let late: Vec<Value> = predictions
            .iter()
            .filter(is_late)
            .map(|one| one.row(1_000, true))
            .collect();
        product.insert(TABLE, &late).await;
        if block % 7 == 0 {
            product.insert(TABLE, &rows[..1_000]).await;
        }
    }
}
