//! `precis bench quality`: what less exact numbers change in summaries, and what reading long texts in parts does for them,
//! by ROUGE against references written by people.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use precis_engine::{
    DeviceChoice, Engine, EngineOptions, GenerateRequest, Generated, GenerationParams, ModelSource,
    PrecisionChoice, RowError,
};
use precis_scoring::Rouge;
use precis_scoring::sentence::{Rules, sentence_ranges};
use precis_worker::stages::long_text::{LongText, map_reduce};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::clock::time;

const ARTICLES: &str = include_str!("../../../../samples/articles.jsonl");
/// Texts that are made of each article where there are no others.
const TEXTS_OF_AN_ARTICLE: usize = 13;
/// Articles that make a long text.
const ARTICLES_OF_A_LONG_TEXT: usize = 3;

/// What `precis bench quality` measures.
#[derive(Debug, Args)]
pub(crate) struct QualityBench {
    /// The model: `embedded`, a folder, or `hub:owner/name@revision`
    #[arg(long, default_value = "embedded")]
    model: ModelSource,
    /// Texts with references, one JSON object with `article` and `reference` in a line; else parts of the sample articles
    #[arg(long, value_name = "FILE")]
    texts: Option<PathBuf>,
    /// Where the less exact numbers are computed: cpu, cuda or metal; f32 on the CPU is what they are compared with
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
    /// Beams
    #[arg(long, default_value_t = 4)]
    beams: usize,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Deserialize)]
struct Text {
    article: String,
    reference: String,
}

/// How good the summaries of one way are. Everything in points of 100.
#[derive(Debug, Serialize)]
struct Row {
    way: String,
    rouge1: f64,
    rouge2: f64,
    rouge_l: f64,
    /// ROUGE-L minus that of the first way.
    difference: f64,
    /// Half of the 95 % interval of that difference, over texts.
    plus_minus: f64,
    /// Summaries that are those of the first way, to the token.
    same: f64,
    /// Tokens that stand in their place in the first way's summary.
    same_tokens: f64,
    /// Summaries by the clock on the wall, with all threads. Not in points.
    per_second: f64,
}

/// Summaries of one way, and how many of them were made in a second.
struct Way {
    name: String,
    generated: Vec<Generated>,
    per_second: f64,
}

impl QualityBench {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let articles = self.articles()?;
        let texts = match self.texts {
            Some(_) => articles.clone(),
            None => parts_of(&articles),
        };
        let precisions = self.precisions(&texts)?;
        print("precision", texts.len(), &precisions);
        let long = long_texts(&articles);
        let ways = self.long(&long)?;
        print("long texts", long.len(), &ways);
        if self.json {
            let report = json!({
                "model": self.model.to_string(), "beams": self.beams,
                "precision": {"texts": texts.len(), "ways": precisions},
                "long_texts": {"texts": long.len(), "articles_each": ARTICLES_OF_A_LONG_TEXT, "ways": ways},
            });
            println!("{report}");
        }
        Ok(())
    }

    fn articles(&self) -> anyhow::Result<Vec<Text>> {
        let lines = match &self.texts {
            Some(path) => read(path)?,
            None => ARTICLES.to_owned(),
        };
        let texts: Result<Vec<Text>, _> = lines.lines().map(serde_json::from_str).collect();
        texts.context("texts are JSON objects with `article` and `reference`, one in a line")
    }

    fn load(&self, device: DeviceChoice, precision: PrecisionChoice) -> anyhow::Result<Engine> {
        let options = EngineOptions {
            device,
            precision,
            ..EngineOptions::default()
        };
        Ok(Engine::load(&self.model, &options)?)
    }

    fn params(&self, engine: &Engine) -> GenerationParams {
        GenerationParams {
            num_beams: self.beams,
            do_sample: false,
            ..engine.default_params().clone()
        }
    }

    /// The same texts in every precision.
    fn precisions(&self, texts: &[Text]) -> anyhow::Result<Vec<Row>> {
        let others = match self.device {
            DeviceChoice::Cpu => [PrecisionChoice::Bf16, PrecisionChoice::Int8],
            _ => [PrecisionChoice::F32, PrecisionChoice::Auto],
        };
        let mut ways = Vec::new();
        let first = (DeviceChoice::Cpu, PrecisionChoice::F32);
        for (device, precision) in [first]
            .into_iter()
            .chain(others.map(|other| (self.device, other)))
        {
            let engine = self.load(device, precision)?;
            let params = self.params(&engine);
            let requests = texts
                .iter()
                .map(|text| {
                    Ok(GenerateRequest::new(
                        engine.tokenize(&text.article)?,
                        params.clone(),
                    ))
                })
                .collect::<anyhow::Result<Vec<_>>>()?;
            let (generated, spent) = time(|| engine.generate_batch(&requests, &mut ()));
            ways.push(Way {
                name: format!("{} {}", engine.info().device, engine.info().precision),
                generated: generated.into_iter().collect::<Result<_, _>>()?,
                per_second: texts.len() as f64 / spent.wall,
            });
        }
        Ok(rows(texts, &ways))
    }

    /// Texts that are longer than the model reads, cut and in parts.
    fn long(&self, texts: &[Text]) -> anyhow::Result<Vec<Row>> {
        let engine = Arc::new(self.load(DeviceChoice::Cpu, PrecisionChoice::F32)?);
        let params = self.params(&engine);
        let cut = texts.iter().map(|text| engine.tokenize(&text.article));
        let cut = cut.collect::<Result<Vec<_>, _>>()?;
        anyhow::ensure!(
            cut.iter().all(|text| text.truncated_tokens > 0),
            "a text that is not long"
        );
        let (truncated, spent) = time(|| {
            let summaries = cut.into_iter().map(|encoded| {
                let request = GenerateRequest::new(encoded, params.clone());
                engine.submit(&request)?.wait()
            });
            summaries.collect::<Result<Vec<_>, _>>()
        });
        let per_second = texts.len() as f64 / spent.wall;
        let truncated = Way {
            name: "truncate".to_owned(),
            generated: truncated?,
            per_second,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().build()?;
        let (reduced, spent) = time(|| {
            let summaries = texts.iter().map(|text| {
                let long = LongText {
                    text: text.article.clone(),
                    params: params.clone(),
                    stop: None,
                    keep: Arc::new(|text| text.trim().to_owned()),
                };
                let (told, _nobody) = tokio::sync::mpsc::channel(1);
                let (generated, _) = runtime.block_on(map_reduce(&engine, long, &told))?;
                Ok::<Generated, RowError>(*generated)
            });
            summaries.collect::<Result<Vec<_>, _>>()
        });
        let per_second = texts.len() as f64 / spent.wall;
        let reduced = Way {
            name: "map_reduce".to_owned(),
            generated: reduced?,
            per_second,
        };
        Ok(rows(texts, &[truncated, reduced]))
    }
}

#[allow(clippy::disallowed_methods)] // no executor here
fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// Parts of each article: they begin at one of its first sentences, and end at one of its last. The reference stays that
/// of the whole, so that scores are lower than those of whole articles: what counts is their difference between ways.
fn parts_of(articles: &[Text]) -> Vec<Text> {
    let part = |text: &Text, sentences: &[Range<usize>], index: usize| {
        let first = (index % 4).min(sentences.len() - 1);
        let last = sentences.len().saturating_sub(1 + index / 4 * 2).max(first);
        Text {
            article: text.article[sentences[first].start..sentences[last].end].to_owned(),
            reference: text.reference.clone(),
        }
    };
    let mut parts = Vec::new();
    for text in articles {
        let sentences = sentence_ranges(&text.article, Rules::Extended);
        let made = (0..TEXTS_OF_AN_ARTICLE).map(|index| part(text, &sentences, index));
        parts.extend(made);
    }
    parts
}

/// Neighbouring articles one after the other, with their references one after the other.
fn long_texts(articles: &[Text]) -> Vec<Text> {
    let joined = |texts: &[&Text], of: fn(&Text) -> &str| {
        let parts: Vec<&str> = texts.iter().map(|text| of(text)).collect();
        parts.join("\n\n")
    };
    (0..articles.len())
        .map(|first| {
            let texts: Vec<&Text> = articles
                .iter()
                .cycle()
                .skip(first)
                .take(ARTICLES_OF_A_LONG_TEXT)
                .collect();
            Text {
                article: joined(&texts, |text| &text.article),
                reference: joined(&texts, |text| &text.reference),
            }
        })
        .collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn rows(texts: &[Text], ways: &[Way]) -> Vec<Row> {
    let rouge = Rouge::new(true);
    let base = &ways[0].generated;
    let mut base_scores = Vec::new();
    let mut rows = Vec::new();
    for Way {
        name,
        generated,
        per_second,
    } in ways
    {
        let scores: Vec<_> = texts
            .iter()
            .zip(generated)
            .map(|(text, generated)| rouge.score(&text.reference, &generated.text))
            .collect();
        let of =
            |pick: &dyn Fn(usize) -> f64| (0..texts.len()).map(|i| 100.0 * pick(i)).collect::<Vec<f64>>();
        let rouge_l = of(&|i| scores[i].rouge_l.fmeasure);
        if base_scores.is_empty() {
            base_scores.clone_from(&rouge_l);
        }
        let differences: Vec<f64> = rouge_l.iter().zip(&base_scores).map(|(a, b)| a - b).collect();
        let difference = mean(&differences);
        let squares: Vec<f64> = differences
            .iter()
            .map(|each| (each - difference).powi(2))
            .collect();
        let same = of(&|i| f64::from(u8::from(generated[i].ids == base[i].ids)));
        let same_tokens = of(&|i| {
            let (own, other) = (&generated[i].ids, &base[i].ids);
            let same = own.iter().zip(other).filter(|(a, b)| a == b).count();
            same as f64 / own.len().max(other.len()).max(1) as f64
        });
        rows.push(Row {
            way: name.clone(),
            rouge1: mean(&of(&|i| scores[i].rouge1.fmeasure)),
            rouge2: mean(&of(&|i| scores[i].rouge2.fmeasure)),
            rouge_l: mean(&rouge_l),
            difference,
            plus_minus: 1.96 * (mean(&squares) / texts.len().max(1) as f64).sqrt(),
            same: mean(&same),
            same_tokens: mean(&same_tokens),
            per_second: *per_second,
        });
    }
    rows
}

fn print(what: &str, texts: usize, rows: &[Row]) {
    println!(
        "{what}, {texts} texts    ROUGE-1  ROUGE-2  ROUGE-L  difference (95 %)   same summaries  same tokens  summaries/s"
    );
    for row in rows {
        println!(
            "  {:12} {:16.2} {:8.2} {:8.2}   {:+6.2} ± {:4.2}      {:8.1} % {:10.1} % {:12.1}",
            row.way,
            row.rouge1,
            row.rouge2,
            row.rouge_l,
            row.difference,
            row.plus_minus,
            row.same,
            row.same_tokens,
            row.per_second
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_samples_make_more_than_200_texts_and_long_ones_are_long() {
        let articles: Vec<Text> = ARTICLES
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let parts = parts_of(&articles);
        assert!(parts.len() >= 200);
        let mut different: Vec<&str> = parts.iter().map(|part| part.article.as_str()).collect();
        different.sort_unstable();
        different.dedup();
        assert!(different.len() >= 190, "{}", different.len());
        assert_eq!(long_texts(&articles).len(), articles.len());
    }
}
